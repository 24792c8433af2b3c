"""A folder of results and what was given beside it, and whether its files belong together."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from tyro.conf import Positional

from rddrs_dist import checkpoints, data
from rddrs_dist.data.sets import parse_indices
from rddrs_dist.results import files
from rddrs_dist.results.columns import (
    DISJOINT_SCHEMA,
    SCHEMA,
    SCHEMA_VERSION,
    canonical_json,
    read_metadata,
)
from rddrs_dist.results.disjoint import DISJOINT
from rddrs_dist.run.experiment import Experiment
from rddrs_dist.smoothing.precision import checked
from rddrs_dist.verify.findings import Checked, Finding, Missing, Row, at, odd, unless, wrong
from rddrs_dist.verify.scales import Axes, Key, Stored, key_of
from rddrs_dist.version import __version__

MOST_IMAGES = 10**8  # more would be a damaged configuration, not a data set
_IN_METADATA = ("code_version", "weights_sha256", "data_sha256")
# What version 0.7.0 called otherwise.
_FORMER = {"looks": "sequential_tests", "levels": "quantisation"}


@dataclass(frozen=True)
class Verify:
    """Check a finished run with code that shares nothing with what made it.

    Attributes:
        dir: Folder given to `rddrs certify` as --out.
        checkpoint: The network that was certified; --resample wants it.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        resample: Rows to draw again, from the streams of the run and from fresh ones; wants
            stored scales (--save-scales).
        tables: Tables that `rddrs curves` made of this run alone (table.md or table.csv), whose
            numbers are then computed anew.
        pairs: After `rddrs disjoint`: pairs of regions of each method that a hyperplane is sought
            for, of those that neither distance nor a stored hyperplane tells apart.
        seed: Chooses the rows to draw again, these pairs and the fresh streams.
    """

    dir: Positional[Path]
    checkpoint: Path | None = None
    data_root: Path | None = None
    resample: int = 0
    tables: tuple[Path, ...] = ()
    pairs: int = 2000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Table:
    """A Parquet file.

    Attributes:
        path: Where it is.
        metadata: Our own entries in the metadata of the file.
        rows: Its rows; none where it cannot be read or has other columns.
        findings: Why it has none.
    """

    path: Path
    metadata: Mapping[str, str]
    rows: Sequence[Row]
    findings: tuple[Finding, ...] = ()

    @property
    def described(self) -> dict[str, Any] | str:
        """What a manifest says of it, or why nothing can be said."""
        try:
            return files.describe(self.path)
        except (pa.ArrowException, OSError, ValueError) as error:
            return files.reason(error)

    @classmethod
    def read(cls, path: Path, schema: pa.Schema) -> "Table":
        """Reads it whole, with the checksums of its pages, and looks at its columns."""
        try:
            table = files.read_table(path)
            table.validate(full=True)
            metadata, rows = read_metadata(table.schema), table.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            return cls(path, {}, (), (wrong("a whole Parquet file", files.reason(error)),))
        version = metadata.get("schema_version", str(SCHEMA_VERSION))
        others = {*map(str, schema)} ^ {*map(str, table.schema)}
        if version != str(SCHEMA_VERSION):
            fault = wrong(f"schema version {SCHEMA_VERSION}", version)
        elif others:
            fault = wrong("the columns of its version", ", ".join(sorted(others)))
        elif nulls := [one.name for one in schema if table[one.name].null_count and _filled(one)]:
            fault = wrong("a value in every row", f"null in {', '.join(nulls)}")
        else:
            return cls(path, metadata, rows)
        return cls(path, metadata, (), (fault,))


def _filled(field: pa.Field) -> bool:
    """Whether a column has no null; in some that may there is one in earlier versions alone."""
    return not field.nullable or field.name in ("capped_proxy_radius", "axes_beyond_domain")


@dataclass(frozen=True, eq=False)
class Case:
    """A folder and what there is to check it with; what is not there raises `Missing`.

    Attributes:
        options: What was asked for.
        parts: The parts by the number of their shard.
        recorded: Content of the configuration file, or what a part says in its place.
        faults: What is wrong with the configuration.
        experiment: The configuration; None where it cannot be read.
        rows: All rows that can be read, or those of them whose numbers are numbers.
    """

    options: Verify
    parts: Mapping[int, Table]
    recorded: Mapping[str, Any]
    faults: Sequence[Finding]
    experiment: Experiment | None
    rows: Sequence[Row]

    @classmethod
    def read(cls, options: Verify) -> "Case":
        """Reads a folder of results.

        Raises:
            FileNotFoundError: If there is nothing to check in it.
            ValueError: If another version wrote it, and this one cannot read its configuration.
        """
        path, faults = options.dir, []
        found = files.part_paths(path) if path.is_dir() else {}
        if not found:
            what = "it holds no part-*.parquet" if path.is_dir() else "no such folder"
            raise FileNotFoundError(f"no run in {path}: {what}; give the folder that was --out")
        parts = {shard: Table.read(file, SCHEMA) for shard, file in found.items()}
        try:
            recorded = dict(json.loads((path / files.CONFIG).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            faults.append(wrong("a readable configuration", files.reason(error)))
            recorded = dict(next(iter(parts.values())).metadata)
        try:
            if isinstance(recorded["config"], str):  # as a part has it
                recorded["config"] = json.loads(recorded["config"])
            experiment = _experiment(recorded["config"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            config = recorded.get("config")
            version = config.get("code_version") if isinstance(config, dict) else None
            if isinstance(version, str) and version != __version__:
                raise ValueError(
                    f"{path} was written by rddrs_dist {version}, whose configuration this "
                    f"version, {__version__}, cannot read: verify it with {version}"
                ) from error
            faults.append(wrong("a whole configuration", files.reason(error)))
            experiment = None
        rows = [row for part in parts.values() for row in part.rows]
        return cls(options, parts, recorded, faults, experiment, rows)

    @property
    def run(self) -> Experiment:
        """The configuration."""
        if self.experiment is None:
            raise Missing("the configuration cannot be read")
        return self.experiment

    @cached_property
    def run_id(self) -> str:
        """What the run must be called: 16 digits of the sha256 of its canonical configuration."""
        _ = self.run  # or there is none
        return hashlib.sha256(canonical_json(self.recorded["config"]).encode()).hexdigest()[:16]

    @property
    def tests(self) -> int:
        """How often a count was tested, each time at level alpha / tests."""
        return self.run.budget.sequential_tests

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Samples after which an image may have stopped: n / 2^k rounded up, the last n."""
        n = self.run.budget.n
        return tuple(math.ceil(Fraction(n, 2**k)) for k in reversed(range(self.tests)))

    @cached_property
    def by_key(self) -> Mapping[Key, Row]:
        """The rows by method and image."""
        return {key_of(row): row for row in self.rows}

    @cached_property
    def pass_table(self) -> Table:
        """The rows of a disjoint pass; none where none was made."""
        path = self.options.dir / DISJOINT
        return Table.read(path, DISJOINT_SCHEMA) if path.exists() else Table(path, {}, ())

    @cached_property
    def disjoint(self) -> Mapping[Key, Row]:
        """Those that the run has a row of too."""
        own = {key_of(row): row for row in self.pass_table.rows}
        return {key: own[key] for key in sorted(own.keys() & self.by_key.keys())}

    @lru_cache(2)  # noqa: B019
    def loaded(self, split: str) -> data.ImageSet:
        """A part of the data set of that name, be it that of the run or not."""
        root = self.options.data_root
        try:
            return data.load(self.run.dataset, split, root)
        except (ValueError, FileNotFoundError) as error:
            if root is not None and split == "test":
                raise
            raise Missing(files.reason(error)) from error

    @property
    def images(self) -> data.ImageSet:
        """The test images of the run."""
        if self.loaded("test").sha256 != self.run.data_sha256:
            raise Missing("the data set is another")
        return self.loaded("test")

    @property
    def training(self) -> data.ImageSet:
        """The training images of the run."""
        if self.loaded("train").sha256 != self.run.training_sha256:
            raise Missing("the training images are not those of the run")
        return self.loaded("train")

    @cached_property
    def given_network(self) -> checkpoints.Checkpoint:
        """The network that was given, be it that of the run or not."""
        if self.options.checkpoint is None:
            raise Missing("no --checkpoint given")
        return checkpoints.load(self.options.checkpoint)

    @property
    def network(self) -> checkpoints.Checkpoint:
        """The network of the run."""
        if self.given_network.sha256 != self.run.weights_sha256:
            raise Missing("the checkpoint is another")
        return self.given_network

    @cached_property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        try:
            return self.images.event_shape
        except Missing as why:
            if self.options.checkpoint is not None:
                return self.network.event_shape
            text = f"neither data nor checkpoint tell the size of an image ({why})"
            raise Missing(text) from None

    @cached_property
    def scales(self) -> Stored:
        """The certified scales."""
        stored = Stored(self.options.dir, self.event_shape)
        if not stored.files:
            raise Missing("no _scales-*.safetensors; rddrs certify --save-scales writes them")
        return stored

    @cached_property
    def axes(self) -> Mapping[Key, Axes]:
        """The axes of all rows with a usable scale."""
        by_squares = self.run.device == "cuda"
        return {
            key: Axes.of(scale, by_squares)
            for key in sorted(self.by_key.keys() & self.scales.keys())
            if (scale := self.scales.find(key)) is not None
        }


def _experiment(config: Mapping[str, Any]) -> Experiment:
    """A configuration, whatever its hyper-parameters, which no check wants."""
    named = {_FORMER.get(name, name): value for name, value in config.items()}
    run = Experiment.from_json(named | {"settings": {name: {} for name in config["methods"]}})
    _ = checked(run.precision), parse_indices(run.indices, MOST_IMAGES), canonical_json(config)
    if min(run.shard_size, run.quantisation or 1) < 1 or run.seed < 0:
        raise ValueError(
            "shard_size and quantisation must be at least 1 and seed at least 0, got "
            f"{run.shard_size}, {run.quantisation} and {run.seed}"
        )
    return run


def check_config(case: Case) -> Checked:
    """The configuration is whole, and the run is named after it."""
    findings = list(case.faults)
    if case.experiment is not None:
        wanted, found = case.run_id, case.recorded.get("run_id")
        named = f"run_id {wanted}, the hash of the configuration"
        findings += unless((found == wanted, named, found))
    if not case.faults:
        version = case.recorded.get("schema_version")
        wanted = f"schema version {SCHEMA_VERSION}"
        findings += unless((version == SCHEMA_VERSION, wanted, version))
    return "1 file", at(files.CONFIG, findings)


def check_parts(case: Case) -> Checked:
    """Every part can be read, has the right columns, and is of this run and its own shard."""
    config, findings = case.recorded["config"], []
    wanted = {"run_id": case.run_id, "config": canonical_json(config)}
    wanted |= {name: str(config.get(name)) for name in _IN_METADATA}
    for shard, part in case.parts.items():
        findings += at(part.path.name, _part_findings(part, shard, wanted))
    return f"{len(case.parts)} files", findings


def _part_findings(part: Table, shard: int, wanted: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with one part."""
    yield from part.findings
    if part.metadata:
        own = ((name, text, part.metadata.get(name)) for name, text in wanted.items())
        yield from unless(*((found == text, f"{name} {text}", found) for name, text, found in own))
    others = sorted({row["shard"] for row in part.rows} - {shard})
    yield from unless((not others, f"rows of shard {shard}", f"rows of {others}"))


def check_manifest(case: Case) -> Checked:
    """The manifest of a complete run has rows, size and hash of every part.

    Raises:
        Missing: If the run is not complete.
    """
    folder = case.options.dir
    if not (folder / files.SUCCESS).exists():
        unfinished = odd(f"{files.SUCCESS}, as a complete run has it", "none", str(folder))
        raise Missing("the run is not marked as complete, so no manifest is in force", unfinished)
    try:
        manifest = json.loads((folder / files.MANIFEST).read_bytes())
        listed = {entry["name"]: entry for entry in manifest["parts"]}
        named = [(key, manifest.get(key), case.recorded.get(key)) for key in ("run_id", "config")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return "0 files", [wrong("a manifest", files.reason(error), files.MANIFEST)]
    claims = ((found == wanted, f"{key} {wanted}", found) for key, found, wanted in named)
    findings = list(at(files.MANIFEST, unless(*claims)))
    there = {part.path.name: part.described for part in case.parts.values()}
    for name in sorted(listed.keys() | there.keys()):
        wanted, found = listed.get(name, "no such part"), there.get(name, "no such file")
        findings += at(name, unless((wanted == found, wanted, found)))
    return f"{len(listed)} files", findings

"""A folder of results and what was given beside it, and whether its files belong together."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from tyro.conf import Positional

from rddrs_dist import checkpoints, data
from rddrs_dist.results import columns, files
from rddrs_dist.results.disjoint import DISJOINT
from rddrs_dist.results.scales import NARROWED
from rddrs_dist.run.experiment import Experiment
from rddrs_dist.verify.findings import Checked, Finding, Key, Missing, Row, Severity, at, key_of
from rddrs_dist.verify.scales import Axes, Stored
from rddrs_dist.version import __version__

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
_VERSION = str(columns.SCHEMA_VERSION)
MOST_IMAGES = 10**8  # more would be a damaged configuration, not a data set
_IN_METADATA = ("code_version", "weights_sha256", "data_sha256")
# What version 0.7.0 had not.
_ABSENT = {"sight_samples": 0}


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
    """A Parquet file."""

    path: Path
    metadata: Mapping[str, str]  # our own entries
    rows: Sequence[Row]  # none where it cannot be read or has other columns
    findings: Sequence[Finding] = ()  # why it has none
    version: str = _VERSION  # of its schema, as it is stored

    @classmethod
    def read(cls, path: Path, schema: pa.Schema) -> "Table":
        """Reads it whole, with the checksums of its pages, and looks at its columns."""
        try:
            stored = files.read_table(path)
            stored.validate(full=True)
            version = columns.read_metadata(stored.schema).get("schema_version", _VERSION)
            table = files.upgraded(stored)
            metadata, rows = columns.read_metadata(table.schema), table.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            fault = (False, "a whole Parquet file", files.reason(error))
            return cls(path, {}, (), at(path.name, [fault]))
        present = metadata.get("schema_version", _VERSION)
        others = {*map(str, schema)} ^ {*map(str, table.schema)}
        filled = [one.name for one in schema if not one.nullable]
        nulls = [name for name in filled if not others and table[name].null_count]
        claims = [
            (present == _VERSION, f"schema version {_VERSION}", present),
            (not others, "the columns of its version", ", ".join(sorted(others))),
            (not nulls, "a value in every row", f"null in {', '.join(nulls)}"),
        ]
        findings = at(path.name, claims)
        return cls(path, metadata, () if findings else rows, findings, version)


@dataclass(frozen=True, eq=False)
class Case:
    """A folder and what there is to check it with; what is not there raises `Missing`."""

    options: Verify
    parts: Mapping[int, Table]  # by the number of their shard
    recorded: Mapping[str, Any]  # content of the configuration file
    experiment: Experiment | str  # the configuration; where it cannot be read, why
    rows: Sequence[Row]  # all that can be read, or those of them whose numbers are numbers

    @classmethod
    def read(cls, options: Verify) -> "Case":
        """Reads a folder of results; what cannot be used is refused as `verify` says."""
        path, recorded = options.dir, {}
        found = files.run_parts(path).items()
        parts = {shard: Table.read(file, columns.SCHEMA) for shard, file in found}
        try:
            recorded = dict(json.loads((path / files.CONFIG).read_bytes()))
            experiment = _experiment(recorded["config"])
        except _UNREADABLE as error:
            config = recorded.get("config")
            version = config.get("code_version") if isinstance(config, dict) else None
            if isinstance(version, str) and version != __version__:
                raise ValueError(
                    f"{path} was written by rddrs_dist {version}, whose configuration this "
                    f"version, {__version__}, cannot read: verify it with {version}"
                ) from error
            experiment = files.reason(error)
        rows = [row for part in parts.values() for row in part.rows]
        return cls(options, parts, recorded, experiment, rows)

    @property
    def run(self) -> Experiment:
        """The configuration."""
        if isinstance(self.experiment, str):
            raise Missing("the configuration cannot be read")
        return self.experiment

    @cached_property
    def run_id(self) -> str:
        """What the run must be called: 16 digits of the sha256 of its canonical configuration."""
        _ = self.run  # or there is none
        text = columns.canonical_json(self.recorded["config"])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Samples after which an image may have stopped: n / 2^k rounded up, the last n."""
        n, tests = self.run.budget.n, self.run.budget.sequential_tests
        return tuple(-(-n // 2**k) for k in reversed(range(tests)))

    @cached_property
    def by_key(self) -> Mapping[Key, Row]:
        """The rows by method and image."""
        return {key_of(row): row for row in self.rows}

    @cached_property
    def pass_table(self) -> Table:
        """The rows of a disjoint pass; none where none was made."""
        path = self.options.dir / DISJOINT
        return Table.read(path, columns.DISJOINT_SCHEMA) if path.exists() else Table(path, {}, ())

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
        except Missing:
            if self.options.checkpoint is None:
                raise
            return self.network.event_shape

    @cached_property
    def scales(self) -> Stored:
        """The certified scales."""
        stored = Stored(self.options.dir, self.event_shape)
        if not stored.files:
            raise Missing("no _scales-*.safetensors; rddrs certify --save-scales writes them")
        return stored

    @cached_property
    def narrowed(self) -> Stored:
        """The scales that the disjoint pass has made narrower."""
        return Stored(self.options.dir, self.event_shape, NARROWED)

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
    """A configuration, whatever its hyper-parameters: a check that wants some reads the file."""
    present = {columns.RENAMED.get(name, name): value for name, value in config.items()}
    named = _ABSENT | present
    run = Experiment.from_json(named | {"settings": {name: {} for name in config["methods"]}})
    data.parse_indices(run.indices, MOST_IMAGES)
    columns.canonical_json(config)
    return run


def check_config(case: Case) -> Checked:
    """The configuration is whole, and the run is named after it."""
    if isinstance(case.experiment, str):
        return "1 file", at(files.CONFIG, [(False, "a whole configuration", case.experiment)])
    versions = sorted(part.version for part in case.parts.values())
    wanted = {"run_id": case.run_id, "schema_version": int(versions[-1])}
    return "1 file", _alike(files.CONFIG, case.recorded, wanted)


def _alike(where: str, found: Mapping[str, Any], wanted: Mapping[str, object]) -> list[Finding]:
    """Each entry of a file is as it is wanted."""
    own = [(name, found.get(name), value) for name, value in wanted.items()]
    return at(where, [(there == value, f"{name} {value}", there) for name, there, value in own])


def check_parts(case: Case) -> Checked:
    """Every part can be read, has the right columns, and is of this run and its own shard."""
    wanted, config = {"run_id": case.run_id}, case.recorded["config"]
    wanted |= {"config": columns.canonical_json(config)}
    wanted |= {name: str(config.get(name)) for name in _IN_METADATA}
    findings: list[Finding] = []
    for shard, part in case.parts.items():
        others = sorted({row["shard"] for row in part.rows} - {shard})
        own = (not others, f"rows of shard {shard}", f"rows of {others}")
        findings += [*part.findings, *at(part.path.name, [own])]
        if part.metadata:
            findings += _alike(part.path.name, part.metadata, wanted)
    return f"{len(case.parts)} files", findings


def check_manifest(case: Case) -> Checked:
    """The manifest of a complete run has rows, size and hash of every part."""
    folder = case.options.dir
    if not (folder / files.SUCCESS).exists():
        claim = (False, f"{files.SUCCESS}, as a complete run has it", "none", Severity.WARNING)
        why = "the run is not marked as complete, so no manifest is in force"
        raise Missing(why, at(str(folder), [claim]))
    try:
        manifest = dict(json.loads((folder / files.MANIFEST).read_bytes()))
        listed = {entry["name"]: entry for entry in manifest["parts"]}
    except _UNREADABLE as error:
        return "0 files", at(files.MANIFEST, [(False, "a manifest", files.reason(error))])
    own = {name: case.recorded[name] for name in ("run_id", "config") if name in case.recorded}
    findings = _alike(files.MANIFEST, manifest, own)
    there = {part.path.name: part.path for part in case.parts.values()}
    for name in sorted(listed.keys() | there.keys()):
        wanted = listed.get(name, "no such part")
        try:
            found = files.describe(there[name]) if name in there else "no such file"
        except (pa.ArrowException, OSError, ValueError) as error:
            found = files.reason(error)
        findings += at(name, [(wanted == found, wanted, found)])
    return f"{len(listed)} files", findings

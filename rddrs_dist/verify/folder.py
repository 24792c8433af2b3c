"""What is in a folder of results, read anew: configuration and parts."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rddrs_dist.data.sets import parse_indices
from rddrs_dist.smoothing.precision import Precision, checked
from rddrs_dist.verify import columns
from rddrs_dist.verify.findings import Fault, Row, wrong

CONFIG = "_config.json"
_PART = re.compile(r"part-(\d{5,})\.parquet")
_MOST_IMAGES = 10**8  # more would be a damaged configuration, not a data set


@dataclass(frozen=True)
class Config:
    """The configuration of a run, as far as rows are held against it.

    Attributes:
        plain: All of it, as JSON has it.
        dataset: Name of the data set.
        methods: Methods with rows.
        indices: Images, in order of their shards.
        shard_size: Images per shard.
        sigma: Standard deviation of the base noise, in pixels.
        n0: Samples that select.
        n: Samples that estimate.
        alpha: Error probability.
        levels: What pixels were rounded to before the network saw them; None where they were not.
        precision: In which the network multiplied on a GPU.
        looks: How often counts were looked at, each time at level alpha / looks.
        seed: Of the streams.
        device: Kind of device that drew the samples: cpu or cuda.
        weights: The sha256 of the checkpoint.
        data: The sha256 of the test images.
        training: The sha256 of the training images; None where there were none.
    """

    plain: Mapping[str, Any]
    dataset: str
    methods: tuple[str, ...]
    indices: tuple[int, ...]
    shard_size: int
    sigma: float
    n0: int
    n: int
    alpha: float
    looks: int
    levels: int | None
    precision: Precision
    seed: int
    device: str
    weights: str
    data: str
    training: str | None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Config":
        """Reads a configuration out of its JSON.

        Raises:
            ValueError: If something is missing or not of its type.
        """
        try:
            return cls(
                plain,
                dataset=str(plain["dataset"]),
                methods=tuple(map(str, plain["methods"])),
                indices=parse_indices(plain["indices"], _MOST_IMAGES),
                shard_size=int(plain["shard_size"]),
                sigma=float(plain["sigma"]),
                n0=int(plain["n0"]),
                n=int(plain["n"]),
                alpha=float(plain["alpha"]),
                looks=int(plain.get("looks", 1)),
                levels=None if plain.get("levels") is None else int(plain["levels"]),
                precision=checked(plain.get("precision", "float32")),
                seed=int(plain["seed"]),
                device=str(plain["device"]),
                weights=str(plain["weights_sha256"]),
                data=str(plain["data_sha256"]),
                training=plain["training_sha256"],
            )
        except KeyError as error:
            raise ValueError(f"no entry {error}") from error
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(str(error)) from error

    def __post_init__(self) -> None:
        counts = (self.shard_size, self.n, self.n0, self.looks, self.levels or 1)
        if min(counts) < 1 or self.seed < 0:
            raise ValueError(
                f"shard_size, n, n0, looks and levels must be at least 1 and seed at least 0, got "
                f"{', '.join(map(str, counts))} and {self.seed}"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples after which an image may have stopped: n / 2^k rounded up, the last n."""
        return tuple(math.ceil(Fraction(self.n, 2**k)) for k in reversed(range(self.looks)))

    @property
    def run_id(self) -> str:
        """What the run must be called: 16 digits of the sha256 of its canonical JSON."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    @property
    def canonical(self) -> str:
        """JSON with sorted keys and no spaces."""
        return json.dumps(self.plain, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, eq=False)
class Part:
    """One part.

    Attributes:
        path: Its file.
        shard: Number of the shard in its name.
        metadata: Our own entries in the file's metadata.
        rows: Its rows; none where it cannot be read or has other columns.
        faults: Why it has none.
    """

    path: Path
    shard: int
    metadata: Mapping[str, str]
    rows: Sequence[Row]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder of results.

    Attributes:
        path: Where it is.
        parts: Its parts, in order of their shards.
        recorded: Content of the configuration file, or what a part says in its place.
        faults: What is wrong with the configuration file.
        config: The configuration; None where it cannot be read.
    """

    path: Path
    parts: Sequence[Part]
    recorded: Mapping[str, Any]
    faults: tuple[Fault, ...]
    config: Config | None

    @property
    def imported(self) -> bool:
        """Whether it holds a log of another project and not a run."""
        return any(columns.IMPORTED in part.metadata for part in self.parts)

    @property
    def rows(self) -> list[Row]:
        """All rows that can be read."""
        return [row for part in self.parts for row in part.rows]


def read_folder(path: Path) -> Folder:
    """Reads a folder of results.

    Raises:
        FileNotFoundError: If there is nothing to check in it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no run in {path}: no such folder; give the one that was --out")
    found = sorted(
        (int(m[1]), file) for file in path.iterdir() if (m := _PART.fullmatch(file.name))
    )
    if not found:
        raise FileNotFoundError(
            f"no run in {path}: it holds no part-*.parquet; give the folder that was --out"
        )
    parts = [_read_part(file, shard) for shard, file in found]
    recorded, faults = _read_recorded(path / CONFIG, parts)
    try:
        return Folder(path, parts, recorded, faults, Config.of(recorded.get("config", {})))
    except (ValueError, AttributeError) as error:
        broken = wrong("a whole configuration", line(error))
        return Folder(path, parts, recorded, (*faults, broken), None)


def line(error: BaseException) -> str:
    """An error on one line."""
    return " ".join((str(error) or type(error).__name__).split())


def _read_part(path: Path, shard: int) -> Part:
    """Reads one part whole, with the checksums of its pages, and looks at its columns."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        table.validate(full=True)
        metadata = _own(table.schema)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        return Part(path, shard, {}, (), (wrong("a whole Parquet file", line(error)),))
    version = metadata.get("schema_version")
    if version != columns.VERSION:
        faults = [wrong(f"schema version {columns.VERSION}", version)]
    else:
        faults = [wrong("the columns of its version", one) for one in columns.differences(table)]
    return Part(path, shard, metadata, () if faults else rows, tuple(faults))


def _own(schema: pa.Schema) -> dict[str, str]:
    """Our own metadata, without the prefix."""
    found = {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}
    return {
        key.removeprefix(columns.PREFIX): text
        for key, text in found.items()
        if key.startswith(columns.PREFIX)
    }


def _read_recorded(
    path: Path, parts: Sequence[Part]
) -> tuple[Mapping[str, Any], tuple[Fault, ...]]:
    """The configuration file, or what the first part says in its place, and what is wrong."""
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found, ()
        fault = wrong("a JSON object", type(found).__name__)
    except (OSError, ValueError) as error:
        fault = wrong("a readable configuration", line(error))
    try:
        own = parts[0].metadata
        return {"run_id": own["run_id"], "config": json.loads(own["config"])}, (fault,)
    except (KeyError, ValueError):
        return {}, (fault,)

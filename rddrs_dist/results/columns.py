"""The result table: one entry of `COLUMNS` is all that is known of a column.

The schema of the files, the documented table (docs/columns.md) and the list that `rddrs verify`
holds files to are read from it. `rddrs columns` prints the documented table.
"""

import json
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rddrs_dist.certify import Certificate
from rddrs_dist.families import FAMILIES, Family
from rddrs_dist.methods import Fit
from rddrs_dist.noise import Packed
from rddrs_dist.region import ABSTAIN, Floats, Integers
from rddrs_dist.stats import clopper_pearson_upper

SCHEMA_VERSION = 7
# Columns that are gone: the first version that had them, and the first that has not.
REMOVED = {"capped_proxy_radius": (2, 6), "axes_beyond_domain": (2, 6)}
PREFIX = "rddrs_dist."
KEY = ("index", "method")
TIMINGS = ("fit_seconds", "certify_seconds")
# Keys of configurations by their names in version 0.7.0.
RENAMED = {
    **{"looks": "sequential_tests", "levels": "quantisation"},
    **{"memory": "decay", "near": "boundary_share", "guard": "neighbour_margin"},
}
_INTEGER, _NUMBER, _BOOL, _TEXT = pa.int64(), pa.float64(), pa.bool_(), pa.string()
_KINDS = {
    _INTEGER: (numbers.Integral, "an integer"),
    _NUMBER: (numbers.Real, "a number"),
    _BOOL: (bool, "a bool"),
    _TEXT: (str, "a string"),
}


@dataclass(frozen=True, eq=False)
class Computed:
    """What one method has computed for B images; seconds are per image.

    Attributes:
        others_inside: Training images with another label in each region; None where there are no
            training images.
        blind: Blind samples and samples drawn, of each image; None where sight is not measured.
        data_radii: Those of `sight.SHARES`, of each image; likewise.
        ddrs_l2_radius: The l2 radius of DDRS of each image; None where DDRS was not certified.
        held: Parameters up to which the region of each image holds each family of changed images,
            (len(FAMILIES), B); None where no changes are named.
        named_held: The multiple of what is named that it holds, (B,); likewise.
        packed: The scales.
    """

    fit: Fit
    certificate: Certificate
    others_inside: Sequence[int] | None
    blind: tuple[Integers, Integers] | None
    data_radii: Sequence[Floats] | None
    ddrs_l2_radius: Floats | None
    fit_seconds: float
    certify_seconds: float
    packed: Sequence[Packed]
    held: Floats | None = None
    named_held: Floats | None = None


@dataclass(frozen=True, eq=False)
class Column:
    """One column, and whether a cell may be null or NaN.

    Attributes:
        meaning: What it says, for the documented table; Markdown.
        value: From what was computed for B images to the cells of their rows; None where the rows
            of a shard and a method share one cell, or the driver adds it.
        blank: What stands in the row of an image for which nothing could be computed.
        since: Schema version that added it; parts of earlier ones are read with nulls in it.
    """

    name: str
    type: pa.DataType
    meaning: str
    value: Callable[[Computed], Sequence[Any]] | None = None
    blank: Any = None
    unit: str = ""
    since: int = 1
    nullable: bool = False
    nan: bool = False


def _size(name: str, meaning: str, unit: str, blank: float = 0.0, **more: Any) -> Column:
    """A number that the region itself has under that name; a count where its blank is one."""
    kind = _INTEGER if isinstance(blank, int) else _NUMBER

    def value(found: Computed) -> Sequence[Any]:
        return getattr(found.certificate.region, name).tolist()

    return Column(name, kind, meaning, value, blank, unit, **more)


def _or_null(found: Computed, values: NDArray[Any] | None) -> Sequence[Any]:
    """Values of each image, or as many nulls."""
    return [None] * len(found.fit.noise) if values is None else values.tolist()


def _data_radius(position: int, found: Computed) -> Sequence[Any]:
    """Data radii for the share of variance at a position of `sight.SHARES`."""
    radii = found.data_radii
    return _or_null(found, None if radii is None else radii[position])


def _of_blind(share: Callable[[int, int, float], Any], found: Computed) -> Sequence[Any]:
    """A function of blind samples, samples drawn and alpha, for each image that has any."""
    blind, drawn = found.blind or (np.zeros(len(found.fit.noise), np.int64),) * 2
    alpha = found.certificate.budget.alpha
    counts = zip(blind.tolist(), drawn.tolist(), strict=True)
    return [share(count, m, alpha) if m else None for count, m in counts]


def _held(position: int, found: Computed) -> Sequence[Any]:
    """Largest parameters of a family."""
    return _or_null(found, None if found.held is None else found.held[position])


def _family(position: int, family: Family) -> Column:
    """The column of a family of changed images."""
    return Column(
        family.column, _NUMBER,
        f"{family.name} up to which the region holds all changed images, floored; null where "
        "`aim` is not in the run",
        partial(_held, position), None, family.unit, since=7, nullable=True,
    )  # fmt: skip


COLUMNS: tuple[Column, ...] = (
    Column("index", _INTEGER, "position of the image in the test split"),
    Column("label", _INTEGER, "its true class; no worker ever sees it"),
    Column("method", _TEXT, "name of the method"),
    Column("sigma", _NUMBER, "standard deviation of the base noise", unit="pixels"),
    _size("prediction", "certified class; -1 is an abstention", "", ABSTAIN),
    Column("correct", _BOOL, "whether prediction is label"),
    Column(
        "count", _INTEGER, "samples, out of `n`, in which the selected class was the answer",
        lambda found: found.certificate.count.tolist(), 0, "samples",
    ),
    Column(
        "n", _INTEGER,
        "samples that estimate; fewer than `--n` where an image stopped at a sequential test",
        lambda found: found.certificate.n.tolist(), unit="samples",
    ),
    Column("n0", _INTEGER, "samples that select the class", unit="samples"),
    Column("alpha", _NUMBER, "probability with which the certificate may be wrong"),
    Column(
        "p_lower", _NUMBER, "lower confidence bound on the probability of the selected class",
        lambda found: found.certificate.p_lower.tolist(), 0.0,
    ),
    _size(
        "radius", r"$\Phi^{-1}$ of it, or `radius_limit` where that is less; 0 for an abstention",
        "of the noise",
    ),
    Column(
        "radius_limit", _NUMBER,
        "radius at which the region leaves the domain or reaches a training image of another "
        "class, and therefore ends (`rddrs_tr`); null where it may have any",
        lambda found: [one if one < math.inf else None for one in found.fit.limit.tolist()],
        None, "of the noise", since=5, nullable=True,
    ),
    _size("l2_radius", "radius of the largest ball in the certified region", "pixels"),
    _size("proxy_radius", "radius of the ball with the region's volume", "pixels"),
    Column(
        "data_radius", _NUMBER,
        "proxy radius of the region's section with the principal subspace that holds 95 % of the "
        "variance of the training images; null where sight is not measured",
        partial(_data_radius, 0), None, "pixels", since=6, nullable=True,
    ),
    Column(
        "data_radius_99", _NUMBER, "the same for 99 %",
        partial(_data_radius, 1), None, "pixels", since=6, nullable=True,
    ),
    _size(
        "log_volume", "natural logarithm of that volume; -inf for an abstention",
        "log of pixels^d", -math.inf,
    ),
    _size("min_axis", "smallest axis of the noise", "pixels"),
    _size("mean_axis", "geometric mean of its axes", "pixels"),
    _size("max_axis", "largest axis of the noise", "pixels"),
    Column(
        "blindness", _NUMBER,
        "share of `--sight-samples` noisy samples, each at a random training image with another "
        "label, for which the network answers `prediction`; null for an abstention, and where "
        "there is no such image or sight is not measured",
        partial(_of_blind, lambda count, m, _: count / m), None, since=6, nullable=True,
    ),
    Column(
        "blindness_upper", _NUMBER,
        "upper confidence bound on the probability of that, one-sided, at level `alpha`",
        partial(_of_blind, lambda count, m, a: float(clopper_pearson_upper(count, m, a))), None,
        since=6, nullable=True,
    ),
    Column(
        "others_inside", _INTEGER,
        "training images with another label in the region; null where the data set has no "
        "training images",
        lambda found: found.others_inside or [None] * len(found.fit.noise),
        0, "images", since=2, nullable=True,
    ),
    Column(
        "aim_scale", _NUMBER,
        "multiple, at most 1, of the changes that `aim` names which the region holds, with all "
        "their mixtures; null where `aim` is not in the run",
        lambda found: _or_null(found, found.named_held), None, since=7, nullable=True,
    ),
    *(_family(position, one) for position, one in enumerate(FAMILIES)),
    Column(
        "contains_ddrs_ball", _BOOL,
        "whether `l2_radius` reaches that of DDRS; null where DDRS was not certified",
        lambda found: _or_null(
            found,
            None if found.ddrs_l2_radius is None
            else found.certificate.region.l2_radius >= found.ddrs_l2_radius,
        ),
        None, nullable=True,
    ),
    Column(
        "fit_status", _TEXT,
        "`closed_form`, `converged`, `max_steps`, `deadline`, `nonfinite`, `blind`, `fallback`, "
        "`failed`",
        lambda found: [status.name.lower() for status in found.fit.status], "failed",
    ),
    Column(
        "fit_steps", _INTEGER, "steps taken, of the candidate that was kept",
        lambda found: found.fit.steps.tolist(), 0, "steps",
    ),
    Column(
        "fit_objective", _NUMBER, "the method's own objective at the last step; NaN for `rs`",
        lambda found: found.fit.objective.tolist(), math.nan, nan=True,
    ),
    Column(
        "fit_seconds", _NUMBER,
        "the shard's fitting time over its images, without that of `sigma_star`",
        lambda found: [found.fit_seconds] * len(found.fit.noise), 0.0, "seconds",
    ),
    Column(
        "certify_seconds", _NUMBER, "the same for certification",
        lambda found: [found.certify_seconds] * len(found.fit.noise), 0.0, "seconds",
    ),
    Column("seed", _INTEGER, "seed of the run"),
    Column("shard", _INTEGER, "unit of work that the row came in"),
    Column(
        "error", _TEXT,
        "why nothing could be computed for the image (an abstention then); else null",
        since=3, nullable=True,
    ),
    Column(
        "scale_sha256", _TEXT,
        "hash of the scale that was certified, as `--save-scales` stores it",
        lambda found: [one.sha256 for one in found.packed], None, since=4, nullable=True,
    ),
)  # fmt: skip

# Of the disjoint pass (`rddrs disjoint`), which adds one row per image and method.
DISJOINT_COLUMNS: tuple[Column, ...] = (
    Column("index", _INTEGER, "position of the image in the test split"),
    Column("method", _TEXT, "name of the method"),
    Column(
        "disjoint_radius", _NUMBER, "radius of what is left of the region", unit="of the noise",
    ),
    Column("disjoint_l2_radius", _NUMBER, "radius of the largest ball in it", unit="pixels"),
    Column("disjoint_proxy_radius", _NUMBER, "radius of the ball with its volume", unit="pixels"),
    Column(
        "disjoint_scale_sha256", _TEXT,
        "hash of its scale, the certified or a narrower one; null for an abstention",
        nullable=True,
    ),
    Column(
        "contact_factor", _NUMBER,
        "smallest factor by which the region and one of another prediction scale until they "
        "touch, at most 1",
    ),
    Column(
        "nearest_conflict", _INTEGER, "image whose region that is; null where no two overlap",
        nullable=True,
    ),
    Column(
        "witness", _TEXT,
        "what tells the region from those of other predictions: `ball`, `hyperplane`, or nothing "
        "before it was made smaller (`conflict`)",
    ),
    Column("rule", _TEXT, "how regions were made smaller"),
)  # fmt: skip

SCHEMA, DISJOINT_SCHEMA = (
    pa.schema([pa.field(one.name, one.type, one.nullable) for one in columns])
    for columns in (COLUMNS, DISJOINT_COLUMNS)
)
SCHEMA_NAMES = frozenset(SCHEMA.names)


def rows_of(
    indices: Sequence[int], shared: Mapping[str, Any], found: Computed | None
) -> list[dict[str, Any]]:
    """The rows of one method for B images, without the columns that the driver adds.

    All have the `shared` cells (the `n` there is an abstention's); None makes abstentions.
    """
    blank = {**{one.name: one.blank for one in COLUMNS if one.value}, **shared}
    cells = {"index": indices} | {name: [one] * len(indices) for name, one in blank.items()}
    if found is not None:
        cells |= {one.name: one.value(found) for one in COLUMNS if one.value}
    rows = zip(*cells.values(), strict=True)
    return [dict(zip(cells, values, strict=True)) for values in rows]


def added_after(version: int) -> frozenset[str]:
    """Columns that parts of a schema version lack."""
    return frozenset(column.name for column in COLUMNS if column.since > version)


def removed_since(version: int) -> frozenset[str]:
    """Columns that parts of a schema version have, and that are gone."""
    return frozenset(name for name, (first, gone) in REMOVED.items() if first <= version < gone)


def as_markdown() -> str:
    """The documented table of all columns."""
    lines = []
    for title, columns in (("rows of a run", COLUMNS), ("disjoint pass", DISJOINT_COLUMNS)):
        lines += [f"## Columns of the {title}", "", "| column | meaning | unit |", "|---|---|---|"]
        lines += [f"| `{one.name}` | {one.meaning} | {one.unit} |" for one in columns]
        lines.append("")
    return "\n".join(lines)


def canonical_json(value: Mapping[str, Any]) -> str:
    """The one JSON text that equal configurations share: keys sorted, no spaces.

    Raises:
        ValueError: If something in it is not JSON, such as NaN.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"configuration must be plain JSON values, got {error}; convert paths, arrays "
            "and NaN to strings, lists and None first"
        ) from error


def table(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str]) -> pa.Table:
    """Builds the table of one part, rows in order, and checks every name and type.

    Its metadata are the given texts and `schema_version`, with `PREFIX` before each key.

    Raises:
        ValueError: If there is no row, a column is missing or unknown, a value has another
            type, is null where that is not allowed, or is NaN outside `fit_objective`.
    """
    if not rows:
        raise ValueError("a part must have at least one row, got none; leave empty shards out")
    for position, row in enumerate(rows):
        missing, unknown = SCHEMA_NAMES - row.keys(), row.keys() - SCHEMA_NAMES
        if missing or unknown:
            raise ValueError(
                f"row {position} must have the {len(SCHEMA)} columns of results/columns.py, got "
                f"missing {sorted(missing)} and unknown {sorted(unknown)}; add or remove these"
            )
    if wrong := {key: value for key, value in metadata.items() if not isinstance(value, str)}:
        raise ValueError(f"metadata must be strings, got {wrong}; convert them first")
    everything = {"schema_version": str(SCHEMA_VERSION), **metadata}
    schema = SCHEMA.with_metadata({PREFIX + key: value for key, value in everything.items()})
    return pa.Table.from_arrays([_column(rows, one) for one in COLUMNS], schema=schema)


def read_metadata(schema: pa.Schema) -> dict[str, str]:
    """Returns our own metadata of a stored table, without the prefix."""
    stored = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return {
        key.removeprefix(PREFIX): value for key, value in stored.items() if key.startswith(PREFIX)
    }


def _column(rows: Sequence[Mapping[str, Any]], column: Column) -> pa.Array:
    """Checks one column cell by cell and converts it."""
    values = [row[column.name] for row in rows]
    for position, value in enumerate(values):
        if not _fits(value, column):
            wanted = _KINDS[column.type][1] + (" or None" if column.nullable else "")
            raise ValueError(
                f"column {column.name!r} must hold {wanted}, got {value!r} "
                f"({type(value).__name__}) in row {position}; correct the row's maker"
            )
    return pa.array(values, column.type)


def _fits(value: Any, column: Column) -> bool:
    """Tells whether a value may stand in a column; pyarrow alone would store 1.5 as 1."""
    if value is None:
        return column.nullable
    if isinstance(value, (bool, np.bool_)):
        return column.type == _BOOL
    if not isinstance(value, _KINDS[column.type][0]):
        return False
    return column.nan or column.type != _NUMBER or not math.isnan(value)

"""The result table: one row per image and method, its columns and its file metadata."""

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA_VERSION = 5
PREFIX = "rddrs_dist."
KEY = ("index", "method")
TIMINGS = ("fit_seconds", "certify_seconds")
ABSTAIN = -1

_COLUMNS = (
    ("index", pa.int64()),
    ("label", pa.int64()),
    ("method", pa.string()),
    ("sigma", pa.float64()),
    ("prediction", pa.int64()),
    ("correct", pa.bool_()),
    ("count", pa.int64()),
    ("n", pa.int64()),
    ("n0", pa.int64()),
    ("alpha", pa.float64()),
    ("p_lower", pa.float64()),
    ("radius", pa.float64()),
    ("radius_limit", pa.float64()),
    ("l2_radius", pa.float64()),
    ("proxy_radius", pa.float64()),
    ("capped_proxy_radius", pa.float64()),
    ("log_volume", pa.float64()),
    ("min_axis", pa.float64()),
    ("mean_axis", pa.float64()),
    ("max_axis", pa.float64()),
    ("axes_beyond_domain", pa.int64()),
    ("others_inside", pa.int64()),
    ("contains_ddrs_ball", pa.bool_()),
    ("fit_status", pa.string()),
    ("fit_steps", pa.int64()),
    ("fit_objective", pa.float64()),
    ("fit_seconds", pa.float64()),
    ("certify_seconds", pa.float64()),
    ("seed", pa.int64()),
    ("shard", pa.int64()),
    ("error", pa.string()),
    ("scale_sha256", pa.string()),
)
# Columns that each version added; parts of an earlier one read with nulls in them.
ADDED = {
    2: frozenset({"capped_proxy_radius", "axes_beyond_domain", "others_inside"}),
    3: frozenset({"error"}),
    4: frozenset({"scale_sha256"}),
    5: frozenset({"radius_limit"}),
}
# Where nothing could be computed for an image there is an error and no scale_sha256; others_inside
# is null where the data set has no training images, contains_ddrs_ball where ddrs was not
# certified, radius_limit where a region may have any radius.
NULLABLE = frozenset({"contains_ddrs_ball"}).union(*ADDED.values())
NAN_ALLOWED = frozenset({"fit_objective"})  # rs fits nothing, so it has no objective
SCHEMA = pa.schema([pa.field(name, kind, name in NULLABLE) for name, kind in _COLUMNS])
# Rows of an imported log have the same columns, of which the log knows these; all others may be
# null, and count always is. An entry in the metadata of its parts tells it from a run.
IMPORTED = "imported"
LOGGED = frozenset({"index", "label", "method", "sigma", "prediction", "correct", "shard"})
LOG_SCHEMA = pa.schema([pa.field(name, kind, name not in LOGGED) for name, kind in _COLUMNS])
_WANTED = {pa.int64(): "an integer", pa.float64(): "a number", pa.bool_(): "a bool"}


def canonical_json(value: Mapping[str, Any]) -> str:
    """Writes a configuration as the one JSON text that equal configurations share.

    Args:
        value: Nested mappings, sequences, strings, numbers, bools and None; no NaN.

    Returns:
        JSON with sorted keys and no spaces.

    Raises:
        ValueError: If something in it is not JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"configuration must be plain JSON values, got {error}; convert paths, arrays "
            "and NaN to strings, lists and None first"
        ) from error


def layout(metadata: Mapping[str, str]) -> pa.Schema:
    """Returns the columns of parts with such metadata: those of a run or of an imported log."""
    return LOG_SCHEMA if IMPORTED in metadata else SCHEMA


def table(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, str]) -> pa.Table:
    """Builds the table of one part and checks every name and type.

    Args:
        rows: One mapping per image and method with exactly the columns of `layout`.
        metadata: Texts for the file's metadata; each key is stored with `PREFIX` before it.

    Returns:
        The table, in the order of the rows, with `schema_version` added to its metadata.

    Raises:
        ValueError: If there is no row, a column is missing or unknown, a value has another
            type, is null where that is not allowed, or is NaN outside `fit_objective`.
    """
    if not rows:
        raise ValueError("a part must have at least one row, got none; leave empty shards out")
    for position, row in enumerate(rows):
        _check_names(row, position)
    wanted = layout(metadata)
    columns = [_column(rows, field) for field in wanted]
    return pa.Table.from_arrays(columns, schema=wanted.with_metadata(_prefixed(metadata)))


def read_metadata(schema: pa.Schema) -> dict[str, str]:
    """Returns our own metadata of a stored table, without the prefix."""
    stored = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return {
        key.removeprefix(PREFIX): value for key, value in stored.items() if key.startswith(PREFIX)
    }


def _prefixed(metadata: Mapping[str, str]) -> dict[str, str]:
    """Adds the schema version and the prefix, and refuses values that are not text."""
    wrong = {key: value for key, value in metadata.items() if not isinstance(value, str)}
    if wrong:
        raise ValueError(f"metadata must be strings, got {wrong}; convert them first")
    everything = {"schema_version": str(SCHEMA_VERSION), **metadata}
    return {PREFIX + key: value for key, value in everything.items()}


def _check_names(row: Mapping[str, Any], position: int) -> None:
    """Raises where a row lacks a column or has one that the schema does not know."""
    missing = [name for name in SCHEMA.names if name not in row]
    unknown = [name for name in row if name not in SCHEMA.names]
    if missing or unknown:
        raise ValueError(
            f"row {position} must have the {len(SCHEMA)} columns of results/schema.py, got "
            f"missing {missing} and unknown {unknown}; add or remove these"
        )


def _column(rows: Sequence[Mapping[str, Any]], field: pa.Field) -> pa.Array:
    """Checks one column cell by cell and converts it."""
    values = [row[field.name] for row in rows]
    for position, value in enumerate(values):
        if not _fits(value, field):
            wanted = _WANTED.get(field.type, "a string") + (" or None" if field.nullable else "")
            raise ValueError(
                f"column {field.name!r} must hold {wanted}, got {value!r} "
                f"({type(value).__name__}) in row {position}; correct the row's maker"
            )
    return pa.array(values, field.type)


def _fits(value: Any, field: pa.Field) -> bool:
    """Tells whether a value may stand in a column; pyarrow alone would store 1.5 as 1."""
    if value is None:
        return field.nullable
    is_bool = isinstance(value, (bool, np.bool_))
    if pa.types.is_boolean(field.type):
        return is_bool
    if pa.types.is_int64(field.type):
        return isinstance(value, numbers.Integral) and not is_bool
    if pa.types.is_float64(field.type):
        real = isinstance(value, numbers.Real) and not is_bool
        return real and (field.name in NAN_ALLOWED or not math.isnan(value))
    return isinstance(value, str)

"""The table of one part: names, types, nulls and metadata."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rddrs_dist.results.columns import (
    COLUMNS,
    DISJOINT_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    added_after,
    as_markdown,
    canonical_json,
    read_metadata,
    removed_since,
    table,
)

from .rows import row

ROOT = Path(__file__).resolve().parents[2]
# What analyses of others rely on, in this order; new columns may stand between these.
PROMISED = (
    *("index", "label", "method", "sigma", "prediction", "correct", "count", "n", "n0", "alpha"),
    *("p_lower", "radius", "radius_limit", "l2_radius", "proxy_radius", "data_radius"),
    *("data_radius_99", "log_volume", "min_axis", "mean_axis", "max_axis", "blindness"),
    *("blindness_upper", "others_inside"),
    *("contains_ddrs_ball", "fit_status", "fit_steps", "fit_objective", "fit_seconds"),
    *("certify_seconds", "seed", "shard", "error", "scale_sha256"),
)
NULLABLE = (
    *("radius_limit", "data_radius", "data_radius_99", "blindness", "blindness_upper"),
    *("others_inside",),
    *("contains_ddrs_ball", "error", "scale_sha256"),
)


def test_columns_have_the_promised_names_order_and_nullability():
    promised = [field for field in SCHEMA if field.name in PROMISED]
    assert [field.name for field in promised] == list(PROMISED)
    assert [field.name for field in promised if field.nullable] == list(NULLABLE)


@pytest.mark.parametrize("columns", [COLUMNS, DISJOINT_COLUMNS])
def test_every_column_has_a_name_of_its_own_and_a_meaning(columns):
    assert len({one.name for one in columns}) == len(columns)
    for one in columns:
        assert one.meaning.strip() and "|" not in one.meaning and "\n" not in one.meaning
        assert 1 <= one.since <= SCHEMA_VERSION


def test_the_documented_table_is_made_of_the_columns():
    assert (ROOT / "docs" / "columns.md").read_text() == as_markdown()


def test_parts_of_earlier_versions_lack_only_columns_that_may_be_null():
    """They are read with nulls there, and with all columns they lack nothing."""
    assert added_after(SCHEMA_VERSION) == frozenset()
    assert added_after(1) <= {one.name for one in COLUMNS if one.nullable}
    assert added_after(1) > added_after(2) > added_after(3) > added_after(4) >= {"radius_limit"}
    assert added_after(5) >= {"blindness", "blindness_upper", "data_radius", "data_radius_99"}


def test_columns_that_are_gone_are_in_no_part_of_this_version():
    assert removed_since(SCHEMA_VERSION) == removed_since(1) == frozenset()
    assert removed_since(5) == {"capped_proxy_radius", "axes_beyond_domain"}
    assert not removed_since(5) & set(SCHEMA.names)


def test_values_keep_full_precision_and_metadata_returns():
    made = table([row(radius=0.1 + 0.2, index=np.int64(7))], {"run_id": "abc"})
    assert made["radius"].to_pylist() == [0.30000000000000004]
    assert made["index"].to_pylist() == [7]
    assert read_metadata(made.schema) == {"schema_version": str(SCHEMA_VERSION), "run_id": "abc"}
    assert b"rddrs_dist.run_id" in made.schema.metadata


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("index", 1.5),  # pyarrow alone would store 1
        ("index", True),
        ("count", np.bool_(True)),
        ("correct", 1),
        ("radius", "1.0"),
        ("radius", None),
        ("radius", math.nan),
        ("p_lower", True),
        ("method", 3),
        ("fit_status", None),
        ("contains_ddrs_ball", 1),
    ],
)
def test_a_wrong_value_is_refused_with_its_column_and_row(column, value):
    with pytest.raises(ValueError, match=rf"column '{column}' must hold .* in row 1"):
        table([row(0), row(1) | {column: value}], {})


def test_the_allowed_null_nan_and_infinity_pass():
    values = {"contains_ddrs_ball": None, "fit_objective": math.nan, "log_volume": -math.inf}
    made = table([row(**values)], {})
    assert made["contains_ddrs_ball"].null_count == 1
    assert made["log_volume"].to_pylist() == [-math.inf]


def test_missing_and_unknown_columns_are_named():
    wrong = row() | {"raduis": 1.0}
    del wrong["radius"]
    with pytest.raises(ValueError, match=r"missing \['radius'\] and unknown \['raduis'\]"):
        table([wrong], {})


def test_no_rows_and_metadata_that_is_not_text_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        table([], {})
    with pytest.raises(ValueError, match=r"must be strings, got \{'seed': 3\}"):
        table([row()], {"seed": 3})  # pyright: ignore[reportArgumentType]


def test_canonical_json_ignores_order_and_refuses_nan():
    assert canonical_json({"b": (1, 2), "a": None}) == '{"a":null,"b":[1,2]}'
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="plain JSON"):
        canonical_json({"a": math.nan})
    with pytest.raises(ValueError, match="plain JSON"):
        canonical_json({"a": pa.int64()})

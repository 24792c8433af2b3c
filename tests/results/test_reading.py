"""Reading runs back: duplicates, order, and what may stand in one figure."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rddrs_dist.results import read, read_many
from rddrs_dist.results.columns import ADDED, SCHEMA, SCHEMA_VERSION
from rddrs_dist.results.store import Store

from .rows import row


def run(
    out: Path,
    rows: list[dict],
    *,
    run_id: str = "one",
    dataset: str = "digits",
    data_sha256: str = "d",
    done: bool = True,
) -> Path:
    """Writes a run of one part per row."""
    metadata = {"data_sha256": data_sha256}
    config = {"dataset": dataset}
    with Store.open(out, run_id=run_id, config=config, metadata=metadata) as store:
        for shard, own in enumerate(rows):
            store.write(shard, [own | {"shard": own["shard"] or shard}])
        if done:
            store.complete({})
    return out


def test_rows_are_sorted_and_attributes_told(tmp_path):
    ball = {"contains_ddrs_ball": True}
    out = run(tmp_path, [row(2), row(1, "ddrs", **ball), row(0)], done=False)
    frame = read(out)
    assert list(zip(frame["method"], frame["index"], strict=True)) == [
        ("ddrs", 1),
        ("rs", 0),
        ("rs", 2),
    ]
    assert frame["contains_ddrs_ball"].isna().tolist() == [False, True, True]
    assert frame["correct"].dtype == bool
    assert frame.attrs["run_id"] == "one" and frame.attrs["complete"] is False
    assert frame.attrs["config"] == {"dataset": "digits"}
    assert frame.attrs["metadata"]["data_sha256"] == "d"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_part_of_an_earlier_version_reads_with_nulls_where_columns_are_new(tmp_path, version):
    out = run(tmp_path, [row(3)])
    path = out / "part-00000.parquet"
    part = pq.read_table(path)
    added = sorted(set().union(*(names for later, names in ADDED.items() if later > version)))
    old = part.drop_columns(added)
    metadata = part.schema.metadata | {b"rddrs_dist.schema_version": str(version).encode()}
    pq.write_table(old.replace_schema_metadata(metadata), path)
    frame = read(out)
    assert list(frame.columns) == SCHEMA.names
    assert frame[added].isna().all(axis=None)
    assert frame["radius"].tolist() == [2.0]
    pq.write_table(old.drop_columns(["radius"]).replace_schema_metadata(metadata), path)
    wanted = f"columns of schema version {SCHEMA_VERSION}, got version {version}"
    with pytest.raises(ValueError, match=wanted):
        read(out)


def test_other_columns_are_named(tmp_path):
    path = run(tmp_path, [row(3)]) / "part-00000.parquet"
    part = pq.read_table(path)
    changed = part.drop_columns(["radius"]).append_column("colour", pa.array(["red"]))
    seeds = pa.array([0.5]).cast(pa.float32())
    changed = changed.set_column(changed.schema.get_field_index("seed"), "seed", seeds)
    pq.write_table(changed.replace_schema_metadata(part.schema.metadata), path)
    wanted = f"version {SCHEMA_VERSION} with no radius, colour, seed as float; read"
    with pytest.raises(ValueError, match=wanted):
        read(tmp_path)


def repeat(out: Path, **changes) -> Path:
    """Writes one image twice, as two overlapping parts of a run would."""
    run(out, [row(5)], done=False)
    first = out / "part-00000.parquet"
    with Store.open(
        out, run_id="one", config={"dataset": "digits"}, resume=True, metadata={"data_sha256": "d"}
    ) as store:
        kept = first.read_bytes()
        again = store.write(0, [row(5, **changes)])
        again.rename(out / "part-00001.parquet")
        first.write_bytes(kept)
    return out


def test_equal_duplicates_are_kept_once_even_where_timings_differ(tmp_path):
    frame = read(repeat(tmp_path, fit_seconds=9.0, certify_seconds=8.0))
    assert list(frame["index"]) == [5]
    assert list(frame["fit_seconds"]) == [0.25]


def test_different_duplicates_are_refused_and_the_column_named(tmp_path):
    with pytest.raises(ValueError, match="repeat image 5 with method rs but differ in count;"):
        read(repeat(tmp_path, count=981, fit_seconds=9.0))


def test_nothing_to_read_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"holds no part-\*\.parquet"):
        read(tmp_path)
    with pytest.raises(ValueError, match="at least one folder"):
        read_many([])


def test_runs_at_several_sigmas_and_with_several_methods_are_joined(tmp_path):
    a = run(tmp_path / "a", [row(0), row(1)])
    b = run(tmp_path / "b", [row(0, "ddrs"), row(1, "ddrs")], run_id="two")
    c = run(tmp_path / "c", [row(7, sigma=1.0)], run_id="three", done=False)
    frame = read_many([a, b, c])
    assert frame.groupby("run").size().to_dict() == {str(a): 2, str(b): 2, str(c): 1}
    assert "run_id" not in frame.columns
    assert frame.attrs["dataset"] == "digits" and frame.attrs["complete"] is False


def test_one_run_given_twice_counts_once(tmp_path):
    a = run(tmp_path / "a", [row(0), row(1)])
    copy = run(tmp_path / "copy", [row(0, fit_seconds=3.0), row(1)])
    assert len(read_many([a, copy])) == 2


def test_two_runs_of_one_method_at_one_sigma_are_refused(tmp_path):
    a = run(tmp_path / "a", [row(0, seed=0)])
    b = run(tmp_path / "b", [row(0, seed=1)], run_id="two")
    with pytest.raises(ValueError, match=r"method rs at sigma 0.5 must come from one run"):
        read_many([a, b])


def test_different_images_are_refused_or_cut_to_the_common_ones(tmp_path):
    a = run(tmp_path / "a", [row(0), row(1), row(2)])
    b = run(tmp_path / "b", [row(1, "ddrs"), row(9, "ddrs")], run_id="two")
    with pytest.raises(ValueError, match=r"same images, got: .*a has 3, .*b has 2, 1 in common"):
        read_many([a, b])
    frame = read_many([a, b], common=True)
    assert list(zip(frame["method"], frame["index"], strict=True)) == [("ddrs", 1), ("rs", 1)]
    c = run(tmp_path / "c", [row(9, "ancer")], run_id="three")
    with pytest.raises(ValueError, match="images in common, got none"):
        read_many([a, c], common=True)


@pytest.mark.parametrize("other", [{"dataset": "mnist"}, {"data_sha256": "train split"}])
def test_different_data_sets_are_refused(tmp_path, other):
    a = run(tmp_path / "a", [row(0)])
    b = run(tmp_path / "b", [row(0, "ddrs")], run_id="two", **other)
    with pytest.raises(ValueError, match="of one data set, got"):
        read_many([a, b])

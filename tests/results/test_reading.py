"""Reading a run back: order, duplicates, earlier versions."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rddrs_dist import cli
from rddrs_dist.results import read, read_run
from rddrs_dist.results.columns import SCHEMA, SCHEMA_VERSION, added_after, removed_since
from rddrs_dist.results.store import Store

from .rows import row

# Made by version 0.7.0, with a soundness pass.
EARLIER = Path(__file__).parents[1] / "recorded" / "run-0.7.0"


def run(out: Path, rows: list[dict], *, done: bool = True) -> Path:
    """Writes a run of one part per row."""
    metadata, config = {"data_sha256": "d"}, {"dataset": "digits"}
    with Store.open(out, run_id="one", config=config, metadata=metadata) as store:
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
    source, _ = read_run(out)
    assert (source.run_id, source.dataset, source.complete) == ("one", "digits", False)
    assert source.config == {"dataset": "digits"} and source.metadata["data_sha256"] == "d"
    assert frame.attrs["complete"] is False and frame.attrs["dataset"] == "digits"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_part_of_an_earlier_version_reads_with_nulls_where_columns_are_new(tmp_path, version):
    out = run(tmp_path, [row(3)])
    path = out / "part-00000.parquet"
    part = pq.read_table(path)
    added = sorted(added_after(version))
    old = part.drop_columns(added)
    for name in removed_since(version):
        old = old.append_column(name, pa.array([2]))
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
    others = "colour: string, radius: double not null, seed: float, seed: int64 not null;"
    with pytest.raises(ValueError, match=f"version {SCHEMA_VERSION} and other columns: {others}"):
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
    with pytest.raises(FileNotFoundError, match="absent must be .*, got no such folder"):
        read(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"got a folder without part-\*\.parquet"):
        read(tmp_path)


def test_a_run_of_the_version_before_reads_with_its_settings_by_their_present_names(caplog):
    source, frame = read_run(EARLIER)
    assert len(frame) == 30 and set(frame["method"]) >= {"rs", "rddrs_tr"}
    assert source.config["sequential_tests"] == 1 and source.config["quantisation"] is None
    assert source.config["settings"]["rddrs_tr"]["decay"] == 0.7 and source.complete
    assert not any(name.startswith(("sound", "disjoint")) for name in frame.columns)
    (told,) = caplog.messages
    assert "_sound.parquet" in told and "run `rddrs disjoint` again" in told and "\n" not in told


def test_a_run_of_the_version_before_has_status_curves_and_report(capsys, tmp_path):
    page = tmp_path / "page.html"
    assert cli.main(["status", str(EARLIER)]) == 0
    assert capsys.readouterr().out.startswith("complete: 6/6 images")
    figures = ["--out", str(tmp_path), "--sizes", "proxy", "l2"]
    assert cli.main(["curves", str(EARLIER), *figures]) == 0
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["curves-l2.png", "curves-proxy.png", "p-lower.png"]
    assert "Disjoint" not in capsys.readouterr().out
    assert cli.main(["report", str(EARLIER), "--out", str(page)]) == 0
    assert "no _scales-" in page.read_text()

"""What a run's folder tells while the run goes on, and its summary."""

import json
from functools import partial
from pathlib import Path

import pytest

from rddrs_dist.analysis import status
from rddrs_dist.analysis.tables import summary as summarise
from rddrs_dist.results import files as parts
from rddrs_dist.results import read, read_run
from rddrs_dist.results.store import Store
from tests.results.rows import abstention, row

from . import making
from .making import lines

# 20 images by this driver in 120 s are 10 a minute; 70 of 100 are left after 30.
KNOWN = {
    **{"images": 100, "done": 30, "before": 10, "started": 1000.0, "updated": 1120.0},
    **{"actors": 2, "wanted": 3, "retries": 4, "losses": 1},
}
run = partial(making.run, done=False)


def state(out: Path, now: float = 1120.0) -> str:
    """The first line of a status."""
    return status.status(out, now).splitlines()[0]


def test_progress_comes_back_as_written_and_leaves_no_temporary_file(tmp_path):
    assert status.progress(tmp_path) is None
    status.write_progress(tmp_path, **KNOWN | {"done": 1})
    status.write_progress(tmp_path, **KNOWN)
    assert status.progress(tmp_path) == KNOWN
    assert [path.name for path in tmp_path.iterdir()] == ["_progress.json"]


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b'{"images": 1', "got Expecting ',' delimiter"),
        (b"\xff\xfe\x00", "got .*decode"),
        (b"[1, 2]", "got list"),
        (b"{}", "got 'images'"),
        (json.dumps(KNOWN | {"done": "30"}).encode(), "got .*str"),
    ],
)
def test_progress_that_no_driver_wrote_is_one_line(tmp_path, content, got):
    (tmp_path / status.PROGRESS).write_bytes(content)
    with pytest.raises(ValueError, match=f"the JSON of a driver's progress .*{got}") as why:
        status.progress(tmp_path)
    assert "\n" not in str(why.value) and "remove it" in str(why.value)


def test_the_driver_may_go_on_in_a_folder_with_progress(tmp_path):
    out = run(tmp_path, [row(0)])
    status.write_progress(out, **KNOWN)
    own = {"run_id": "one", "config": {"dataset": "digits"}, "metadata": {}, "resume": True}
    with Store.open(out, **own) as store:
        assert store.finished() == {0}
    assert len(read(out)) == 1


def test_a_driver_that_is_silent_for_over_a_minute_has_stopped(tmp_path):
    out = run(tmp_path, [row(i) for i in range(30)], size=30)
    status.write_progress(out, **KNOWN)
    line = "30/100 images, 10.0 images/min, {}actors 2/3, retries 4, losses 1{}"
    running = "running: " + line.format("ETA 7.0 min, ", "")
    assert state(out) == state(out, now=1180.0) == running
    stopped = line.format("", "; go on with --resume")
    assert state(out, now=1180.1) == f"stopped 60 s ago: {stopped}"
    assert state(out, now=1120.0 + 7200) == f"stopped 2.0 h ago: {stopped}"


def test_a_complete_run_is_complete_however_old(tmp_path):
    out = run(tmp_path, [row(0), row(1)], done=True)
    assert state(out) == "complete: 2/2 images"
    status.write_progress(out, **KNOWN | {"images": 2, "done": 2, "before": 0})
    line = "complete: 2/2 images, 1.0 images/min, actors 2/3, retries 4, losses 1"
    assert state(out, now=1e9) == line == state(out)


def test_without_progress_nothing_is_claimed_about_a_driver(tmp_path):
    out = run(tmp_path, [row(0), row(0, "ddrs")], size=2)
    assert state(out) == "not complete: 1 images, no _progress.json tells of a driver"


def test_a_driver_counts_images_by_itself_and_without_one_those_on_disk_count(tmp_path):
    """Parts may be written after the driver last told, and rows may wait for their part."""
    failed = abstention(40, fit_status="failed", error="out of memory")
    out = run(tmp_path, [*(row(i) for i in range(40)), failed], size=41)
    status.write_progress(out, **KNOWN)
    assert state(out).startswith("running: 30/100 images, 10.0 images/min, ETA 7.0 min, ")
    assert state(out, now=2000.0).startswith("stopped 14.7 min ago: 40/100 images, 10.0 images/")
    assert "1 failed" in status.status(out, 2000.0)


@pytest.mark.parametrize("updated", [1000.0, 1120.0])
def test_before_the_first_image_no_time_left_is_known(tmp_path, updated):
    out = run(tmp_path, [])
    status.write_progress(out, **KNOWN | {"done": 10, "updated": updated})
    text = status.status(out, updated)
    assert text.startswith("running: 10/100 images, 0.0 images/min, ETA unknown, actors 2/3")
    assert text.endswith("\n\nno part is finished yet\n")


def test_table_and_unusual_fits_are_those_of_each_method(tmp_path):
    rs = [
        row(0, proxy_radius=1.9057, fit_status="closed_form", fit_seconds=0.5),
        row(1, proxy_radius=0.5, fit_status="max_steps", fit_seconds=0.1),
        row(2, proxy_radius=7.0, correct=False, prediction=5, fit_seconds=0.1),
        abstention(3, fit_status="nonfinite", certify_seconds=9.0, fit_seconds=0.2),
        row(4, proxy_radius=0.0, fit_status="deadline", certify_seconds=3.25),
        row(5, proxy_radius=0.0, fit_status="nonfinite", fit_seconds=0.4),
        row(6, proxy_radius=7.0, correct=False, prediction=5, certify_seconds=2.0),
    ]
    text = status.status(run(tmp_path, [*rs, row(0, "ddrs", proxy_radius=2.0)]), 0.0)
    table = [line.split() for line in text.splitlines()[3:6]]
    rs_told, ddrs_told = (dict(zip(table[0], line, strict=False)) for line in table[1:])
    # 4 of 7 are 57.14 %; (1.9057 + 0.5) / 7 = 0.34367: both are floored.
    names = ("method", "images", "abstained", "nonfinite")
    assert [rs_told[name] for name in names] == ["rs", "7", "1", "2"]
    # Of four right sizes and three that count as 0 the median is 0.
    assert table[1][6:11] == ["100.0", "0", "0.343", "0.000", "57.1"]
    assert table[1][-2:] == ["0.250", "1.500"]
    assert [ddrs_told[name] for name in names] == ["ddrs", "1", "0", "0"]
    assert text.count("unusual") == 1
    assert "unusual fits of rs: 1 deadline, 2 nonfinite\n" in text


def test_the_five_slowest_come_in_order(tmp_path):
    taken = {0: 1.0, 1: 6.0, 2: 3.0, 3: 2.0, 4: 5.0, 5: 4.0}
    rows = [row(i, fit_seconds=s / 2, certify_seconds=s / 2) for i, s in taken.items()]
    ddrs = row(4, "ddrs", fit_seconds=0.0, certify_seconds=5.5)
    lines = status.status(run(tmp_path, [*rows, ddrs]), 0.0).splitlines()
    assert [line.split() for line in lines[-6:]] == [
        ["index", "method", "seconds"],
        ["1", "rs", "6.000"],
        ["4", "ddrs", "5.500"],
        ["4", "rs", "5.000"],
        ["5", "rs", "4.000"],
        ["2", "rs", "3.000"],
    ]


def test_what_is_no_run_is_one_clear_line(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for path in (tmp_path / "absent", tmp_path / "notes.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match="must be the folder of a run, got "):
            status.status(path, 0.0)


def test_parts_that_are_not_finished_or_set_aside_while_they_are_read_are_left_out(
    tmp_path, monkeypatch
):
    out = run(tmp_path, [row(0), row(1)])
    (out / (parts.TEMPORARY + parts.part_name(2))).write_bytes(b"half")
    bad = out / parts.part_name(1)
    bad.write_bytes(b"bad")

    def reading(folder: Path, **options):
        try:
            return read_run(folder, **options)
        finally:
            if bad.exists():
                bad.rename(out / (parts.CORRUPT + bad.name))

    monkeypatch.setattr(status, "read_run", reading)
    assert state(out).startswith("not complete: 1 images")
    assert not bad.exists()


def test_a_part_that_stays_bad_is_named_and_not_waited_for(tmp_path):
    out = run(tmp_path, [row(0), row(1)])
    (out / parts.part_name(1)).write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"part-00001.parquet must be a whole Parquet"):
        status.status(out, 0.0)


def test_summary_is_json_without_nan_in_the_order_of_tables():
    ddrs = row(0, "ddrs", blindness_upper=None)
    found = lines([ddrs, abstention(0), row(1, proxy_radius=1.5, others_inside=None)])
    made = status.summary(found, {"images": 2, "gpus": None})
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["run"] == {"images": 2, "gpus": None}
    rs, ddrs = made["methods"]
    assert set(rs) == set(summarise(found).columns) and ddrs["method"] == "ddrs"
    assert (rs["method"], rs["images"], rs["proxy_acr"]) == ("rs", 2, 0.75)
    assert rs["proxy@1.5"] == 0.5 and rs["abstentions"] == 1 and type(rs["images"]) is int
    assert rs["with_others_inside"] is None
    assert (rs["sighted"], ddrs["sighted"]) == (1.0, None)

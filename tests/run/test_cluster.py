"""Runs on a real Ray: the same rows whoever computes them, and clean ends of every kind.

All runs here have one identity, that of the fixture `run`, so that their rows can be compared.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from rddrs_dist import cli
from rddrs_dist.analysis.status import SUMMARY
from rddrs_dist.results import read
from rddrs_dist.run import driver
from rddrs_dist.run.cluster import RayExecutor, connected
from rddrs_dist.run.events import read_events
from rddrs_dist.run.options import Run
from rddrs_dist.run.shards import Shard
from rddrs_dist.run.worker import Task

from .flags import as_flags

pytestmark = pytest.mark.ray

IMAGES = 12


def rows(out: Path) -> pd.DataFrame:
    """Everything in a folder but the times."""
    frame = read(out)
    return frame[[name for name in frame.columns if not name.endswith("_seconds")]]


def assert_same_rows(out: Path, reference: Path) -> None:
    pd.testing.assert_frame_equal(rows(out), rows(reference), check_exact=True)
    assert read(out).attrs["complete"]


def parts(out: Path) -> dict[str, int]:
    """Part files and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the rows of one undisturbed actor go; the first test that wants them writes them."""
    return tmp_path_factory.mktemp("reference") / "out"


@pytest.fixture
def quiet(reference: Path, run: Run) -> Path:
    """The rows of one undisturbed actor."""
    if not reference.exists():
        assert driver.certify(replace(run, out=reference, actors=1)) == {}
    return reference


def test_the_reference_is_whole(quiet: Path, run: Run, capsys: pytest.CaptureFixture[str]):
    frame = read(quiet)
    assert cli.main(["status", str(quiet)]) == cli.COMPLETE
    assert f"complete: {IMAGES}/{IMAGES} images" in capsys.readouterr().out
    told = json.loads((quiet / SUMMARY).read_text())
    assert told["run"] == {"images": IMAGES, "shards": IMAGES}
    assert [line["method"] for line in told["methods"]] == list(run.methods)
    assert len(frame) == IMAGES * len(run.methods)
    assert set(frame["method"]) == set(run.methods)
    assert frame.attrs["complete"]
    assert len(parts(quiet)) == IMAGES


@pytest.mark.parametrize("actors", [2, 3])
def test_rows_do_not_depend_on_the_number_of_actors(quiet: Path, run: Run, actors: int):
    assert driver.certify(replace(run, actors=actors)) == {}
    assert_same_rows(run.out, quiet)


def certify(run: Run) -> int:
    """The exit code of `rddrs certify` in this process."""
    return cli.main(["certify", *as_flags(run)])


def launch(run: Run, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A driver in a process group of its own, as a shell would start it."""
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "rddrs_dist.cli", "certify", *as_flags(run)],
            start_new_session=True,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **environment},
        )


def wait_for_a_part(out: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not parts(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def test_ctrl_c_keeps_what_is_done_and_resume_does_the_rest(quiet: Path, run: Run, tmp_path: Path):
    """On a local Ray; the whole group gets the signal, as from a terminal."""
    log = tmp_path / "log"
    process = launch(replace(run, address=None), log)
    wait_for_a_part(run.out, process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == cli.INTERRUPTED, log.read_text()
    assert "--resume" in log.read_text()
    assert "Traceback" not in log.read_text()
    kept = parts(run.out)
    assert 1 <= len(kept) < IMAGES
    assert not read(run.out).attrs["complete"]
    assert driver.certify(replace(run, resume=True)) == {}
    assert kept.items() <= parts(run.out).items()  # none was written again
    assert_same_rows(run.out, quiet)


def test_sigterm_stops_the_driver_with_143(run: Run, tmp_path: Path):
    log = tmp_path / "log"
    process = launch(run, log)
    wait_for_a_part(run.out, process)
    process.terminate()
    assert process.wait(60) == cli.DRAINED, log.read_text()
    assert "--resume" in log.read_text()
    assert 1 <= len(parts(run.out)) < IMAGES


def test_resuming_a_complete_run_does_nothing(
    quiet: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = parts(quiet)
    monkeypatch.setattr(driver, "connected", lambda run: pytest.fail("Ray was wanted"))
    assert certify(replace(run, out=quiet, resume=True)) == cli.COMPLETE
    assert parts(quiet) == before
    assert "complete" in capsys.readouterr().out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, which is one line."""
    text = capsys.readouterr().err
    assert text.startswith("rddrs: error: ")
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_another_configuration_is_refused(
    quiet: Path, run: Run, capsys: pytest.CaptureFixture[str], resume: bool
):
    before = parts(quiet)
    other = replace(run, out=quiet, seed=1, resume=resume)
    assert certify(other) == cli.WRONG
    assert "seed: 0 -> 1" in one_line(capsys)
    assert parts(quiet) == before


def test_a_request_that_cannot_be_met_says_what_there_is(
    run: Run, capsys: pytest.CaptureFixture[str]
):
    wanting = replace(run, gpus_per_actor=1, start_timeout=1)
    assert certify(wanting) == cli.NO_ACTORS
    text = one_line(capsys)
    assert "1 CPU and 1 GPU per actor" in text
    assert "3 CPU and 0 GPU" in text


def test_an_address_where_nobody_listens_is_one_line(run: Run, capsys: pytest.CaptureFixture[str]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert certify(replace(run, address=address)) == cli.WRONG
    assert f"no Ray cluster at {address}: start one" in one_line(capsys)


def test_an_actor_that_cannot_load_its_network_is_lost_and_says_why(run: Run):
    task = Task(run.fitted, run.methods, 0.25, run.budget, run.seed)
    with connected(run):
        executor = RayExecutor(run, task, b"torn", None)
        actor = executor.start()
        (event,) = executor.wait(60)
        executor.discard(actor)
    assert event.lost
    assert re.match("ActorDiedError: ValueError: checkpoint .*safetensors", event.error or "")


def test_an_image_that_fails_has_a_row_with_its_error_and_resume_tries_it_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    original = driver.split
    monkeypatch.setattr(driver, "split", lambda *given: broken(original(*given)))
    wanting = replace(run, methods=("rs",), actors=1, max_attempts=2, indices="0:80:20")
    wanting = replace(wanting, shard_size=2)
    assert certify(wanting) == cli.FAILED_IMAGES
    assert "for 2 images (first: image 0" in capsys.readouterr().err
    frame = read(run.out)
    assert frame["index"].tolist() == [0, 20, 40, 60]
    assert frame["fit_status"].tolist() == ["failed"] * 2 + ["closed_form"] * 2
    assert frame["prediction"].tolist()[:2] == [-1, -1] and not frame["correct"][:2].any()
    assert frame["error"][0].startswith("RuntimeError") and frame["error"][2:].isna().all()
    assert not frame.attrs["complete"]
    tried = read_events(run.out).to_pandas()
    assert tried[tried["index"] == 20]["outcome"].tolist() == ["failed"] * 5
    assert tried[tried["index"] == 20]["resort"].tolist() == [False] * 4 + [True]
    assert tried[tried["index"] == 40]["outcome"].tolist() == ["done"]
    monkeypatch.setattr(driver, "split", original)
    assert certify(replace(wanting, resume=True)) == cli.COMPLETE
    assert read(run.out)["error"].isna().all()


def broken(shards: list[Shard]) -> list[Shard]:
    """The first shard with images that do not fit the network."""
    return [replace(shards[0], images=shards[0].images[:, :, :3]), *shards[1:]]


def test_a_fit_that_may_take_no_time_says_so(run: Run):
    """The soft deadline: the noise at which the fit was is certified."""
    assert driver.certify(replace(run, indices="0", fit_seconds=1e-6, methods=("ancer",))) == {}
    frame = read(run.out)
    assert frame["fit_status"].tolist() == ["deadline"]
    assert frame["fit_steps"].tolist() == [0]

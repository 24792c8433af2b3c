"""Runs on a real Ray: the same rows whoever computes them, and clean ends of every kind.

All runs here have one identity, that of the fixture `run`, so that their rows can be compared;
`quiet` has those that were computed without Ray.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rddrs_dist import cli
from rddrs_dist.results import read
from rddrs_dist.run.cluster import RayExecutor, connected
from rddrs_dist.run.driver import read_inputs
from rddrs_dist.run.options import Run

from .flags import as_flags
from .runs import assert_same_rows, certify, changed, one_line, parts, scales, wait_for

pytestmark = pytest.mark.ray

IMAGES = 12


def test_rows_and_scales_of_three_actors_are_those_of_a_run_without_ray(quiet: Path, run: Run):
    """Those of two are compared by test_job.py and test_faults.py."""
    assert certify(run, actors=3, save_scales=True) == cli.COMPLETE
    assert_same_rows(run.out, quiet)
    assert scales(run.out) == scales(quiet)
    assert len(scales(quiet)) == IMAGES


def launch(run: Run, log: Path) -> subprocess.Popen[bytes]:
    """A driver in a process group of its own, as from a shell, once it has written a part."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "rddrs_dist.cli", "certify", *as_flags(run)],
            start_new_session=True, stdout=stream, stderr=stream,
        )  # fmt: skip
    wait_for(lambda: parts(run.out) or process.poll() is not None, 90)
    return process


def test_ctrl_c_keeps_what_is_done_and_resume_does_the_rest(quiet: Path, run: Run, tmp_path: Path):
    """On a local Ray; the whole group gets the signal, as from a terminal."""
    log = tmp_path / "log"
    process = launch(changed(run, address=None), log)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == cli.INTERRUPTED, log.read_text()
    assert "--resume" in log.read_text()
    assert "Traceback" not in log.read_text()
    kept = parts(run.out)
    assert 1 <= len(kept) < IMAGES
    assert not read(run.out).attrs["complete"]
    # What Ray has begun, this process may end: who computes is no part of a run's identity.
    without_ray = changed(run, executor="local", actors=None, address=None, resume=True)
    assert certify(without_ray) == cli.COMPLETE
    assert kept.items() <= parts(run.out).items()  # none was written again
    assert_same_rows(run.out, quiet)


def test_a_request_that_cannot_be_met_says_what_there_is(
    run: Run, capsys: pytest.CaptureFixture[str]
):
    assert certify(run, gpus_per_actor=1, start_timeout=1) == cli.NO_ACTORS
    text = one_line(capsys)
    assert "1 CPU and 1 GPU per actor" in text
    assert "3 CPU and 0 GPU" in text


def test_an_address_where_nobody_listens_is_one_line(
    here: Run, capsys: pytest.CaptureFixture[str]
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert certify(here, executor="ray", address=address) == cli.WRONG
    assert f"no Ray cluster at {address}: start one" in one_line(capsys)


def test_an_actor_that_cannot_load_its_network_is_lost_and_says_why(run: Run):
    with connected(run.execution):
        executor = RayExecutor(read_inputs(run).experiment, run.execution, b"torn", None)
        actor = executor.start()
        (event,) = executor.wait(60)
        executor.discard(actor)
    assert event.lost
    assert re.match("ActorDiedError: ValueError: checkpoint .*safetensors", event.error or "")

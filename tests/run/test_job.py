"""What `ray job submit` runs, submitted to a real head."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_actors

from rddrs_dist import cli
from rddrs_dist.results import read
from rddrs_dist.run import driver
from rddrs_dist.run.config import Run

from .conftest import Head
from .flags import as_flags

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
_JOB_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """A job that has ended: the exit code of its driver and what it printed."""

    code: int | None
    log: str


def submit(head: Head, flags: list[str]) -> Ended:
    """Submits the job with the project as its working directory, and waits for it."""
    client = JobSubmissionClient(head.dashboard)
    job = client.submit_job(
        entrypoint=" ".join([sys.executable, "jobs/certify_mnist.py", *flags]),
        runtime_env={"working_dir": str(ROOT)},
    )
    deadline = time.monotonic() + _JOB_SECONDS
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.3)
    return Ended(client.get_job_info(job).driver_exit_code, client.get_job_logs(job))


def actors(head: Head) -> int:
    """How many workers the head has seen so far."""
    return len(list_actors(head.dashboard, filters=[("class_name", "=", "_Actor")]))


def test_the_job_certifies_on_the_cluster_it_runs_in(head: Head, run: Run, tmp_path: Path):
    before = actors(head)
    # No address: the job finds its cluster in the environment.
    ended = submit(head, as_flags(replace(run, indices="0:240:60", address=None)))
    assert ended.code == cli.COMPLETE, ended.log
    assert actors(head) == before + run.actors
    assert "4/4 images" in ended.log
    assert f"complete: rows in {run.out}" in ended.log
    frame = read(run.out)
    assert frame.attrs["complete"]
    assert len(frame) == 4 * len(run.methods)
    assert frame.attrs["config"]["n"] == run.n
    again = replace(run, out=tmp_path / "again", indices="0:240:60", methods=("rs",), actors=1)
    assert driver.certify(again) == {}
    assert read(again.out)["count"].tolist() == frame[frame["method"] == "rs"]["count"].tolist()


def test_a_relative_folder_for_the_results_is_refused(head: Head, run: Run):
    ended = submit(head, as_flags(replace(run, out=Path("results"), address=None)))
    assert ended.code == cli.WRONG
    assert "--out must be an absolute path" in ended.log
    assert "got results" in ended.log

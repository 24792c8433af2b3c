"""What `ray job submit` runs, submitted to a real head."""

import sys
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ray._private.runtime_env import packaging
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors

from rddrs_dist import cli
from rddrs_dist.results import files as parts
from rddrs_dist.results import read
from rddrs_dist.run import driver
from rddrs_dist.run.options import Run

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


def begin(head: Head, flags: list[str]) -> str:
    """Submits the job with the project as its working directory; its submission id."""
    return JobSubmissionClient(head.dashboard).submit_job(
        entrypoint=" ".join([sys.executable, "jobs/certify_mnist.py", *flags]),
        runtime_env={"working_dir": str(ROOT)},
    )


def ended(head: Head, job: str) -> Ended:
    """Waits for the end of a job."""
    client = JobSubmissionClient(head.dashboard)
    deadline = time.monotonic() + _JOB_SECONDS
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(0.3)
    return Ended(client.get_job_info(job).driver_exit_code, client.get_job_logs(job))


def submit(head: Head, flags: list[str]) -> Ended:
    """Submits the job and waits for its end."""
    return ended(head, begin(head, flags))


def actors(head: Head) -> int:
    """How many workers the head has seen so far."""
    return len(list_actors(head.dashboard, filters=[("class_name", "=", "_Actor")]))


def test_the_job_certifies_on_the_cluster_it_runs_in(head: Head, run: Run, tmp_path: Path):
    before = actors(head)
    # No address: the job finds its cluster in the environment.
    job = submit(head, as_flags(replace(run, indices="0:240:60", address=None)))
    assert job.code == cli.COMPLETE, job.log
    assert actors(head) == before + run.actors
    assert "4/4 images" in job.log
    assert f"complete: rows in {run.out}" in job.log
    frame = read(run.out)
    assert frame.attrs["complete"]
    assert len(frame) == 4 * len(run.methods)
    assert frame.attrs["config"]["n"] == run.n
    again = replace(run, out=tmp_path / "again", indices="0:240:60", methods=("rs",), actors=1)
    assert driver.certify(again) == {}
    assert read(again.out)["count"].tolist() == frame[frame["method"] == "rs"]["count"].tolist()


def test_a_relative_folder_for_the_results_is_refused(head: Head, run: Run):
    job = submit(head, as_flags(replace(run, out=Path("results"), address=None)))
    assert job.code == cli.WRONG
    assert "--out must be an absolute path" in job.log
    assert "got results" in job.log


def test_a_job_that_is_stopped_keeps_its_shards_and_a_second_one_does_the_rest(
    head: Head, run: Run
):
    whole = replace(run, address=None)
    job = begin(head, as_flags(whole))
    deadline = time.monotonic() + _JOB_SECONDS
    while not list(run.out.glob("part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    client = JobSubmissionClient(head.dashboard)
    assert client.stop_job(job)
    assert "--resume" in ended(head, job).log
    assert client.get_job_status(job) == JobStatus.STOPPED
    kept = {path: path.stat().st_mtime_ns for path in parts.part_paths(run.out).values()}
    assert 1 <= len(kept) < 12
    again = submit(head, as_flags(replace(whole, resume=True)))
    assert again.code == cli.COMPLETE, again.log
    assert "12/12 images" in again.log
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    frame = read(run.out)
    assert frame.attrs["complete"]
    assert not frame.duplicated(["index", "method"]).any()
    assert len(frame) == 12 * len(run.methods)


def test_what_a_job_uploads_is_small_and_has_neither_data_nor_weights(tmp_path: Path):
    """As Ray itself packs the folder; it refuses more than 100 MiB."""
    package = tmp_path / "upload.zip"
    packaging.create_package(str(ROOT), package, include_gitignore=True)
    assert package.stat().st_size < 1 << 20
    names = zipfile.ZipFile(package).namelist()
    assert "jobs/certify_mnist.py" in names and "rddrs_dist/cli.py" in names
    unwanted = (".safetensors", ".pth", ".parquet")
    left = [name for name in names if name.startswith(("tests/", ".git/", "docs/"))]
    assert not left and not [name for name in names if name.endswith(unwanted)]

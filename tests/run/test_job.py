"""What `ray job submit` runs, submitted to a real head."""

import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import certify_mnist
import pandas as pd
import pytest
from ray._private.runtime_env import packaging
from ray.job_submission import JobStatus, JobSubmissionClient
from ray.util.state import list_actors

from rddrs_dist import cli
from rddrs_dist.run.options import Run

from .conftest import Head
from .flags import as_flags
from .runs import assert_same_rows, changed, one_line, parts, rows, wait_for

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
    wait_for(lambda: client.get_job_status(job).is_terminal(), _JOB_SECONDS)
    return Ended(client.get_job_info(job).driver_exit_code, client.get_job_logs(job))


def submit(head: Head, flags: list[str]) -> Ended:
    """Submits the job and waits for its end."""
    return ended(head, begin(head, flags))


def actors(head: Head) -> int:
    """How many workers the head has seen so far."""
    return len(list_actors(head.dashboard, filters=[("class_name", "=", "_Actor")]))


def test_the_job_certifies_on_the_cluster_it_runs_in(head: Head, run: Run, quiet: Path):
    before = actors(head)
    # No address: the job finds its cluster in the environment.
    job = submit(head, as_flags(changed(run, indices="0:240:60", address=None)))
    assert job.code == cli.COMPLETE, job.log
    assert actors(head) == before + run.execution.workers
    assert "4/4 images" in job.log
    assert f"complete: rows in {run.out}" in job.log
    found, wanted = rows(run.out), rows(quiet)
    wanted = wanted[wanted["index"] % 60 == 0].reset_index(drop=True)
    assert found.attrs["complete"] and found.attrs["config"]["n"] == run.n
    pd.testing.assert_frame_equal(
        found.drop(columns="shard"), wanted.drop(columns="shard"), check_exact=True
    )


def test_a_relative_folder_for_the_results_is_refused(
    capsys: pytest.CaptureFixture[str],
):
    """Before Ray is asked for anything."""
    assert certify_mnist.main(["--out", "results"]) == cli.WRONG
    text = one_line(capsys)
    assert "--out must be an absolute path" in text and "got results" in text


def test_a_job_that_is_stopped_keeps_its_shards_and_a_second_one_does_the_rest(
    head: Head, run: Run, quiet: Path
):
    whole = changed(run, address=None)
    job = begin(head, as_flags(whole))
    wait_for(lambda: parts(run.out), _JOB_SECONDS)
    client = JobSubmissionClient(head.dashboard)
    assert client.stop_job(job)
    assert "--resume" in ended(head, job).log
    assert client.get_job_status(job) == JobStatus.STOPPED
    kept = parts(run.out)
    assert 1 <= len(kept) < 12
    again = submit(head, as_flags(changed(whole, resume=True)))
    assert again.code == cli.COMPLETE, again.log
    assert "12/12 images" in again.log
    assert kept.items() <= parts(run.out).items()  # none was written again
    assert_same_rows(run.out, quiet)


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

"""A small network and a Ray of our own, started once for the tests that need them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rddrs_dist import cli
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.options import Run
from tests.small_run import QUICK

from .runs import certify

_START_SECONDS = 90


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """A LeNet for the 8x8 digits, trained with noise of 0.25."""
    return Path(__file__).parents[1] / "recorded" / "digits-lenet-0.25.safetensors"


@dataclass(frozen=True)
class Head:
    """A running Ray head: where drivers connect, and where jobs are submitted."""

    address: str
    dashboard: str


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A head of three CPUs in its own process group, on free ports."""
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    names += ("ray-client-server-port", "metrics-export-port")
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    # Paths of sockets must be short; the folder that pytest would give is not.
    folder = Path(tempfile.mkdtemp(prefix="rddrs-", dir="/tmp"))
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *("--num-cpus=3", "--num-gpus=0", "--dashboard-host=127.0.0.1"),
        *(f"--{name}={port}" for name, port in ports.items()),
        *(f"--temp-dir={folder}", "--object-store-memory=100000000"),
    ]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
    try:
        dashboard = f"http://127.0.0.1:{ports['dashboard-port']}"
        _await(process, f"{dashboard}/api/jobs/", folder / "head.log")
        yield Head(f"127.0.0.1:{ports['port']}", dashboard)
    finally:
        # Its process group, and with it the workers, which watch it; nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Returns once the head takes jobs."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.3)
    pytest.fail(f"no Ray head after {_START_SECONDS} s: {log.read_text()[-2000:]}")


def _here(checkpoint: Path, out: Path) -> Run:
    """All methods on twelve digits, one to a shard, in this process, with quick fits."""
    small = {"indices": "0:240:20", "n": 200, "alpha": 0.01, "shard_size": 1, "sight_samples": 500}
    here = Execution(executor="local")
    return Run(checkpoint=checkpoint, out=out, execution=here, settings=QUICK, **small)


@pytest.fixture
def here(checkpoint: Path, tmp_path: Path) -> Run:
    """A small run without Ray."""
    return _here(checkpoint, tmp_path / "out")


@pytest.fixture
def run(here: Run, head: Head) -> Run:
    """The same run on the head, by two actors."""
    return replace(here, execution=Execution(actors=2, address=head.address))


@pytest.fixture(scope="session")
def quiet(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the undisturbed run without Ray, with its scales; nobody may change them."""
    out = tmp_path_factory.mktemp("quiet") / "out"
    assert certify(_here(checkpoint, out), save_scales=True) == cli.COMPLETE
    return out

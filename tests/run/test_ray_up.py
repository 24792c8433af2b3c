"""`ray up cluster.yaml` on this machine, and a job on the cluster that it makes."""

import getpass
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rddrs_dist.results import read
from rddrs_dist.run.options import Run

from .conftest import Head, _free_ports
from .flags import as_flags
from .runs import wait_for

ROOT = Path(__file__).resolve().parents[2]
_RAY = (sys.executable, "-m", "ray.scripts.scripts")
_CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")  # not in every kernel
_READY_SECONDS = 60

# `ray up` leaves daemons behind. As their reaper the keeper becomes the parent of each, so that it
# can end them all and nothing else; it does so even where the test is killed, which closes stdin.
_KEEPER = """
import ctypes, os, pathlib, signal, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.stdin.read()
children = pathlib.Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
while pids := [int(pid) for pid in children.read_text().split()]:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""

# In the place of ssh. Like sshd it gives the command to the user's shell, with nothing of the
# caller's environment.
_SSH = """#!/bin/bash
while [[ $1 == -* ]]; do
    case $1 in -i | -o | -L) shift 2 ;; *) shift ;; esac
done
exec env -i HOME="$HOME" USER="$(id -un)" PATH=/usr/local/bin:/usr/bin:/bin bash -c "${*:2}"
"""

# In the place of rsync, whose `folder/` is what is in the folder. It leaves nothing out.
_RSYNC = """#!/bin/bash
source=${@: -2:1} target=${@: -1}
target=${target#*:}
exec cp -R "${source/%\\//\\/.}" "${target/#\\~/$HOME}"
"""

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(480),  # about a minute on two busy cores, after the start of `head`
    pytest.mark.skipif(not _CHILDREN.exists(), reason="needs Linux's lists of children"),
    pytest.mark.skipif(not Path(sys.prefix, "bin/activate").exists(), reason="needs a venv"),
    # Ray itself runs uptime to see whether a machine is there.
    pytest.mark.skipif(not all(map(shutil.which, ("make", "uptime"))), reason="needs both"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder with a home for the cluster's user, and scripts for ssh and rsync."""
    # Paths of sockets must be short; the folder that pytest would give is not.
    path = Path(tempfile.mkdtemp(prefix="rddrs-", dir="/tmp"))
    for name in ("home", "bin"):
        (path / name).mkdir()
    for name, text in {"ssh": _SSH, "rsync": _RSYNC}.items():
        (path / "bin" / name).write_text(text)
        (path / "bin" / name).chmod(0o755)
    # By default Ray would write where the other Rays of this machine do.
    (path / "home/.bashrc").write_text(f"export TMPDIR={path}\n")
    yield path
    shutil.rmtree(path)


def _environment(folder: Path) -> dict[str, str]:
    """What is set where the user types the commands of jobs/README.md."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join((str(folder / "bin"), os.environ["PATH"]))
    ray = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    return here | ray | {"HOME": str(folder / "home"), "TMPDIR": str(folder), "PATH": path}


@contextmanager
def _kept(command: str, folder: Path) -> Iterator[int]:
    """Runs a command of the shell, gives its exit code, and ends all that it has started."""
    shell = f"{{ {command}; }} > {folder}/up.log 2>&1; echo $?"
    keeper = subprocess.Popen(
        [sys.executable, "-c", _KEEPER, "sh", "-c", shell],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=_environment(folder),
        start_new_session=True,
    )
    assert keeper.stdout
    try:
        yield int(keeper.stdout.readline())
    finally:
        keeper.communicate(timeout=30)


def _swap(text: str, old: str, new: str) -> str:
    """Replaces what must be there once."""
    assert text.count(old) == 1, f"{old} in {text}"
    return text.replace(old, new)


def _adapted(ports: list[int]) -> dict[str, Any]:
    """The project's cluster.yaml, with no other changes than these for a machine of tests."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    config["auth"]["ssh_user"] = getpass.getuser()
    (setup,) = config["setup_commands"]
    # The present environment; make still says whether all that it needs was copied.
    install = f"make --dry-run install > make.log && ln -s {shlex.quote(sys.prefix)} .venv"
    config["setup_commands"] = [_swap(setup, "make install", install)]
    (start,) = config["head_start_ray_commands"]
    # Ports that no other Ray on the machine has.
    start = _swap(start, "--dashboard-port=8265", f"--dashboard-port={ports[0]}")
    start = _swap(start, "--port=6379", f"--port={ports[1]}")
    names = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export")
    pairs = zip((*names, "ray-client-server"), ports[2:], strict=True)
    more = [f"--{name}-port={port}" for name, port in pairs]
    config["head_start_ray_commands"] = [" ".join([start, *more])]
    return config


def _status(dashboard: str, token: str | None = None) -> int:
    """What a dashboard answers to a question about its jobs."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{dashboard}/api/jobs/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0  # nobody is there


def test_a_job_runs_on_the_cluster_that_ray_up_makes(folder: Path, head: Head, run: Run):
    alone = replace(run.execution, actors=1, address=None)
    run = replace(run, indices="0:240:120", methods=("rs", "rddrs"), execution=alone)
    ports, token = _free_ports(6), folder / "home/.ray/auth_token"
    dashboard = f"http://127.0.0.1:{ports[0]}"
    (folder / "cluster.yaml").write_text(yaml.safe_dump(_adapted(ports)))
    job = (*_RAY, "job", "submit", "--working-dir", ".", "--", "python", "jobs/certify_mnist.py")
    with _kept(shlex.join([*_RAY, "up", "-y", str(folder / "cluster.yaml")]), folder) as code:
        assert code == 0, (folder / "up.log").read_text()
        # Once the cluster takes jobs.
        assert wait_for(
            lambda: token.exists() and _status(dashboard, token.read_text()) == 200, _READY_SECONDS
        )
        # The dashboard is for this machine's users with the token, the token for its owner.
        assert {_status(dashboard), _status(dashboard, "0" * 64)} <= {401, 403}
        assert token.stat().st_mode & 0o777 == 0o600
        ended = subprocess.run(
            [*job, *as_flags(run)],
            cwd=ROOT,
            env=_environment(folder) | {"RAY_ADDRESS": dashboard},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert run.out is not None
    frame = read(run.out)
    rows = set(zip(frame["index"], frame["method"], strict=True))
    assert rows == {(0, "rs"), (0, "rddrs"), (120, "rs"), (120, "rddrs")}
    assert _status(head.dashboard) == 200  # the other Ray of this machine goes on

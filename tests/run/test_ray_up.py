"""`ray up cluster.yaml` on this machine, and a job on the cluster that it makes."""

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rddrs_dist.results import read
from rddrs_dist.run.options import Run

from .conftest import Head, _free_ports
from .flags import as_flags

ROOT = Path(__file__).resolve().parents[2]
_RAY = (sys.executable, "-m", "ray.scripts.scripts")
_PROGRAMS = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
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

# Like sshd it gives the command to the user's shell, with nothing of the caller's environment.
_SSH = """#!/bin/bash
while [[ $1 == -* ]]; do
    case $1 in -i | -o | -L) shift 2 ;; *) shift ;; esac
done
exec env -i HOME="$HOME" USER="$(id -un)" PATH=/usr/local/bin:/usr/bin:/bin bash -c "${*:2}"
"""

# Like rsync it takes `folder/` for what is in the folder. It leaves nothing out.
_RSYNC = """#!/bin/bash
source=${@: -2:1} target=${@: -1}
target=${target#*:}
exec cp -R "${source/%\\//\\/.}" "${target/#\\~/$HOME}"
"""

# UsePAM and StrictModes are for a system's sshd; the temporary folder is the user's home.
_SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
SetEnv HOME={folder}/home
"""


def _missing(*programs: str) -> str | None:
    """Why the test cannot run, if programs are missing."""
    missing = [one for one in programs if not shutil.which(one, path=_PROGRAMS)]
    return f"not installed: {', '.join(missing)}" if missing else None


pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(480),  # about a minute each on two busy cores, after the start of `head`
    pytest.mark.skipif(not _CHILDREN.exists(), reason="needs Linux's lists of children"),
    pytest.mark.skipif(not Path(sys.prefix, "bin/activate").exists(), reason="needs a venv"),
    # Ray itself runs uptime to see whether a machine is there.
    pytest.mark.skipif(bool(_missing("make", "uptime")), reason=str(_missing("make", "uptime"))),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder with a home for the cluster's user and an empty bin."""
    # Paths of sockets must be short; the folder that pytest would give is not.
    path = Path(tempfile.mkdtemp(prefix="rddrs-", dir="/tmp"))
    for name in ("home", "bin"):
        (path / name).mkdir()
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
        assert _processes(folder) == []


def _processes(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found: list[str] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(file.read_text(errors="replace").replace("\0", " "))
    return [one for one in found if str(folder) in one]


def _script(path: Path, text: str) -> None:
    """Writes a program."""
    path.write_text(text)
    path.chmod(0o755)


@dataclass(frozen=True)
class Transport:
    """A way to run commands on this machine.

    Attributes:
        auth: What to write under `auth` of cluster.yaml to use it.
        server: The command, if any, that starts what takes the calls.
    """

    auth: dict[str, str]
    server: str = "true"


@contextmanager
def _stand_ins(folder: Path) -> Iterator[Transport]:
    """Puts scripts in the place of ssh and rsync; there is nothing to log in to."""
    _script(folder / "bin/ssh", _SSH)
    _script(folder / "bin/rsync", _RSYNC)
    yield Transport({})


@contextmanager
def _sshd(folder: Path) -> Iterator[Transport]:
    """Sets up an sshd of our own, for a free port of the loopback address."""
    if reason := _missing("ssh", "sshd", "ssh-keygen", "rsync"):
        pytest.skip(reason)
    (port,) = _free_ports(1)
    for name in ("host", "key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    (folder / "sshd").write_text(_SSHD.format(port=port, folder=folder))
    # Ray has no setting for the port. Of an ssh option that is given twice the first one counts.
    ssh = f"{shutil.which('ssh')} -F none -p {port} -o ControlPath={folder}/%C"
    _script(folder / "bin/ssh", f'#!/bin/sh\nexec {ssh} "$@"\n')
    server = f"{shutil.which('sshd', path=_PROGRAMS)} -f {folder}/sshd -E {folder}/sshd.log"
    with _privileges():
        yield Transport({"ssh_private_key": str(folder / "key")}, server)


@contextmanager
def _privileges() -> Iterator[None]:
    """Makes the empty folder that sshd wants where it is started by root, as its service does."""
    path = Path("/run/sshd")
    ours = os.geteuid() == 0 and not path.exists()
    if ours:
        path.mkdir(mode=0o755)
    try:
        yield
    finally:
        if ours:
            path.rmdir()


@pytest.fixture(params=[_stand_ins, _sshd], ids=["stand-ins", "sshd"])
def transport(request: pytest.FixtureRequest, folder: Path) -> Iterator[Transport]:
    """Small scripts that always work, and a real sshd where there is one."""
    with request.param(folder) as one:
        yield one


def _swap(text: str, old: str, new: str) -> str:
    """Replaces what must be there once."""
    assert text.count(old) == 1, f"{old} in {text}"
    return text.replace(old, new)


def _adapted(auth: dict[str, str], ports: list[int]) -> dict[str, Any]:
    """The project's cluster.yaml, with no other changes than these for a machine of tests."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    config["auth"] |= {"ssh_user": getpass.getuser(), **auth}
    (setup,) = config["setup_commands"]
    # The present environment; make still says whether all that it needs was copied.
    install = f"make --dry-run install > make.log && ln -s {shlex.quote(sys.prefix)} .venv"
    config["setup_commands"] = [_swap(setup, "make install", install)]
    (start,) = config["head_start_ray_commands"]
    config["head_start_ray_commands"] = [_on_ports(start, ports)]
    return config


def _on_ports(start: str, ports: list[int]) -> str:
    """The start command with ports that no other Ray on the machine has, the dashboard's first."""
    dashboard, head, *others = ports
    start = _swap(start, "--dashboard-port=8265", f"--dashboard-port={dashboard}")
    start = _swap(start, "--port=6379", f"--port={head}")
    names = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export")
    pairs = zip((*names, "ray-client-server"), others, strict=True)
    return " ".join([start, *(f"--{name}-port={port}" for name, port in pairs)])


@dataclass(frozen=True)
class Cluster:
    """A cluster that `ray up` has made.

    Attributes:
        port: Of the dashboard.
        folder: Where its user has a home.
    """

    port: int
    folder: Path

    @property
    def dashboard(self) -> str:
        """Where jobs are submitted."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> Path:
        """The file with the token."""
        return self.folder / "home/.ray/auth_token"

    def submit(self, flags: list[str]) -> subprocess.CompletedProcess[str]:
        """Submits the job as jobs/README.md says, and waits for it."""
        job = ("job", "submit", "--working-dir", ".", "--", "python", "jobs/certify_mnist.py")
        return subprocess.run(
            [*_RAY, *job, *flags],
            cwd=ROOT,
            env=_environment(self.folder) | {"RAY_ADDRESS": self.dashboard},
            capture_output=True,
            text=True,
        )


@contextmanager
def _up(transport: Transport, folder: Path) -> Iterator[Cluster]:
    """Makes the cluster with `ray up`, and ends it without `ray down`."""
    ports = _free_ports(6)
    (folder / "cluster.yaml").write_text(yaml.safe_dump(_adapted(transport.auth, ports)))
    ray = shlex.join([*_RAY, "up", "-y", str(folder / "cluster.yaml")])
    with _kept(f"{transport.server} && {ray}", folder) as code:
        assert code == 0, (folder / "up.log").read_text()
        cluster = Cluster(ports[0], folder)
        _await(cluster)
        yield cluster


def _await(cluster: Cluster) -> None:
    """Returns once the cluster takes jobs."""
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            if _status(cluster.dashboard, cluster.token.read_text()) == 200:
                return
        time.sleep(0.3)
    pytest.fail(f"no dashboard that takes the token after {_READY_SECONDS} s")


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


def _listening(port: int) -> set[str]:
    """Addresses on which something listens to a port, in the kernel's hexadecimal digits."""
    tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
    lines = [line.split() for one in tables if one.exists() for line in one.open()]
    ends = [line[1].split(":") for line in lines if line[3] == "0A"]
    return {address for address, number in ends if int(number, 16) == port}


def _check_that_it_is_closed(cluster: Cluster) -> None:
    """The dashboard is for this machine's users with the token, and the token for its owner."""
    assert _status(cluster.dashboard) in {401, 403}
    assert _status(cluster.dashboard, "0" * 64) in {401, 403}
    assert cluster.token.stat().st_mode & 0o777 == 0o600
    assert _listening(cluster.port) == {socket.inet_aton("127.0.0.1")[::-1].hex().upper()}


def test_a_job_runs_on_the_cluster_that_ray_up_makes(
    transport: Transport, folder: Path, head: Head, run: Run
):
    run = replace(run, indices="0:240:120", methods=("rs", "rddrs"), actors=1, address=None)
    with _up(transport, folder) as cluster:
        _check_that_it_is_closed(cluster)
        ended = cluster.submit(as_flags(run))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert f"complete: rows in {run.out}" in ended.stdout
    assert run.out is not None
    frame = read(run.out)
    assert frame.attrs["complete"]
    rows = set(zip(frame["index"], frame["method"], strict=True))
    assert len(frame) == 4
    assert rows == {(0, "rs"), (0, "rddrs"), (120, "rs"), (120, "rddrs")}
    assert _listening(cluster.port) == set()
    assert _status(head.dashboard) == 200  # the other Ray of this machine goes on

"""Faults that a run has to survive, injected into a real Ray of several nodes on this machine."""

import ctypes
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from rddrs_dist import cli
from rddrs_dist.results import files
from rddrs_dist.run import driver
from rddrs_dist.run.cluster import RayExecutor
from rddrs_dist.run.scheduler import Shard

# Workers cannot import this module, so what they get from it goes by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Seconds until a node that is gone is known to be: half a minute with Ray's own settings.
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
# What befalls a call just before it: it gets the executor, the actor and its shard, and may return
# another shard that is sent in its place.
Blow = Callable[[RayExecutor, int, Shard], Shard | None]

# Beyond what the machine had in use: what Ray allows, and what the actor takes over that. Others
# may give memory back meanwhile, so that it is told how much is to be in use and not what to take.
_ALLOWED_BYTES, _OVER_BYTES = 2 << 30, 1 << 30
_CHUNK_BYTES = 64 << 20


@dataclass
class Bed:
    """A Ray whose nodes may be lost: a head that does no work, and nodes of one CPU each."""

    cluster: Cluster
    nodes: list[Any] = field(default_factory=list)

    @classmethod
    @contextmanager
    def made(cls, nodes: int) -> Iterator["Bed"]:
        """Starts it, and ends it with all its processes."""
        head = {"num_cpus": 0, "_system_config": _HEALTH, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            bed = cls(cluster)
            for _ in range(nodes):
                bed.join()
            yield bed
        finally:
            cluster.shutdown()

    @property
    def address(self) -> str:
        """Where drivers connect."""
        return str(self.cluster.address)

    def join(self, **environment: str) -> None:
        """Adds a worker node."""
        own = {"object_store_memory": 100_000_000, "env_vars": environment or None}
        self.nodes.append(self.cluster.add_node(num_cpus=1, **own))

    def remove(self, which: int = 0) -> None:
        """Kills the processes of a worker node, the oldest one, without a word to Ray."""
        self.cluster.remove_node(self.nodes.pop(which), allow_graceful=False)


@dataclass(frozen=True)
class Case:
    """A run to be disturbed: its flags of `rddrs certify`, with `--out` and `--address`."""

    bed: Bed
    flags: Sequence[str]

    @property
    def out(self) -> Path:
        """Folder of its rows."""
        return Path(self.flags[self.flags.index("--out") + 1])

    @property
    def parts(self) -> dict[int, Path]:
        """Part files on disk, by shard."""
        return files.part_paths(self.out) if self.out.exists() else {}

    def certify(self, **changes: Any) -> None:
        """Does the run in this process, with changes to who computes it."""
        run = cli.parse(["certify", *self.flags])
        driver.certify(replace(run, execution=replace(run.execution, **changes)))

    def struck(self, blow: Blow, **changes: Any) -> bool:
        """Does the run with a fault at its third call; whether there was that call."""
        original, calls = RayExecutor.submit, itertools.count(1)

        def submit(executor: RayExecutor, actor: int, shard: Shard, resort: bool) -> None:
            given = blow(executor, actor, shard) if next(calls) == 3 else None
            original(executor, actor, given or shard, resort)

        with mock.patch.object(RayExecutor, "submit", submit):
            self.certify(**changes)
        return next(calls) > 3

    def begun(self) -> "subprocess.Popen[bytes]":
        """A driver in a process of its own that has written a part and goes on."""
        command = [sys.executable, "-m", "rddrs_dist.cli", "certify", *self.flags]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)
        while not self.parts and process.poll() is None:
            time.sleep(0.02)
        return process

    def interrupted(self) -> Path:
        """Kills a driver that has begun with SIGKILL; returns a part it left."""
        process = self.begun()
        process.kill()
        process.wait()
        return next(iter(self.parts.values()))


FAULTS: dict[str, Callable[[Case], bool]] = {}


def _fault(function: Callable[[Case], bool]) -> Callable[[Case], bool]:
    """Enters a fault under its name; it returns whether the run met it."""
    FAULTS[function.__name__.replace("_", " ")] = function
    return function


def _inside(executor: RayExecutor, actor: int, call: Callable[[object], Any]) -> Any:
    """Has an actor call a function of its worker."""
    return executor._actors[actor].__ray_call__.remote(call)


@_fault
def killed_actor(case: Case) -> bool:
    """SIGKILL, as from the kernel; the call meets a process that is gone or going."""

    def kill(executor: RayExecutor, actor: int, _: Shard) -> None:
        os.kill(ray.get(_inside(executor, actor, lambda _: os.getpid())), signal.SIGKILL)

    return case.struck(kill)


@_fault
def hanging_actor(case: Case) -> bool:
    """An actor sleeps in native code that holds the interpreter, and is killed at its deadline."""

    def hang(executor: RayExecutor, actor: int, _: Shard) -> None:
        _inside(executor, actor, lambda _: ctypes.PyDLL(None).pause())

    return case.struck(hang, image_seconds=15.0)


@_fault
def raising_actor(case: Case) -> bool:
    """A call raises: its images do not fit the network."""
    return case.struck(lambda _, __, shard: replace(shard, images=shard.images[:, :, :3]))


@_fault
def actor_out_of_memory(case: Case) -> bool:
    """An actor takes so much memory that Ray kills a worker, this one or another."""
    total, available = _memory()
    allowed = total - available + _ALLOWED_BYTES

    def take(_: object) -> None:
        taken = []
        while (known := _memory())[0] - known[1] < allowed + _OVER_BYTES:
            taken.append(b"\1" * _CHUNK_BYTES)
        time.sleep(60)  # and keeps it

    def hoard(executor: RayExecutor, actor: int, _: Shard) -> None:
        _inside(executor, actor, take)

    share = {"RAY_memory_usage_threshold": f"{allowed / total:.4f}"}
    case.bed.join(**share, RAY_memory_monitor_refresh_ms="100")
    case.bed.remove()
    try:
        return case.struck(hoard)
    finally:
        case.bed.remove(-1)
        case.bed.join()


def _memory() -> tuple[int, int]:
    """Bytes of this machine: in all, and available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    known = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    return known["MemTotal"], known["MemAvailable"]


@_fault
def lost_node(case: Case) -> bool:
    """A machine with an actor at work is gone at once, and another joins."""

    def pull(executor: RayExecutor, actor: int, _: Shard) -> None:
        where = _inside(executor, actor, lambda _: ray.get_runtime_context().get_node_id())
        case.bed.remove([one.node_id for one in case.bed.nodes].index(ray.get(where)))
        case.bed.join()

    return case.struck(pull)


@_fault
def killed_driver(case: Case) -> bool:
    """The driver is killed, and the run resumed."""
    case.interrupted()
    left = len(case.parts)
    case.certify(resume=True)
    return 0 < left < len(case.parts)


@_fault
def full_disk(case: Case) -> bool:
    """The disk is full when a part is written, and the run resumed once there is room."""
    sync, struck = os.fsync, False

    def full(handle: int) -> None:
        if case.parts and list(case.out.glob(f"{files.TEMPORARY}part-*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with mock.patch.object(files.os, "fsync", full):
        try:
            case.certify()
        except OSError as error:
            struck = error.errno == errno.ENOSPC
    case.certify(resume=True)
    return struck


@_fault
def torn_temporary_file(case: Case) -> bool:
    """A driver killed while it wrote has left half a file."""
    whole = case.interrupted()
    torn = whole.with_name(f"{files.TEMPORARY}part-99999.parquet")
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    case.certify(resume=True)
    return not torn.exists()


@_fault
def corrupt_part(case: Case) -> bool:
    """A part on disk has lost its end."""
    part = case.interrupted()
    os.truncate(part, part.stat().st_size - 100)
    case.certify(resume=True)
    return bool(list(part.parent.glob("_corrupt-*")))


@_fault
def two_drivers(case: Case) -> bool:
    """A second driver wants the folder while the first one works in it."""
    first, refused = case.begun(), False
    try:
        case.certify(resume=True)
    except ValueError as error:
        refused = "in use by another driver" in str(error)
    return first.wait() == cli.COMPLETE and refused

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
from functools import partial
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
from rddrs_dist.run.options import Run
from rddrs_dist.run.scheduler import Shard

# Workers cannot import this module, so what they get from it goes by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Seconds until a node that is gone is known to be: half a minute with Ray's own settings.
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
# A fault just before a call: it gets the executor, the actor and its shard, and returns the shard
# that is really sent.
Blow = Callable[[RayExecutor, int, Shard], Shard]

# Beyond what the machine had in use: what Ray allows, and what the actor takes over that. Others
# may give memory back meanwhile, so that it is told how much is to be in use and not what to take.
_ALLOWED_BYTES, _OVER_BYTES = 2 << 30, 1 << 30
_CHUNK_BYTES = 64 << 20


@dataclass
class Bed:
    """A Ray whose nodes may be lost: a head that does no work, and workers of one CPU each.

    Attributes:
        cluster: The nodes; all are processes of this machine.
        nodes: Those that work.
    """

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
        memory = 100_000_000
        self.nodes.append(
            self.cluster.add_node(
                num_cpus=1, object_store_memory=memory, env_vars=environment or None
            )
        )

    def remove(self, which: int = 0) -> None:
        """Kills the processes of a worker node, the oldest one, without a word to Ray."""
        self.cluster.remove_node(self.nodes.pop(which), allow_graceful=False)

    @contextmanager
    def replaced(self, **environment: str) -> Iterator[None]:
        """Has one node with an environment of its own in the place of another."""
        self.join(**environment)
        self.remove()
        try:
            yield
        finally:
            self.remove(-1)
            self.join()


def _process(executor: RayExecutor, actor: int) -> int:
    """The process id of an actor that is idle."""
    return ray.get(executor._actors[actor].__ray_call__.remote(lambda self: os.getpid()))


def _node(_worker: object) -> str:
    """The node that an actor is on."""
    return ray.get_runtime_context().get_node_id()


def kill(executor: RayExecutor, actor: int, shard: Shard) -> Shard:
    """SIGKILL, as from the kernel; the call meets a process that is gone or going."""
    os.kill(_process(executor, actor), signal.SIGKILL)
    return shard


def hang(executor: RayExecutor, actor: int, shard: Shard) -> Shard:
    """The actor sleeps for ever in native code that holds the interpreter."""
    executor._actors[actor].__ray_call__.remote(lambda self: ctypes.PyDLL(None).pause())
    return shard


def spoil(executor: RayExecutor, actor: int, shard: Shard) -> Shard:
    """The call raises: its images do not fit the network."""
    return replace(shard, images=shard.images[:, :, :3])


def _hoard(_worker: object, used: int) -> None:
    """Takes memory, touches it and keeps it, until the machine has so many bytes in use."""
    taken = []
    total, free = _memory()
    while total - free < used:
        taken.append(bytearray(_CHUNK_BYTES))
        for page in range(0, _CHUNK_BYTES, 4096):
            taken[-1][page] = 1
        total, free = _memory()
    time.sleep(60)


def hoard(used: int, executor: RayExecutor, actor: int, shard: Shard) -> Shard:
    """The actor takes so much memory that Ray kills a worker, this one or another."""
    executor._actors[actor].__ray_call__.remote(_hoard, used)
    return shard


@dataclass(frozen=True)
class Case:
    """A run to be disturbed.

    Attributes:
        bed: Where.
        flags: Its command line without `rddrs certify`, with `--out` and `--address`.
    """

    bed: Bed
    flags: Sequence[str]

    @property
    def run(self) -> Run:
        """Its configuration."""
        run = cli.parse(["certify", *self.flags])
        assert isinstance(run, Run)
        return run

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
        run = self.run
        driver.certify(replace(run, execution=replace(run.execution, **changes)))

    def struck(self, blow: Blow, at: int = 3, **changes: Any) -> bool:
        """Does the run with a fault at one call, counted from 1; whether there was that call."""
        original, calls = RayExecutor.submit, itertools.count(1)

        def submit(executor: RayExecutor, actor: int, shard: Shard, resort: bool) -> None:
            given = blow(executor, actor, shard) if next(calls) == at else shard
            original(executor, actor, given, resort)

        with mock.patch.object(RayExecutor, "submit", submit):
            self.certify(**changes)
        return next(calls) > at

    def begun(self) -> "subprocess.Popen[bytes]":
        """A driver in a process of its own that has written a part and goes on."""
        command = [sys.executable, "-m", "rddrs_dist.cli", "certify", *self.flags]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, start_new_session=True, stdout=quiet, stderr=quiet)
        while not self.parts and process.poll() is None:
            time.sleep(0.02)
        return process

    def interrupted(self) -> int:
        """Kills a driver that has begun with SIGKILL; returns the parts it left."""
        process = self.begun()
        process.kill()
        process.wait()
        return len(self.parts)


def killed_actor(case: Case) -> bool:
    """The process of an actor is killed."""
    return case.struck(kill)


def hanging_actor(case: Case) -> bool:
    """An actor hangs in native code and is killed at its deadline."""
    return case.struck(hang, image_seconds=15.0)


def raising_actor(case: Case) -> bool:
    """A call raises."""
    return case.struck(spoil)


def actor_out_of_memory(case: Case) -> bool:
    """An actor takes more memory than Ray allows."""
    total, free = _memory()
    allowed = total - free + _ALLOWED_BYTES
    with case.bed.replaced(
        RAY_memory_usage_threshold=f"{allowed / total:.4f}", RAY_memory_monitor_refresh_ms="100"
    ):
        return case.struck(partial(hoard, allowed + _OVER_BYTES))


def _memory() -> tuple[int, int]:
    """Bytes of this machine: in all, and available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    known = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    return known["MemTotal"], known["MemAvailable"]


def lost_node(case: Case) -> bool:
    """A machine with an actor at work is gone at once, and another joins."""

    def pull(executor: RayExecutor, actor: int, shard: Shard) -> Shard:
        node = ray.get(executor._actors[actor].__ray_call__.remote(_node))
        case.bed.remove([one.node_id for one in case.bed.nodes].index(node))
        case.bed.join()
        return shard

    return case.struck(pull)


def killed_driver(case: Case) -> bool:
    """The driver is killed, and the run resumed."""
    left = case.interrupted()
    case.certify(resume=True)
    return 0 < left < len(case.parts)


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


def torn_temporary_file(case: Case) -> bool:
    """A driver killed while it wrote has left half a file."""
    case.interrupted()
    whole = next(iter(case.parts.values()))
    torn = whole.with_name(f"{files.TEMPORARY}part-99999.parquet")
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    case.certify(resume=True)
    return not torn.exists()


def corrupt_part(case: Case) -> bool:
    """A part on disk has lost its end."""
    case.interrupted()
    part = next(iter(case.parts.values()))
    os.truncate(part, part.stat().st_size - 100)
    case.certify(resume=True)
    return bool(list(part.parent.glob("_corrupt-*")))


def two_drivers(case: Case) -> bool:
    """A second driver wants the folder while the first one works in it."""
    first, refused = case.begun(), False
    try:
        case.certify(resume=True)
    except ValueError as error:
        refused = "in use by another driver" in str(error)
    return first.wait() == cli.COMPLETE and refused


FAULTS: dict[str, Callable[[Case], bool]] = {
    "killed actor": killed_actor,
    "hanging actor": hanging_actor,
    "raising actor": raising_actor,
    "actor out of memory": actor_out_of_memory,
    "lost node": lost_node,
    "killed driver": killed_driver,
    "full disk": full_disk,
    "torn temporary file": torn_temporary_file,
    "corrupt part": corrupt_part,
    "two drivers": two_drivers,
}

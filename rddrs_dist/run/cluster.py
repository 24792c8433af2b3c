"""Workers as Ray actors, and calls as Ray tasks."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import ray
from ray import exceptions

from rddrs_dist.methods import MethodError
from rddrs_dist.noise import Packed
from rddrs_dist.run.experiment import Execution, Experiment
from rddrs_dist.run.scheduler import Event, NoActorError, Shard
from rddrs_dist.run.worker import Training, Worker

# Errors that tell of the actor or its machine, not of the shard it had.
_LOST = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
    exceptions.RuntimeEnvSetupError,
)


@ray.remote(max_restarts=0, max_task_retries=0)
class _Actor(Worker):
    """A worker in a process of its own. Ray never restarts it: the scheduler does."""

    def ready(self) -> str:
        """Returns the address of its machine, once the network is loaded."""
        return ray.util.get_node_ip_address()


class RayExecutor:
    """Hosts workers on the Ray cluster this process is connected to; see scheduler.Executor."""

    def __init__(
        self,
        experiment: Experiment,
        execution: Execution,
        checkpoint: bytes,
        training: Training | None,
        universal: Packed | None = None,
    ) -> None:
        """Ships the checkpoint and the training images once for all actors."""
        cpus, gpus = execution.cpus_per_actor, execution.gpus_per_actor
        self._options = {"num_cpus": cpus, "num_gpus": gpus}
        self._work = (experiment, execution, ray.put(checkpoint), ray.put(training))
        self._universal = universal
        self._actors: dict[int, Any] = {}
        self._calls: dict[ray.ObjectRef, int] = {}
        self._next = 0

    def start(self) -> int:
        name, self._next = self._next, self._next + 1
        self._actors[name] = _Actor.options(**self._options).remote(
            *self._work, universal=self._universal
        )
        self._calls[self._actors[name].ready.remote()] = name
        return name

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        self._calls[self._actors[actor].do.remote(shard, resort)] = actor

    def wait(self, timeout: float) -> Sequence[Event]:
        calls = list(self._calls)
        ready, _ = ray.wait(calls, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
        return [self._event(call) for call in ready]

    def discard(self, actor: int) -> None:
        ray.kill(self._actors.pop(actor))
        self._calls = {call: owner for call, owner in self._calls.items() if owner != actor}

    def share(self, universal: Packed) -> None:
        self._universal = universal

    def _event(self, call: ray.ObjectRef) -> Event:
        """What came of a call."""
        actor = self._calls.pop(call)
        try:
            return Event(actor, result=ray.get(call))
        except _LOST as error:
            return Event(actor, error=_line(error), lost=True)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, MethodError):
                raise error.cause from None
            return Event(actor, error=_line(error.cause or error))


def _line(error: BaseException) -> str:
    """The last line of an error's text, where Ray puts what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]


class Tasks:
    """Calls of a function on the cluster this process is connected to."""

    def __init__(self, execution: Execution) -> None:
        self._at_once, self._cpus = execution.workers, execution.cpus_per_actor

    @classmethod
    @contextlib.contextmanager
    def connected(cls, execution: Execution) -> Iterator["Tasks"]:
        """Connects, as `connected` does, for the duration of a block."""
        with connected(execution):
            yield cls(execution)

    def put(self, value: Any) -> Any:
        """Ships a value once for all calls; the reference stands for it among their arguments."""
        return ray.put(value)

    def each(self, function: Callable[..., Any], calls: Iterable[tuple]) -> Iterator[Any]:
        """Results of the calls as they come; one whose machine is lost is made again."""
        remote = ray.remote(num_cpus=self._cpus, max_retries=3)(function)
        waiting: list[ray.ObjectRef] = []
        for call in calls:
            if len(waiting) >= self._at_once:
                (ready,), waiting = ray.wait(waiting)
                yield ray.get(ready)
            waiting.append(remote.remote(*call))
        while waiting:
            (ready,), waiting = ray.wait(waiting)
            yield ray.get(ready)


def resources(execution: Execution) -> str:
    """What is asked for and what there is, in one line."""
    there = ray.cluster_resources()
    return (
        f"asked for {execution.cpus_per_actor} CPU and {execution.gpus_per_actor:g} GPU per "
        f"actor, the cluster has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU"
    )


def _knock(address: str) -> None:
    """Raises OSError within seconds where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10.0).close()


@contextlib.contextmanager
def connected(execution: Execution) -> Iterator[None]:
    """Connects to the cluster that is named, or starts one on this machine for a block."""
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    # A job finds its cluster in the environment.
    address = execution.address or os.environ.get("RAY_ADDRESS")
    if address:
        try:
            _knock(address)
            ray.init(address=address, **quiet)
        except OSError as error:
            raise ConnectionError(
                f"no Ray cluster at {address}: start one with `ray start --head`, set "
                "RAY_AUTH_MODE=token if it wants a token, or leave --address out for a local one"
            ) from error
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cpus = max(execution.workers * execution.cpus_per_actor, os.cpu_count() or 1)
        try:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        except Exception as error:  # Ray raises a bare Exception where a node does not come up
            raise NoActorError(f"Ray could not start on this machine: {_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()

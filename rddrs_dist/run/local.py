"""The same work in this process, one call after another, without Ray."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from rddrs_dist.methods import MethodError
from rddrs_dist.noise import Packed
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.scheduler import Event, Shard
from rddrs_dist.run.worker import Worker


class LocalExecutor:
    """Hosts one worker in this process, where a debugger reaches it; see scheduler.Executor.

    With RDDRS_DEBUG set an error of a fit is raised where it happened; otherwise its shard is
    tried again, as on a cluster.
    """

    def __init__(self, *work: Any, universal: Packed | None = None) -> None:
        self._work, self._universal = work, universal
        self._worker: Worker | None = None
        self._call: tuple[Shard, bool] | None = None

    def start(self) -> int:
        self._worker = Worker(*self._work, universal=self._universal)
        return 0

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        self._call = (shard, resort)

    def wait(self, timeout: float) -> Sequence[Event]:
        """Does the shard that was submitted, however long it takes."""
        if self._worker is None or self._call is None:
            return [Event(0, result="this process")]
        call, self._call = self._call, None
        try:
            return [Event(0, result=self._worker.do(*call))]
        except Exception as error:
            if isinstance(error, MethodError) or os.environ.get("RDDRS_DEBUG"):
                raise
            return [Event(0, error=" ".join(f"{type(error).__name__}: {error}".split())[:500])]

    def discard(self, actor: int) -> None:
        self._worker = None

    def share(self, universal: Packed) -> None:
        self._universal = universal


class LocalTasks:
    """Calls of a function in this process; see cluster.Tasks."""

    @classmethod
    @contextlib.contextmanager
    def connected(cls, execution: Execution) -> Iterator["LocalTasks"]:
        """For the duration of a block, which leaves torch's threads as they were."""
        with own_threads():
            yield cls()

    def put(self, value: Any) -> Any:
        """The value itself."""
        return value

    def each(self, function: Callable[..., Any], calls: Iterable[tuple]) -> Iterator[Any]:
        """Results of the calls, in their order."""
        return (function(*call) for call in calls)


@contextlib.contextmanager
def own_threads() -> Iterator[None]:
    """Gives this process its own number of torch threads back after a block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Cuts a run into shards and gives them to actors until all are done; knows nothing of Ray.

One call is in flight per actor, so that the time of a call is the time since it was given. An
actor that is lost, or late, is replaced. What fails goes to the back of the queue; a shard that
fails too often is split into its images, an image that does gets the last resort, and where even
that fails it is given up and the others go on.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rddrs_dist.data import ImageSet
from rddrs_dist.noise import Packed
from rddrs_dist.run.experiment import Execution

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Shard:
    """Some images of a run, (B, *event), and their indices; no label goes with them.

    Without images it stands for what is done once for all of them: see `PREPARATION`.
    """

    number: int
    indices: tuple[int, ...]
    images: NDArray[np.float32]

    def __str__(self) -> str:
        if not self.indices:
            return "the noise of all images"
        first, last = self.indices[0], self.indices[-1]
        images = f"image {first}" if len(self.indices) == 1 else f"images {first} to {last}"
        return f"shard {self.number} ({images})"

    def images_alone(self) -> list["Shard"]:
        """Its images, each in a shard of its own with the same number."""
        return [
            Shard(self.number, (index,), self.images[k : k + 1])
            for k, index in enumerate(self.indices)
        ]


# The fit of the noise that all images share. It is never late, and there is no last resort for it.
PREPARATION = Shard(-1, (), np.zeros(0, np.float32))


def split(images: ImageSet, indices: Sequence[int], size: int) -> list[Shard]:
    """Cuts the chosen images into shards of `size`, the last one possibly smaller."""
    starts = range(0, len(indices), size)
    parts = [tuple(indices[start : start + size]) for start in starts]
    return [Shard(k, part, images.images[list(part)]) for k, part in enumerate(parts)]


@dataclass(frozen=True)
class Event:
    """What an actor's call returned (its node, where that started it), or why it failed.

    The actor itself is gone where it is `lost`.
    """

    actor: int
    result: Any = None
    error: str | None = None
    lost: bool = False


class Executor(Protocol):
    """Hosts actors. Each has at most one call in flight, the first being its start."""

    def start(self) -> int:
        """Starts an actor; an event tells when it is ready."""
        ...

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        """Gives a shard to an idle actor, to be done in full or by the last resort."""
        ...

    def wait(self, timeout: float) -> Sequence[Event]:
        """Events of the next `timeout` seconds, at once when there are some."""
        ...

    def discard(self, actor: int) -> None:
        """Kills an actor and forgets its call."""
        ...

    def share(self, universal: Packed) -> None:
        """Gives the noise of all images to those actors that will be started from now on."""
        ...


class NoActorError(RuntimeError):
    """No actor can be started."""


@dataclass(frozen=True)
class Job:
    """A shard on its way: how often it failed or was late, and how many actors were lost over it.

    With `resort` the last resort is wanted in place of the fits.
    """

    shard: Shard
    failures: int = 0
    losses: int = 0
    resort: bool = False


@dataclass(frozen=True)
class Attempt:
    """A call as it ended: done, failed, late or lost, with the reason unless it was done."""

    job: Job
    node: str
    outcome: str
    reason: str
    seconds: float


@dataclass
class Scheduler:
    """The state of a run in progress.

    Attributes:
        on_result: Called with each shard, or image of a split shard, and its rows as they come.
        on_failure: Called with each image that is given up, and why.
        on_tick: Called at least once a second with the scheduler.
        retries: Calls that were tried again.
        losses: Actors that were lost.
    """

    executor: Executor
    shards: Sequence[Shard]
    execution: Execution
    on_result: Callable[[Shard, Any], None]
    on_failure: Callable[[Shard, str], None]
    on_attempt: Callable[[Attempt], None]
    on_tick: Callable[["Scheduler"], None]
    clock: Callable[[], float] = time.monotonic
    retries: int = field(init=False, default=0)
    losses: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._queue = deque(Job(shard) for shard in self.shards)
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, tuple[Job, float]] = {}  # with the time it was given
        self._nodes: dict[int, str] = {}
        self._failed: dict[int, str] = {}
        self._last_loss = ""

    def run(self) -> dict[int, str]:
        """Does all shards; returns index and reason of each image that was given up.

        Raises:
            NoActorError: If no actor was ready for `start_timeout` seconds.
        """
        self._last_alive = self.clock()
        while self._queue or self._busy:
            self._hire()
            for event in self.executor.wait(1.0):
                self._handle(event)
            self._end_late()
            self._assign()
            self._check_alive()
            self.on_tick(self)
        return self._failed

    def add(self, shards: Sequence[Shard]) -> None:
        """Adds to what is to be done."""
        self._queue.extend(Job(shard) for shard in shards)

    @property
    def alive(self) -> int:
        """Actors that are ready."""
        return len(self._idle) + len(self._busy)

    def _hire(self) -> None:
        """Starts as many actors as there is work for."""
        wanted = min(self.execution.workers, len(self._queue) + len(self._busy))
        for _ in range(wanted - self.alive - len(self._starting)):
            self._starting.add(self.executor.start())

    def _handle(self, event: Event) -> None:
        """Moves an actor, and the job it had, to where they now belong."""
        actor, call = event.actor, self._busy.pop(event.actor, None)
        if event.lost:
            self.executor.discard(actor)
            self.losses, self._last_loss = self.losses + 1, event.error or ""
            logger.warning("an actor was lost (%s)", event.error)
        else:
            self._idle.append(actor)
            if actor in self._starting:
                self._nodes[actor] = str(event.result)
        self._starting.discard(actor)
        if call is None:
            return
        if event.error is None:
            self._report(call, actor, "done", "")
            self.on_result(call[0].shard, event.result)
        else:
            self._fail(call, actor, "lost" if event.lost else "failed", event.error)

    def _end_late(self) -> None:
        """Kills actors whose call has taken too long."""
        for actor, call in list(self._busy.items()):
            allowed = (self.execution.image_seconds or math.inf) * len(call[0].shard.indices)
            if call[0].shard.indices and self.clock() - call[1] > allowed:
                del self._busy[actor]
                self.executor.discard(actor)
                self._fail(call, actor, "late", f"not done within {allowed:g} s")

    def _report(self, call: tuple[Job, float], actor: int, outcome: str, reason: str) -> None:
        """Tells how a call ended."""
        seconds = self.clock() - call[1]
        self.on_attempt(Attempt(call[0], self._nodes.get(actor, ""), outcome, reason, seconds))

    def _fail(self, call: tuple[Job, float], actor: int, outcome: str, reason: str) -> None:
        """Queues a job again, in parts or as a last resort, or gives its image up."""
        self._report(call, actor, outcome, reason)
        job, lost = call[0], outcome == "lost"
        job = replace(job, failures=job.failures + (not lost), losses=job.losses + lost)
        attempts = 1 if job.resort else self.execution.max_attempts
        if job.failures < attempts and job.losses < self.execution.max_losses:
            logger.warning("%s will be tried again: %s", job.shard, reason)
            self.retries += 1
            self._queue.append(job)
        elif len(job.shard.indices) > 1:
            logger.warning("%s will be tried image by image: %s", job.shard, reason)
            self._queue.extend(Job(image) for image in job.shard.images_alone())
        elif job.shard.indices and not job.resort:
            logger.warning("%s gets the noise of the network: %s", job.shard, reason)
            self._queue.append(Job(job.shard, resort=True))
        else:
            logger.error("%s was given up: %s", job.shard, reason)
            self._failed.update(dict.fromkeys(job.shard.indices, reason))
            self.on_failure(job.shard, reason)

    def _assign(self) -> None:
        """Gives queued jobs to idle actors."""
        while self._queue and self._idle:
            actor, job = self._idle.pop(), self._queue.popleft()
            self._busy[actor] = (job, self.clock())
            self.executor.submit(actor, job.shard, job.resort)

    def _check_alive(self) -> None:
        """Gives up where no actor has been ready for too long."""
        timeout = self.execution.start_timeout
        if self.alive:
            self._last_alive = self.clock()
        elif self.clock() - self._last_alive > timeout:
            why = f" (the last one was lost: {self._last_loss})" if self._last_loss else ""
            raise NoActorError(f"no actor was ready within {timeout:g} s{why}")

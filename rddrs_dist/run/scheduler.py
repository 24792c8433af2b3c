"""Gives shards to actors until all are done; knows nothing of Ray.

One call is in flight per actor. An actor that is lost is replaced and its shard goes to the back
of the queue; a shard that fails too often is given up, and the others go on.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rddrs_dist.run.shards import Shard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """Something an actor reports.

    Attributes:
        actor: Which one.
        result: What its call returned; None for the call that only says it is ready.
        error: Why its call failed, if it did.
        lost: Whether the actor itself is gone.
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

    def submit(self, actor: int, shard: Shard) -> None:
        """Gives a shard to an idle actor."""
        ...

    def wait(self, timeout: float) -> Sequence[Event]:
        """Events of the next `timeout` seconds, at once when there are some."""
        ...

    def discard(self, actor: int) -> None:
        """Kills an actor and forgets its call."""
        ...


class NoActorError(RuntimeError):
    """No actor can be started."""


@dataclass
class Scheduler:
    """The state of a run in progress.

    Attributes:
        executor: Where actors live.
        shards: What is to be done.
        actors: How many actors are wanted.
        on_result: Called with each shard and its rows as they come.
        on_tick: Called at least once a second with the scheduler.
        clock: Seconds, monotonic.
        start_timeout: Seconds without any actor after which the run is given up.
        max_attempts: Attempts of a shard before it is given up.
    """

    executor: Executor
    shards: Sequence[Shard]
    actors: int
    on_result: Callable[[Shard, Any], None]
    on_tick: Callable[["Scheduler"], None]
    clock: Callable[[], float]
    start_timeout: float = 120.0
    max_attempts: int = 3
    queue: deque[Shard] = field(init=False)
    starting: set[int] = field(init=False, default_factory=set)
    idle: list[int] = field(init=False, default_factory=list)
    busy: dict[int, Shard] = field(init=False, default_factory=dict)
    attempts: dict[int, int] = field(init=False, default_factory=dict)
    failed: dict[int, str] = field(init=False, default_factory=dict)
    done: int = field(init=False, default=0)
    retries: int = field(init=False, default=0)
    last_loss: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.queue = deque(self.shards)

    def run(self) -> dict[int, str]:
        """Does all shards.

        Returns:
            Number and reason of each shard that was given up.

        Raises:
            NoActorError: If no actor was ready for `start_timeout` seconds.
        """
        self._last_alive = self.clock()
        while self.queue or self.busy:
            self._hire()
            for event in self.executor.wait(1.0):
                self._handle(event)
            self._assign()
            self._check_alive()
            self.on_tick(self)
        return self.failed

    @property
    def alive(self) -> int:
        """Actors that are ready."""
        return len(self.idle) + len(self.busy)

    def _hire(self) -> None:
        """Starts as many actors as there is work for."""
        wanted = min(self.actors, len(self.queue) + len(self.busy))
        for _ in range(wanted - self.alive - len(self.starting)):
            self.starting.add(self.executor.start())

    def _handle(self, event: Event) -> None:
        """Moves an actor, and the shard it had, to where they now belong."""
        shard = self.busy.pop(event.actor, None)
        self.starting.discard(event.actor)
        if event.lost:
            self.executor.discard(event.actor)
            self.last_loss = event.error
            logger.warning("an actor was lost (%s)", event.error)
        else:
            self.idle.append(event.actor)
        if shard is None:
            return
        if event.error is None:
            self.on_result(shard, event.result)
            self.done += 1
        else:
            self._retry(shard, event.error)

    def _retry(self, shard: Shard, reason: str) -> None:
        """Queues a shard again, or gives it up."""
        self.attempts[shard.number] = self.attempts.get(shard.number, 0) + 1
        if self.attempts[shard.number] < self.max_attempts:
            logger.warning("%s will be tried again: %s", shard, reason)
            self.retries += 1
            self.queue.append(shard)
        else:
            logger.error("%s was given up: %s", shard, reason)
            self.failed[shard.number] = reason

    def _assign(self) -> None:
        """Gives queued shards to idle actors."""
        while self.queue and self.idle:
            actor, shard = self.idle.pop(), self.queue.popleft()
            self.busy[actor] = shard
            self.executor.submit(actor, shard)

    def _check_alive(self) -> None:
        """Gives up where no actor has been ready for too long."""
        if self.alive:
            self._last_alive = self.clock()
        elif self.clock() - self._last_alive > self.start_timeout:
            why = f" (the last one was lost: {self.last_loss})" if self.last_loss else ""
            raise NoActorError(f"no actor was ready within {self.start_timeout:g} s{why}")

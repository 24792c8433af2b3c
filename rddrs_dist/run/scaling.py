"""How a run's rate grows with its actors: calls watched, their steady state, the memory behind it.

Nothing here knows Ray; what is watched is any executor of the scheduler.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from rddrs_dist.run.scheduler import Event, Executor
from rddrs_dist.run.shards import Shard

_ROLLUP, _STATUS = Path("/proc/self/smaps_rollup"), Path("/proc/self/status")


@dataclass(frozen=True)
class Call:
    """A shard that an actor has done.

    Attributes:
        actor: Which one.
        start: When it was given, in seconds of some clock.
        end: When its rows were back.
        images: Images in it.
    """

    actor: int
    start: float
    end: float
    images: int


class Watched:
    """An executor that notes when its actors are ready and when their calls begin and end.

    No actor is told to be ready before all are, so that they begin together.

    Attributes:
        ready: Seconds from the start of each actor until it could be given a shard.
        calls: Calls that came back with rows, in the order in which they did.
    """

    def __init__(self, inner: Executor, actors: int, clock: Callable[[], float]) -> None:
        """Watches another executor.

        Args:
            inner: Where the actors live.
            actors: How many there will be.
            clock: Seconds, such as `time.perf_counter`.
        """
        self._inner, self._actors, self._clock = inner, actors, clock
        self._held: list[Event] = []
        self._started: dict[int, float] = {}
        self._given: dict[int, tuple[float, int]] = {}
        self.ready: dict[int, float] = {}
        self.calls: list[Call] = []

    def start(self) -> int:
        """Starts an actor; see Executor.start."""
        now = self._clock()
        actor = self._inner.start()
        self._started[actor] = now
        return actor

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        """Gives a shard to an idle actor; see Executor.submit."""
        self._given[actor] = (self._clock(), len(shard.indices))
        self._inner.submit(actor, shard, resort)

    def wait(self, timeout: float) -> Sequence[Event]:
        """Events of the next seconds; see Executor.wait."""
        events = self._inner.wait(timeout)
        now = self._clock()
        passed = [event for event in events if not self._holds(event, now)]
        if len(self.ready) >= self._actors:
            passed, self._held = self._held + passed, []
        return passed

    def discard(self, actor: int) -> None:
        """Kills an actor; see Executor.discard."""
        self._inner.discard(actor)

    def _holds(self, event: Event, now: float) -> bool:
        """Notes the time of an event; whether it says that an actor is ready, which may wait."""
        if event.error is not None:
            return False
        if event.actor in self._given:
            start, images = self._given.pop(event.actor)
            self.calls.append(Call(event.actor, start, now, images))
            return False
        self.ready[event.actor] = now - self._started[event.actor]
        self._held.append(event)
        return True


def steady_rate(calls: Sequence[Call]) -> float:
    """Images per second while all actors are at work.

    That is from the moment when each has done its first call, in which caches and libraries warm
    up, until one has done its last. A call that reaches beyond counts by its share.

    Args:
        calls: Those of all actors, at least two of each.

    Raises:
        ValueError: If the actors were never all at work after their first calls.
    """
    actors = {call.actor for call in calls}
    ends = [[call.end for call in calls if call.actor == actor] for actor in actors]
    begin, end = max(map(min, ends), default=0.0), min(map(max, ends), default=0.0)
    if not end > begin:
        raise ValueError(
            f"{len(calls)} calls of {len(actors)} actors leave no time in which all are at work: "
            "wanted at least two calls of each, give more images"
        )
    return sum(_overlap(call, begin, end) * call.images for call in calls) / (end - begin)


def _overlap(call: Call, begin: float, end: float) -> float:
    """Share of a call that lies between two times."""
    inside = min(call.end, end) - max(call.start, begin)
    return max(0.0, inside) / (call.end - call.start)


def efficiencies(rates: Sequence[tuple[int, float]]) -> dict[int, list[float]]:
    """rate(k) / k over rate(1) of the same round, for each number of actors k.

    Where no round has a single actor, the smallest number takes its place.

    Args:
        rates: Number of actors and images per second, one round after another, all of which have
            the same numbers.
    """
    base = min(k for k, _ in rates)
    found: dict[int, list[float]] = {}
    for k, rate in rates:
        found.setdefault(k, []).append(rate / k)
    return {
        k: [own / one for own, one in zip(values, found[base], strict=True)]
        for k, values in found.items()
    }


def multipliers(
    predicted: NDArray[np.float64], measured: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By how much each term of a prediction is off: the weights that fit best, none negative.

    Args:
        predicted: Seconds by case and term, (N, T).
        measured: Seconds of each case, (N,), positive; all count alike, by their relative error.

    Returns:
        (T,); all 1 where the prediction is exact.
    """
    return nnls(predicted / measured[:, None], np.ones(len(measured)))[0]


def resident() -> dict[str, float] | None:
    """Bytes of this process in memory: its own, those it shares, and the most there were.

    Returns:
        `unique`, `shared` and `peak`; None where the system does not tell as Linux does.
    """
    if not _ROLLUP.exists():
        return None
    pages = kilobytes(_ROLLUP.read_text())
    return {
        "unique": 1024.0 * (pages["Private_Clean"] + pages["Private_Dirty"]),
        "shared": 1024.0 * (pages["Shared_Clean"] + pages["Shared_Dirty"]),
        "peak": 1024.0 * kilobytes(_STATUS.read_text())["VmHWM"],
    }


def kilobytes(text: str) -> dict[str, int]:
    """The lines `name: number kB` of a file under /proc, by name."""
    lines = [line.split() for line in text.splitlines()]
    return {
        words[0].removesuffix(":"): int(words[1])
        for words in lines
        if len(words) == 3 and words[2] == "kB"
    }

"""The scheduler with actors that are only made up: every way in which they fail, in no time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from rddrs_dist.run.scheduler import Event, NoActorError, Scheduler
from rddrs_dist.run.shards import Shard

# What becomes of a call: actor and shard (None for its start) to an event; None for silence.
Fate = Callable[[int, Shard | None], Event | None]


@dataclass
class FakeExecutor:
    """Actors whose calls end as `fate` says, one event and one second per wait."""

    fate: Fate
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    now: float = 0.0
    calls: dict[int, Shard | None] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    started: int = 0
    most: int = 0

    def start(self) -> int:
        name, self.started = self.started, self.started + 1
        self.alive.add(name)
        self.calls[name] = None
        self.most = max(self.most, len(self.alive))
        return name

    def submit(self, actor: int, shard: Shard) -> None:
        assert actor in self.alive, "a shard was given to an actor that is gone"
        assert actor not in self.calls, "a second call was given to an actor"
        self.calls[actor] = shard

    def wait(self, timeout: float) -> Sequence[Event]:
        assert self.calls, "waited for nothing"
        self.now += timeout
        for actor in self.rng.sample(sorted(self.calls), len(self.calls)):
            if event := self.fate(actor, self.calls[actor]):
                del self.calls[actor]
                return [event]
        return []

    def discard(self, actor: int) -> None:
        self.alive.remove(actor)
        self.calls.pop(actor, None)


def well(actor: int, shard: Shard | None) -> Event:
    """The fate of a call that goes well."""
    return Event(actor, result=None if shard is None else f"rows of {shard.number}")


def shards(count: int) -> list[Shard]:
    return [Shard(k, (k,), np.zeros((1, 1), np.float32)) for k in range(count)]


@dataclass
class Done:
    """A scheduler's run, and what it handed out."""

    executor: FakeExecutor
    scheduler: Scheduler
    results: list[tuple[int, str]]
    alive: list[int]


def prepare(fate: Fate, count: int = 6, actors: int = 2, seed: int = 0, **options) -> Done:
    """A scheduler about to run."""
    executor, results, alive = FakeExecutor(fate, random.Random(seed)), [], []
    scheduler = Scheduler(
        executor=executor,
        shards=shards(count),
        actors=actors,
        on_result=lambda shard, rows: results.append((shard.number, rows)),
        on_tick=lambda state: alive.append(state.alive),
        clock=lambda: executor.now,
        **options,
    )
    return Done(executor, scheduler, results, alive)


def everything(count: int) -> list[tuple[int, str]]:
    return [(k, f"rows of {k}") for k in range(count)]


def test_all_shards_are_done_once_in_whatever_order():
    orders = set()
    for seed in range(5):
        done = prepare(well, count=7, actors=3, seed=seed)
        assert done.scheduler.run() == {}
        assert sorted(done.results) == everything(7)
        orders.add(tuple(done.results))
    assert len(orders) > 1  # the seeds did give different orders


@pytest.mark.parametrize(("count", "actors", "expected"), [(6, 2, 2), (2, 5, 2), (1, 3, 1)])
def test_never_more_actors_than_wanted_or_than_work(count, actors, expected):
    done = prepare(well, count=count, actors=actors)
    done.scheduler.run()
    assert done.executor.most == expected
    assert done.executor.started == expected
    assert max(done.alive) <= expected


def test_an_actor_lost_at_work_is_replaced_and_its_shard_redone():
    lost = []

    def fate(actor, shard):
        if shard is not None and shard.number == 2 and not lost:
            lost.append(actor)
            return Event(actor, error="it crashed", lost=True)
        return well(actor, shard)

    done = prepare(fate, seed=1)
    assert done.scheduler.run() == {}
    assert sorted(done.results) == everything(6)
    assert done.scheduler.retries == 1
    assert done.executor.started == 3
    assert lost[0] not in done.executor.alive


def test_an_actor_lost_while_starting_is_replaced_and_costs_no_attempt():
    def fate(actor, shard):
        if shard is None and actor < 4:
            return Event(actor, error="no such network", lost=True)
        return well(actor, shard)

    done = prepare(fate, actors=1, max_attempts=1)
    assert done.scheduler.run() == {}
    assert sorted(done.results) == everything(6)
    assert done.executor.started == 5
    assert done.scheduler.retries == 0


def test_a_shard_that_fails_is_tried_again_and_then_given_up_on_the_same_actors():
    tries = []

    def fate(actor, shard):
        if shard is not None and shard.number == 3:
            tries.append(actor)
            return Event(actor, error="ValueError: bad image")
        return well(actor, shard)

    done = prepare(fate, max_attempts=3)
    assert done.scheduler.run() == {3: "ValueError: bad image"}
    assert sorted(done.results) == [pair for pair in everything(6) if pair[0] != 3]
    assert len(tries) == 3
    assert done.executor.started == 2
    assert done.executor.alive == {0, 1}


def test_a_shard_that_loses_every_actor_is_given_up_and_the_others_go_on():
    def fate(actor, shard):
        if shard is not None and shard.number == 0:
            return Event(actor, error="out of memory", lost=True)
        return well(actor, shard)

    done = prepare(fate, max_attempts=2)
    assert done.scheduler.run() == {0: "out of memory"}
    assert sorted(done.results) == everything(6)[1:]


def test_no_actor_in_time_is_an_error():
    done = prepare(lambda actor, shard: None, start_timeout=30)
    with pytest.raises(NoActorError, match=r"no actor was ready within 30 s$"):
        done.scheduler.run()
    assert 30 < done.executor.now <= 32


def test_the_error_says_why_actors_were_lost():
    done = prepare(
        lambda actor, shard: Event(actor, error="ValueError: NaN weights", lost=True),
        start_timeout=10,
    )
    with pytest.raises(NoActorError, match="within 10 s .*NaN weights"):
        done.scheduler.run()


def test_the_time_without_actors_counts_from_the_last_one_that_was_there():
    """A long shard, then a loss: the replacement has the whole of the timeout."""

    def fate(actor, shard):
        if actor > 0:
            return None
        if shard is None:
            return well(actor, shard)
        return Event(actor, error="preempted", lost=True) if done.executor.now >= 100 else None

    done = prepare(fate, count=1, start_timeout=20)
    with pytest.raises(NoActorError):
        done.scheduler.run()
    assert 119 < done.executor.now <= 122


def test_ticks_come_while_nothing_happens():
    def fate(actor, shard):
        return well(actor, shard) if shard is None or done.executor.now > 50 else None

    done = prepare(fate, count=1)
    done.scheduler.run()
    assert len(done.alive) >= 50


@pytest.mark.parametrize("seed", range(20))
def test_random_faults_lose_and_repeat_nothing(seed):
    """Whatever fails, each shard ends done once or given up after all its attempts."""
    rng = random.Random(100 + seed)

    def fate(actor, shard):
        roll = rng.random()
        if roll < 0.15:
            return Event(actor, error="lost", lost=True)
        if roll < 0.3 and shard is not None:
            return Event(actor, error="failed")
        return None if roll < 0.5 else well(actor, shard)

    done = prepare(fate, count=12, actors=3, seed=seed, start_timeout=1000)
    failed = done.scheduler.run()
    numbers = [number for number, _ in done.results]
    assert sorted([*numbers, *failed]) == list(range(12))
    assert all(done.scheduler.attempts[number] == 3 for number in failed)
    assert done.executor.most <= 3

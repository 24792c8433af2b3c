"""The scheduler with actors that are only made up: every way in which they fail, in no time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.scheduler import Attempt, Event, NoActorError, Scheduler
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
    resorts: set[int] = field(default_factory=set)
    started: int = 0
    most: int = 0

    def start(self) -> int:
        name, self.started = self.started, self.started + 1
        self.alive.add(name)
        self.calls[name] = None
        self.most = max(self.most, len(self.alive))
        return name

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        if resort:
            self.resorts.add(shard.indices[0])
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
    return Event(actor, result=f"node-{actor}" if shard is None else list(shard.indices))


def shards(count: int, size: int = 1) -> list[Shard]:
    images = np.zeros((size, 1), np.float32)
    return [Shard(k, tuple(range(k * size, (k + 1) * size)), images) for k in range(count)]


@dataclass
class Done:
    """A scheduler's run, and what it handed out."""

    executor: FakeExecutor
    scheduler: Scheduler
    results: list[int]
    failures: dict[int, str]
    attempts: list[Attempt]
    alive: list[int]


def prepare(fate: Fate, count: int = 6, seed: int = 0, size: int = 1, **execution) -> Done:
    """A scheduler about to run."""
    executor = FakeExecutor(fate, random.Random(seed))
    results, failures, attempts, alive = [], {}, [], []
    scheduler = Scheduler(
        executor=executor,
        shards=shards(count, size),
        execution=Execution(**execution),
        on_result=lambda shard, rows: results.extend(rows),
        on_failure=lambda shard, why: failures.update({shard.indices[0]: why}),
        on_attempt=attempts.append,
        on_tick=lambda state: alive.append(state.alive),
        clock=lambda: executor.now,
    )
    return Done(executor, scheduler, results, failures, attempts, alive)


def ended(done: Done) -> dict[int, str]:
    """Runs to the end, where each image was done once or given up; those that were given up."""
    failed = done.scheduler.run()
    images = [index for shard in done.scheduler.shards for index in shard.indices]
    assert sorted([*done.results, *failed]) == images
    assert failed == done.failures
    return failed


def outcomes(done: Done, image: int) -> list[str]:
    """How the calls with an image ended."""
    return [one.outcome for one in done.attempts if image in one.job.shard.indices]


def test_all_shards_are_done_once_in_whatever_order():
    orders = set()
    for seed in range(5):
        done = prepare(well, count=7, actors=3, seed=seed)
        assert ended(done) == {}
        orders.add(tuple(done.results))
    assert len(orders) > 1  # the seeds did give different orders


@pytest.mark.parametrize(("count", "actors", "expected"), [(6, 2, 2), (2, 5, 2), (1, 3, 1)])
def test_never_more_actors_than_wanted_or_than_work(count, actors, expected):
    done = prepare(well, count=count, actors=actors)
    done.scheduler.run()
    assert done.executor.most == expected
    assert done.executor.started == expected
    assert max(done.alive) <= expected


def fails_on(image: int, times: float = float("inf"), **how) -> tuple[Fate, list[tuple[int, ...]]]:
    """A fate in which calls with one image go wrong so many times, and the indices of these."""
    tries: list[tuple[int, ...]] = []

    def fate(actor, shard):
        if shard is not None and image in shard.indices and len(tries) < times:
            tries.append(shard.indices)
            return Event(actor, **how)
        return well(actor, shard)

    return fate, tries


def test_an_actor_lost_at_work_is_replaced_and_its_shard_redone():
    fate, _ = fails_on(2, times=1, error="it crashed", lost=True)
    done = prepare(fate, seed=1)
    assert ended(done) == {}
    assert outcomes(done, 2) == ["lost", "done"]
    assert done.scheduler.retries == 1
    assert done.executor.started == 3 and len(done.executor.alive) == 2


def test_an_actor_lost_while_starting_is_replaced_and_costs_no_attempt():
    def fate(actor, shard):
        if shard is None and actor < 4:
            return Event(actor, error="no such network", lost=True)
        return well(actor, shard)

    done = prepare(fate, actors=1, max_attempts=1)
    assert ended(done) == {}
    assert done.executor.started == 5
    assert done.scheduler.retries == 0


def test_an_image_that_fails_is_tried_again_then_resorted_and_then_given_up():
    fate, tries = fails_on(3, error="ValueError: bad image")
    done = prepare(fate, max_attempts=3)
    assert ended(done) == {3: "ValueError: bad image"}
    assert len(tries) == 4  # the last one is the last resort
    assert done.executor.resorts == {3}
    # Its actors are none the worse.
    assert done.executor.started == 2
    assert done.executor.alive == {0, 1}


def test_the_last_resort_may_do():
    fate, _ = fails_on(3, times=2, error="it is slow")
    done = prepare(fate, max_attempts=2)
    assert ended(done) == {}
    assert done.executor.resorts == {3}
    assert outcomes(done, 3) == ["failed", "failed", "done"]


def test_a_shard_that_fails_too_often_is_split_until_the_bad_image_is_alone():
    fate, tries = fails_on(5, error="bad image")
    done = prepare(fate, count=3, size=4, max_attempts=2)
    assert ended(done) == {5: "bad image"}
    whole = (4, 5, 6, 7)
    assert tries == [whole, whole, (5,), (5,), (5,)]
    assert done.executor.resorts == {5}


def test_losses_and_failures_are_counted_apart():
    """Two failures and two lost machines are neither three failures nor three losses."""
    tries = []

    def fate(actor, shard):
        if shard is not None and shard.number == 0 and len(tries) < 4:
            tries.append(actor)
            return Event(actor, error="oh", lost=len(tries) % 2 == 0)
        return well(actor, shard)

    done = prepare(fate, max_attempts=3, max_losses=3)
    assert ended(done) == {}
    assert not done.executor.resorts
    assert done.scheduler.losses == 2 and done.scheduler.retries == 4


def test_an_image_that_kills_actors_is_quarantined():
    fate, tries = fails_on(0, error="out of memory", lost=True)
    done = prepare(fate, max_attempts=9, max_losses=2)
    assert ended(done) == {0: "out of memory"}
    assert len(tries) == 4 == done.scheduler.losses  # the last resort may lose as many
    assert outcomes(done, 0) == ["lost"] * 4


def test_a_call_that_takes_too_long_loses_its_actor_and_is_tried_again():
    """A hang in native code: no event ever comes."""
    hung = []

    def fate(actor, shard):
        if shard is not None and shard.number == 1 and len(hung) < 1:
            hung.append(actor)
        return None if actor in hung else well(actor, shard)

    done = prepare(fate, image_seconds=20)
    assert ended(done) == {}
    late = [a for a in done.attempts if a.outcome == "late"]
    assert [a.job.shard.number for a in late] == [1]
    assert 20 < late[0].seconds <= 22 and late[0].node == f"node-{hung[0]}"
    assert hung[0] not in done.executor.alive
    assert done.scheduler.losses == 0  # no machine was to blame


def test_a_shard_has_as_much_time_as_its_images_together():
    def fate(actor, shard):
        if shard is not None and done.executor.now < 35:
            return None
        return well(actor, shard)

    done = prepare(fate, count=1, actors=1, size=4, image_seconds=10)
    assert ended(done) == {}
    assert outcomes(done, 0) == ["done"]


def test_an_image_that_is_always_late_gets_the_last_resort_and_is_given_up():
    def fate(actor, shard):
        return None if shard is not None and shard.number == 2 else well(actor, shard)

    done = prepare(fate, image_seconds=5, max_attempts=2)
    assert ended(done) == {2: "not done within 5 s"}
    assert len(done.executor.alive) <= 2


def test_every_call_is_reported_with_its_place_and_time():
    done = prepare(well, count=4, actors=2)
    ended(done)
    assert sorted(a.job.shard.number for a in done.attempts) == [0, 1, 2, 3]
    assert {a.node for a in done.attempts} == {"node-0", "node-1"}
    assert all(a.outcome == "done" and a.seconds > 0 and not a.reason for a in done.attempts)


def test_ten_thousand_images_over_256_actors():
    """What the driver itself needs; nothing is asserted of its time."""
    done = prepare(well, count=2500, actors=256, size=4)
    assert ended(done) == {}
    assert done.executor.most == 256


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

    done = prepare(
        fate, count=12, actors=3, seed=seed, size=2, start_timeout=1000, image_seconds=50
    )
    # An image that was given up has had the last resort, and all its attempts or losses before.
    for index in ended(done):
        last = [a for a in done.attempts if a.job.shard.indices == (index,)]
        assert last[-1].job.resort and len(last) >= 4
    assert done.executor.most <= 3

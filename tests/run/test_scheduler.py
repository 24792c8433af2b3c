"""The scheduler with actors that are only made up: every way in which they fail, in no time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rddrs_dist.noise import Packed
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.scheduler import PREPARATION, Attempt, Event, NoActorError, Scheduler, Shard

# What becomes of a call: actor and shard (None for its start) to an event; None for silence.
Fate = Callable[[int, Shard | None], Event | None]


class Trial:
    """A scheduler about to run, and its actors: one event and one second per wait."""

    def __init__(
        self, fate: Fate, count: int = 6, seed: int = 0, size: int = 1, **execution: Any
    ) -> None:
        self.fate, self.rng, self.now = fate, random.Random(seed), 0.0
        self.calls: dict[int, Shard | None] = {}
        self.actors, self.resorts = set[int](), set[int]()
        self.started = self.most = 0
        self.results, self.failures = list[int](), dict[int, str]()
        self.attempts, self.alive = list[Attempt](), list[int]()
        self.images, pixels = range(count * size), np.zeros((size, 1), np.float32)
        self.shards = [
            Shard(k, tuple(self.images[k * size : (k + 1) * size]), pixels) for k in range(count)
        ]
        self.scheduler = Scheduler(
            executor=self,
            shards=self.shards,
            execution=Execution(**execution),
            on_result=lambda shard, rows: self.results.extend(rows),
            on_failure=lambda shard, why: self.failures.update({shard.indices[0]: why}),
            on_attempt=self.attempts.append,
            on_tick=lambda state: self.alive.append(state.alive),
            clock=lambda: self.now,
        )

    def start(self) -> int:
        name, self.started = self.started, self.started + 1
        self.actors.add(name)
        self.calls[name] = None
        self.most = max(self.most, len(self.actors))
        return name

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        if resort:
            self.resorts.add(shard.indices[0])
        assert actor in self.actors, "a shard was given to an actor that is gone"
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
        self.actors.remove(actor)
        self.calls.pop(actor, None)

    def prepared(self, shard: Shard, result: Any) -> None:
        """The result of a shard; that of the preparation adds those of the trial."""
        if shard is PREPARATION:
            self.scheduler.add(self.shards)
        else:
            self.results.extend(result)

    def share(self, universal: Packed) -> None:
        raise AssertionError("the scheduler shares nothing by itself")

    def ended(self) -> dict[int, str]:
        """Runs to the end, where each image was done once or given up; returns the latter."""
        failed = self.scheduler.run()
        assert sorted([*self.results, *failed]) == list(self.images)
        assert failed == self.failures
        return failed

    def outcomes(self, image: int) -> list[str]:
        """How the calls with an image ended."""
        return [one.outcome for one in self.attempts if image in one.job.shard.indices]


def well(actor: int, shard: Shard | None) -> Event:
    """The fate of a call that goes well."""
    return Event(actor, result=f"node-{actor}" if shard is None else list(shard.indices))


def test_all_shards_are_done_once_in_whatever_order():
    orders = set()
    for seed in range(5):
        trial = Trial(well, count=7, actors=3, seed=seed)
        assert trial.ended() == {}
        orders.add(tuple(trial.results))
    assert len(orders) > 1  # the seeds did give different orders


@pytest.mark.parametrize(("count", "actors", "expected"), [(6, 2, 2), (2, 5, 2), (1, 3, 1)])
def test_never_more_actors_than_wanted_or_than_work(count, actors, expected):
    trial = Trial(well, count=count, actors=actors)
    trial.scheduler.run()
    assert trial.most == expected
    assert trial.started == expected
    assert max(trial.alive) <= expected


def fails_on(image: int, times: float = float("inf"), **how) -> tuple[Fate, list[tuple[int, ...]]]:
    """A fate in which calls with one image go wrong so many times, and the indices of these."""
    tries: list[tuple[int, ...]] = []

    def fate(actor, shard):
        if shard is not None and image in shard.indices and len(tries) < times:
            tries.append(shard.indices)
            return Event(actor, **how)
        return well(actor, shard)

    return fate, tries


def test_what_is_done_once_comes_first_is_never_late_and_has_no_last_resort():
    """Shards that wait for it are added by its result; other actors are hired for these."""
    trial, slow = Trial(well, count=4, actors=2, image_seconds=1.0), [5]
    trial.scheduler = replace(trial.scheduler, shards=[PREPARATION], on_result=trial.prepared)

    def fate(actor: int, shard: Shard | None) -> Event | None:
        if shard is PREPARATION and slow[0]:
            slow[0] -= 1
            return None
        return well(actor, shard)

    trial.fate = fate
    assert trial.ended() == {} and slow == [0]
    assert trial.attempts[0].job.shard is PREPARATION and trial.started == 2
    # One that keeps failing is given up after as many tries as any shard.
    failing = Trial(
        lambda actor, shard: (shard and Event(actor, error="no")) or well(actor, shard)
    )
    told: list[str] = []
    changes = {"shards": [PREPARATION], "on_failure": lambda shard, why: told.append(str(shard))}
    assert replace(failing.scheduler, **changes).run() == {}
    assert told == ["the noise of all images"] and not failing.resorts
    assert len(failing.attempts) == Execution().max_attempts


def test_an_actor_lost_at_work_is_replaced_and_its_shard_redone():
    fate, _ = fails_on(2, times=1, error="it crashed", lost=True)
    trial = Trial(fate, seed=1)
    assert trial.ended() == {}
    assert trial.outcomes(2) == ["lost", "done"]
    assert trial.scheduler.retries == 1
    assert trial.started == 3 and len(trial.actors) == 2


def test_an_actor_lost_while_starting_is_replaced_and_costs_no_attempt():
    def fate(actor, shard):
        if shard is None and actor < 4:
            return Event(actor, error="no such network", lost=True)
        return well(actor, shard)

    trial = Trial(fate, actors=1, max_attempts=1)
    assert trial.ended() == {}
    assert trial.started == 5
    assert trial.scheduler.retries == 0


def test_an_image_that_fails_is_tried_again_then_resorted_and_then_given_up():
    fate, tries = fails_on(3, error="ValueError: bad image")
    trial = Trial(fate, max_attempts=3)
    assert trial.ended() == {3: "ValueError: bad image"}
    assert len(tries) == 4  # the last one is the last resort
    assert trial.resorts == {3}
    # Its actors are none the worse.
    assert trial.started == 2
    assert trial.actors == {0, 1}


def test_the_last_resort_may_do_and_every_call_is_reported_with_its_place_and_time():
    fate, _ = fails_on(3, times=2, error="it is slow")
    trial = Trial(fate, max_attempts=2)
    assert trial.ended() == {}
    assert trial.resorts == {3}
    assert trial.outcomes(3) == ["failed", "failed", "done"]
    assert {one.node for one in trial.attempts} == {"node-0", "node-1"}
    for one in trial.attempts:
        assert one.seconds > 0 and one.reason == ("" if one.outcome == "done" else "it is slow")


def test_a_shard_that_fails_too_often_is_split_until_the_bad_image_is_alone():
    fate, tries = fails_on(5, error="bad image")
    trial = Trial(fate, count=3, size=4, max_attempts=2)
    assert trial.ended() == {5: "bad image"}
    whole = (4, 5, 6, 7)
    assert tries == [whole, whole, (5,), (5,), (5,)]
    assert trial.resorts == {5}


def test_losses_and_failures_are_counted_apart():
    """Two failures and two lost machines are neither three failures nor three losses."""
    tries = []

    def fate(actor, shard):
        if shard is not None and shard.number == 0 and len(tries) < 4:
            tries.append(actor)
            return Event(actor, error="oh", lost=len(tries) % 2 == 0)
        return well(actor, shard)

    trial = Trial(fate, max_attempts=3, max_losses=3)
    assert trial.ended() == {}
    assert not trial.resorts
    assert trial.scheduler.losses == 2 and trial.scheduler.retries == 4


def test_an_image_that_kills_actors_is_quarantined():
    fate, tries = fails_on(0, error="out of memory", lost=True)
    trial = Trial(fate, max_attempts=9, max_losses=2)
    assert trial.ended() == {0: "out of memory"}
    assert len(tries) == 4 == trial.scheduler.losses  # the last resort may lose as many
    assert trial.outcomes(0) == ["lost"] * 4


def test_a_call_that_takes_too_long_loses_its_actor_and_is_tried_again():
    """A hang in native code: no event ever comes."""
    hung = []

    def fate(actor, shard):
        if shard is not None and shard.number == 1 and len(hung) < 1:
            hung.append(actor)
        return None if actor in hung else well(actor, shard)

    trial = Trial(fate, image_seconds=20)
    assert trial.ended() == {}
    late = [a for a in trial.attempts if a.outcome == "late"]
    assert [a.job.shard.number for a in late] == [1]
    assert 20 < late[0].seconds <= 22 and late[0].node == f"node-{hung[0]}"
    assert hung[0] not in trial.actors
    assert trial.scheduler.losses == 0  # no machine was to blame


def test_a_shard_has_as_much_time_as_its_images_together():
    def fate(actor, shard):
        if shard is not None and trial.now < 35:
            return None
        return well(actor, shard)

    trial = Trial(fate, count=1, actors=1, size=4, image_seconds=10)
    assert trial.ended() == {}
    assert trial.outcomes(0) == ["done"]
    assert len(trial.alive) >= 35  # ticks came while nothing happened


def test_an_image_that_is_always_late_gets_the_last_resort_and_is_given_up():
    def fate(actor, shard):
        return None if shard is not None and shard.number == 2 else well(actor, shard)

    trial = Trial(fate, image_seconds=5, max_attempts=2)
    assert trial.ended() == {2: "not done within 5 s"}
    assert len(trial.actors) <= 2


def test_ten_thousand_images_over_256_actors():
    """What the driver itself needs; nothing is asserted of its time."""
    trial = Trial(well, count=2500, actors=256, size=4)
    assert trial.ended() == {}
    assert trial.most == 256


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (None, r"no actor was ready within 30 s$"),
        (Event(0, error="ValueError: NaN weights", lost=True), "within 30 s .*NaN weights"),
    ],
)
def test_no_actor_in_time_is_an_error_that_says_why(start, text):
    trial = Trial(lambda actor, shard: start and replace(start, actor=actor), start_timeout=30)
    with pytest.raises(NoActorError, match=text):
        trial.scheduler.run()
    assert 30 < trial.now <= 32


def test_the_time_without_actors_counts_from_the_last_one_that_was_there():
    """A long shard, then a loss: the replacement has the whole of the timeout."""

    def fate(actor, shard):
        if actor > 0:
            return None
        if shard is None:
            return well(actor, shard)
        return Event(actor, error="preempted", lost=True) if trial.now >= 100 else None

    trial = Trial(fate, count=1, start_timeout=20)
    with pytest.raises(NoActorError):
        trial.scheduler.run()
    assert 119 < trial.now <= 122


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

    trial = Trial(
        fate, count=12, actors=3, seed=seed, size=2, start_timeout=1000, image_seconds=50
    )
    # An image that was given up has had the last resort, and all its attempts or losses before.
    for index in trial.ended():
        last = [a for a in trial.attempts if a.job.shard.indices == (index,)]
        assert last[-1].job.resort and len(last) >= 4
    assert trial.most <= 3

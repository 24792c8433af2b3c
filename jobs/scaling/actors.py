"""Images per hour against the number of actors, in rounds that compare all numbers in turn."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray

from rddrs_dist.run.cluster import RayExecutor, connected, resources
from rddrs_dist.run.options import Run
from rddrs_dist.run.scaling import Watched, resident, steady_rate
from rddrs_dist.run.scheduler import Attempt, NoActorError, Scheduler
from rddrs_dist.run.shards import Limits, Shard
from rddrs_dist.run.worker import Task

from .options import Trial
from .sources import Source


class Block(NamedTuple):
    """What some actors did in one round.

    Attributes:
        round: Number of the round, from 0.
        actors: How many there were.
        rate: Images per second while all were at work.
        ready: Seconds from the start of each actor until it was ready.
        resident: Bytes of each in memory after its last call; empty where the system does not
            tell.
    """

    round: int
    actors: int
    rate: float
    ready: list[float]
    resident: list[dict[str, float]]


def measure(trial: Trial, source: Source) -> list[Block]:
    """Does all rounds on one Ray."""
    blocks = []
    with connected(trial.run(max(trial.actors))):
        for number in range(trial.rounds):
            for actors in trial.actors:
                block = _block(trial, source, number, actors)
                rate, ready = 3600 * block.rate, max(block.ready)
                print(
                    f"round {number + 1}/{trial.rounds}: {actors} actors, {rate:,.0f} images/h, "
                    f"ready after {ready:.1f} s",
                    flush=True,
                )
                blocks.append(block)
    return blocks


def _block(trial: Trial, source: Source, number: int, actors: int) -> Block:
    """Starts actors, has each do as many images and ends them."""
    run = trial.run(actors)
    task = Task(run.fitted, run.methods, trial.sigma, run.budget, run.seed)
    inner = RayExecutor(run, task, source.checkpoint, source.training)
    watched = Watched(inner, actors, time.perf_counter)
    scheduler = Scheduler(
        executor=watched,
        shards=shards(source, trial.images, actors),
        actors=actors,
        on_result=lambda shard, rows: None,
        on_failure=lambda shard, why: None,
        on_attempt=_insist,
        on_tick=lambda scheduler: None,
        clock=time.monotonic,
        limits=Limits(start_seconds=trial.start_timeout),
    )
    try:
        _go(scheduler, run)
        memory = _memory(inner)
    finally:
        for actor in list(inner._actors):
            watched.discard(actor)
    return Block(number, actors, steady_rate(watched.calls), list(watched.ready.values()), memory)


def shards(source: Source, images: int, actors: int) -> list[Shard]:
    """The same images for each actor, one to a shard, all actors at the same image at a time."""
    chosen = range(images)
    return [
        Shard(image * actors + copy, (image,), source.test.images[image : image + 1])
        for image in chosen
        for copy in range(actors)
    ]


def _insist(attempt: Attempt) -> None:
    """Ends a trial in which something went wrong: its times would say nothing."""
    if attempt.outcome != "done":
        raise ValueError(f"{attempt.job.shard} was {attempt.outcome}: {attempt.reason}")


def _go(scheduler: Scheduler, run: Run) -> None:
    """Does the shards."""
    try:
        scheduler.run()
    except NoActorError as error:
        raise NoActorError(f"{error}: {resources(run)}") from error


def _memory(inner: RayExecutor) -> list[dict[str, float]]:
    """What each actor's process holds."""
    calls = [actor.__ray_call__.remote(lambda _: resident()) for actor in inner._actors.values()]
    found: Sequence[Any] = ray.get(calls)
    return [one for one in found if one is not None]

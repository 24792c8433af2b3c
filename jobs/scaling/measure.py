"""Seconds per image of each method on a data set, phase by phase, and the work in them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rddrs_dist import Budget, Context, Streams, certify
from rddrs_dist.data.sets import ImageSet
from rddrs_dist.methods import Method
from rddrs_dist.noise import IsotropicNoise, Noise
from rddrs_dist.run.costs import Cost, Rates
from rddrs_dist.run.counting import Counter, shortened
from rddrs_dist.run.worker import Task, Worker

from .options import Trial
from .rates import Stopwatch, rates
from .sources import Source

_TRIED = 20  # test images among which those of the trial are looked for


class Phase(NamedTuple):
    """A part of the work for an image, as published settings would have it.

    Attributes:
        name: fit, compare, sample, axes or look.
        seconds: Per image.
        cost: What it is made of, per image.
        factor: How often what was measured makes the whole.
    """

    name: str
    seconds: float
    cost: Cost
    factor: float


class Found(NamedTuple):
    """What was measured of a method on a data set.

    Attributes:
        dataset: Name of the data set.
        dimension: d, elements of an image.
        method: Name of the method.
        steps: Steps that the measured fit took.
        phases: Its parts.
        rates: Of the machine, with this network and dimension.
    """

    dataset: str
    dimension: int
    method: str
    steps: float
    phases: list[Phase]
    rates: Rates

    @property
    def seconds(self) -> float:
        """Of all phases, per image."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def cost(self) -> Cost:
        """Of all phases, per image."""
        return sum((phase.cost for phase in self.phases), Cost())


class Bench:
    """A worker and a few images that it certifies, to be measured."""

    def __init__(self, trial: Trial, source: Source) -> None:
        """Loads the network as workers do and measures the rates."""
        self.trial, self.name = trial, source.name
        budget = Budget(n=trial.n_measured)
        task = Task((), (), trial.sigma, budget, seed=0)
        threads = trial.cpus_per_actor
        self.worker = Worker(task, source.checkpoint, source.training, threads, trial.cuda)
        self.indices, self.images = self._certified(source.test)
        self.dimension = self.images[0].numel()
        self.watch = Stopwatch(self.worker.device, trial.seconds)
        self.rates = rates(self.worker, self.images, self.watch)

    def _certified(self, test: ImageSet) -> tuple[list[int], Tensor]:
        """Indices and pixels of the first images that RS does not abstain on.

        For an abstention no training image is looked at, which would be measured as fast.
        """
        tried = max(_TRIED, 2 * self.trial.batch)
        images = torch.from_numpy(test.images[:tried]).to(self.worker.device)
        found: list[int] = []
        for row in range(len(images)):
            if len(found) < self.trial.batch and self._holds(images[row : row + 1], row):
                found.append(row)
        if len(found) < self.trial.batch:
            raise ValueError(
                f"only {len(found)} of the first {len(images)} test images of {self.name} are "
                f"certified by RS, wanted {self.trial.batch}: train longer (--epochs, "
                "--train-images) or give a checkpoint"
            )
        return found, images[found]

    def _holds(self, image: Tensor, row: int) -> bool:
        """Whether RS certifies an image with a few samples."""
        noise = IsotropicNoise.constant(self.trial.sigma, image)
        streams = Streams.of(0, [row])
        return bool(certify(self.worker.model, image, noise, Budget(n=200), streams).radius > 0)

    def context(self) -> Context:
        """What the fits get; those that start from DDRS, a scale such as it finds."""
        return Context(
            self.trial.sigma,
            Streams.of(0, self.indices),
            sigma_star=IsotropicNoise.constant(2 * self.trial.sigma, self.images),
            neighbours=self.worker.reference,
        )

    def found(self, method: Method) -> Found:
        """The phases of a method."""
        short = shortened(method, self.trial.samples)
        context, model, images = self.context(), self.worker.model, self.images
        fitting, fit = self._phase(
            "fit", lambda: short.method.fit(model, images, context), short.factor
        )
        budget = self.worker.task.budget
        # The axes are kept by a noise, so that they are not among what the next phase repeats.
        axes, noise = self._phase("axes", lambda: _with_axes(fit.noise))
        samples = (self.trial.n + budget.n0) / (budget.n + budget.n0)
        sampling, certificate = self._phase(
            "sample",
            lambda: certify(model, images, noise, budget, context.streams, limit=fit.limit),
            samples,
        )
        looking, _ = self._phase(
            "look", lambda: self.worker._others_inside(images, noise, certificate)
        )
        # A sample that compares candidates goes the same way as one that certifies.
        compared = short.compared / (self.trial.n + budget.n0)
        comparing = Phase(
            "compare", compared * sampling.seconds, sampling.cost * compared, sampling.factor
        )
        phases = [fitting, comparing, sampling, axes, looking]
        steps = float(fit.steps.mean())
        return Found(self.name, self.dimension, method.name, steps, phases, self.rates)

    def _phase(self, name: str, call: Callable[[], Any], factor: float = 1.0) -> tuple[Phase, Any]:
        """Seconds and work per image of a call, times a factor, and what it returned.

        The work is counted in a first run. Counting costs next to nothing beside operations that
        are long, so that where that run took long it is the measurement, too.
        """
        with Counter(self.worker.model, self.dimension) as counter:
            first, result = self.watch.once(call)
        share = factor / len(self.images)
        seconds = first if first >= self.watch.enough else self.watch.median(call)
        return Phase(name, seconds * share, counter.cost * share, factor), result


def _with_axes(noise: Noise) -> Noise:
    """The same noise, its axes computed afresh."""
    again = replace(noise)
    _ = again.axes
    return again

"""Data-dependent randomized smoothing, a sigma per image, and fits that start from it."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rddrs_dist.methods.ascent import State, ascend, trailing
from rddrs_dist.methods.base import Context, Fit, Method, best_of
from rddrs_dist.methods.checks import at_least_one, between, positive
from rddrs_dist.noise import IsotropicNoise
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.margin import soft_gap


@dataclass(frozen=True)
class DDRS(Method):
    """S = sigma I with sigma from ascent on sigma / 2 (Phi^-1(p_1) - Phi^-1(p_2)).

    Attributes:
        steps: Ascent steps.
        candidate_every: The sigma after every so many steps is a candidate.
        samples: Samples per step and image.
        learning_rate: Step length of the plain gradient ascent.
        clamp: Probabilities are clamped to [clamp, 1 - clamp].
        compare_samples: Samples per image that compare the candidates.
        floor: Lower end of sigma, in units of the network's: the published ascent has none, and a
            sigma that crossed zero would be no noise at all.

    References:
        Alfarra, Bibi, Torr, Ghanem 2020 (arXiv 2012.04351), algorithm 1.
    """

    name: ClassVar[str] = "ddrs"
    label: ClassVar[str] = "DDRS"
    paper: ClassVar[str] = "Alfarra et al. 2020 (arXiv 2012.04351)"
    colour: ClassVar[str] = "#0072b2"
    dashes: ClassVar[Any] = (0, (5, 1.6))

    steps: int = 1500
    candidate_every: int = 100
    samples: int = 100
    learning_rate: float = 1e-4
    clamp: float = 0.02
    compare_samples: int = 1000
    floor: float = 0.01

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "candidate_every", "samples", "compare_samples")
        positive(self, "learning_rate", "floor")
        between(self, 0, 0.5, "clamp")

    def _samples(self) -> int:
        return self.samples

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        event_shape = tuple(images.shape[1:])

        def move(state: State, step: int) -> tuple[State, Tensor]:
            sigma = state[0].clone().requires_grad_()
            z = context.streams.normal(Stage.FIT, step, 0, self.samples, images)
            gap = soft_gap(model, images, trailing(sigma, z) * z, self.clamp)
            objective = sigma / 2 * gap
            (slope,) = torch.autograd.grad(objective.sum(), sigma)
            floor = self.floor * context.sigma
            return ((state[0] + self.learning_rate * slope).clamp_min(floor),), objective

        candidates = ascend(
            (IsotropicNoise.constant(context.sigma, images).scale,),
            move,
            lambda state: IsotropicNoise(state[0], event_shape),
            context,
            steps=self.steps,
            every=self.candidate_every,
        )
        return best_of(model, images, candidates, context, self.compare_samples)


def fit_all(
    methods: Sequence[Method],
    model: nn.Module,
    images: Tensor,
    context: Context,
    *,
    start: Method | None = None,
    seconds: float = math.inf,
) -> Iterator[tuple[Method, Fit]]:
    """Fits several methods to the same images.

    Args:
        methods: What to fit.
        model: See `Method.fit`.
        images: (B, *event).
        context: sigma and streams; sigma_star is added here.
        start: DDRS, as the start of those that want it; by default the one among `methods`, or
            that of the published setting.
        seconds: Per image and method, after which a fit returns what it has.

    Yields:
        (method, fit): DDRS first, where it is one of the methods or another one starts from it,
        then the others in the order given; each is fitted when it is asked for.
    """
    own = [method for method in methods if method.name == DDRS.name]
    others = [method for method in methods if method.name != DDRS.name]

    def fitted(method: Method) -> Fit:
        deadline = time.monotonic() + seconds * len(images)
        return method.fit(model, images, replace(context, deadline=deadline))

    if own or any(method.from_sigma_star for method in others):
        first = own[0] if own else start or DDRS()
        fit = fitted(first)
        context = replace(context, sigma_star=fit.noise)
        yield first, fit
    for method in others:
        yield method, fitted(method)

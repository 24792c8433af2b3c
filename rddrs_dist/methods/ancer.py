"""ANCER: a diagonal per image."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from rddrs_dist.methods.ascent import State, ascend, trailing
from rddrs_dist.methods.base import Context, Fit, Method, best_of
from rddrs_dist.methods.checks import at_least_one, between, positive
from rddrs_dist.noise import DiagonalNoise
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.margin import soft_gap


@dataclass(frozen=True)
class Ancer(Method):
    """S = diag(theta) with theta from projected Adam on gap (mean_axis + kappa min_axis).

    gap is half of Phi^-1(p_1) - Phi^-1(p_2); after each step theta is at least sigma_star.

    Attributes:
        learning_rates: One candidate per learning rate of Adam; the best is kept for each image.
        steps: Steps of each candidate.
        samples: Samples per step and image.
        kappa: Weight of the smallest axis.
        clamp: Probabilities are clamped to [clamp, 1 - clamp].
        compare_samples: Samples per image that compare the candidates.

    References:
        Eiras, Alfarra, Kumar, Torr, Dokania, Ghanem, Bibi 2021 (arXiv 2107.04570), section 5.
    """

    name: ClassVar[str] = "ancer"
    label: ClassVar[str] = "ANCER"
    paper: ClassVar[str] = "Eiras et al. 2021 (arXiv 2107.04570)"
    colour: ClassVar[str] = "#009e73"
    dashes: ClassVar[Any] = (0, (5, 1.4, 1, 1.4))
    from_sigma_star: ClassVar[bool] = True

    learning_rates: tuple[float, ...] = (0.04, 0.4)
    steps: int = 100
    samples: int = 100
    kappa: float = 2.0
    clamp: float = 0.001
    compare_samples: int = 1000

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "samples", "compare_samples")
        positive(self, "learning_rates", "kappa")
        between(self, 0, 0.5, "clamp")

    def _samples(self) -> int:
        return self.samples

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        candidates = [self._climb(model, images, context, rate) for rate in self.learning_rates]
        return best_of(model, images, candidates, context, self.compare_samples)

    def _climb(self, model: nn.Module, images: Tensor, context: Context, rate: float) -> Fit:
        """The candidate of one learning rate."""
        floor = trailing(context.start().scale, images).expand_as(images)
        theta = floor.clone().requires_grad_()
        mean, square, steps = torch.zeros_like(theta), torch.zeros_like(theta), torch.tensor(0.0)
        # Not torch.optim.Adam: its first use in a process imports the compiler, for seconds.
        settings = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "maximize": True}

        def move(state: State, step: int) -> tuple[State, Tensor]:
            theta.data.copy_(state[0])
            objective = self._objective(model, images, theta, context, step)
            (gradient,) = torch.autograd.grad(objective.sum(), theta)
            with torch.no_grad():
                adam(
                    [theta], [gradient], [mean], [square], [], [steps],
                    amsgrad=False, weight_decay=0.0, **settings,
                )  # fmt: skip
            return (torch.maximum(theta.detach(), floor),), objective

        def noise(state: State) -> DiagonalNoise:
            return DiagonalNoise(state[0], tuple(images.shape[1:]))

        start = (theta.detach().clone(),)
        return ascend(start, move, noise, context, steps=self.steps, every=self.steps)[-1]

    def _objective(
        self, model: nn.Module, images: Tensor, theta: Tensor, context: Context, step: int
    ) -> Tensor:
        """gap (mean_axis + kappa min_axis) at theta, (B,)."""
        z = context.streams.normal(Stage.FIT, step, 0, self.samples, images)
        gap = soft_gap(model, images, theta.unsqueeze(1) * z, self.clamp) / 2
        axes = theta.flatten(1)
        return gap * (axes.log().mean(1).exp() + self.kappa * axes.amin(1))

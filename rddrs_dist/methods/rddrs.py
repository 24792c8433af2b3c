"""Riemannian data-dependent randomized smoothing: a full covariance per image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, linalg, nn

from rddrs_dist.geometry import metrics
from rddrs_dist.geometry.symmetric import eye, from_eigen, raised
from rddrs_dist.methods.ascent import State, ascend, trailing
from rddrs_dist.methods.base import Context, Fit, Method, best_of
from rddrs_dist.methods.checks import at_least_one, between, positive, refuse
from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing.margin import gap_gradient, normal_density, top_two
from rddrs_dist.smoothing.sample import soft_probabilities

ExpMap = Literal["factored", "geomstats"]
# A part below the floor that is rounding.
_NOTHING = 1e-6


class _Scale(NamedTuple):
    """C = L L^T of B images, in float64, its eigenvalues at least sigma_star."""

    matrix: Tensor  # C, (B, d, d)
    factor: Tensor  # L, (B, d, d)
    mean: Tensor  # P, the geometric mean of the eigenvalues, (B,)
    smallest: Tensor  # K, the smallest, (B,); on a GPU near to it where none is at the floor
    along: Tensor  # L^T u / |L^T u| for its eigenvector u, (B, d)

    @classmethod
    def isotropic(cls, sigma: Tensor, dimension: int) -> "_Scale":
        """sigma I from (B, 1)."""
        one = eye(dimension, sigma).expand(len(sigma), -1, -1)
        root, sizes = sigma.sqrt().unsqueeze(-1) * one, (sigma[:, 0], sigma[:, 0])
        return cls(sigma.unsqueeze(-1) * one, root, *sizes, one[:, 0])

    @classmethod
    def floored(cls, matrix: Tensor, floor: Tensor) -> "_Scale":
        """From an SPD matrix (B, d, d) whose eigenvalues are raised to the floor (B, 1)."""
        if matrix.is_cuda:  # where an eigendecomposition takes as long as all this four times
            return cls._by_products(matrix, floor)
        axes, frame = linalg.eigh(matrix)
        axes = axes.clamp_min(floor)
        first = torch.zeros_like(axes)
        first[:, 0] = 1
        factor, mean = frame * axes.sqrt().unsqueeze(-2), axes.log().mean(1).exp()
        return cls(from_eigen(axes, frame), factor, mean, axes[:, 0], first)

    @classmethod
    def _by_products(cls, matrix: Tensor, floor: Tensor) -> "_Scale":
        """As `floored`; u is any vector of the eigenspace of K where that has several."""
        whole, negative = raised(matrix, floor.unsqueeze(-1))
        factor = linalg.cholesky_ex(whole).L
        # Where all eigenvalues were above the floor, nothing lies below it, and a step of inverse
        # iteration finds u as well as a term of weight kappa wants it.
        start = matrix.new_ones(*matrix.shape[:-1], 1)
        below = negative @ start / floor.unsqueeze(-1)
        iterated = torch.cholesky_solve(start, factor)
        found = torch.where(below.norm(dim=1, keepdim=True) > _NOTHING, below, iterated)[..., 0]
        along = (factor.mT @ found.unsqueeze(-1))[..., 0]
        quotient = (along.norm(dim=1) / found.norm(dim=1)) ** 2
        mean = (2 * factor.diagonal(dim1=1, dim2=2).log().mean(1)).exp()
        along = along / along.norm(dim=1, keepdim=True)
        return cls(whole, factor, mean, quotient.clamp(floor[:, 0], mean), along)


@dataclass(frozen=True)
class RDDRS(Method):
    """S = C, SPD, from Riemannian gradient ascent on R P + kappa K R.

    R = Phi^-1(p_1) - Phi^-1(p_2), P the geometric mean of the eigenvalues of C and K the smallest.
    After each step the eigenvalues are at least sigma_star.

    Attributes:
        step_lengths: One candidate per step length gamma; the best is kept for each image.
        steps: Steps of each candidate.
        gradient_samples: Samples per step and image of the gradient.
        margin_samples: Samples per step and image of p_1 and p_2.
        kappa: Weight of the smallest eigenvalue.
        clamp: Probabilities are clamped to [clamp, 1 - clamp].
        compare_samples: Samples per image that compare the candidates.
        metric: Metric on SPD matrices; others than the affine-invariant go through geomstats.
        exp_map: How the affine-invariant exponential is computed: by our factored form, or by
            geomstats.

    References:
        Labarbarie, Hajri, Arnaudon 2022 (arXiv 2206.10235), sections 3 and 4; its slips are put
        right as docs/method.md lists.
    """

    name: ClassVar[str] = "rddrs"
    label: ClassVar[str] = "RDDRS"
    paper: ClassVar[str] = "Labarbarie et al. 2022 (arXiv 2206.10235)"
    colour: ClassVar[str] = "#d55e00"
    dashes: ClassVar[Any] = "solid"
    from_sigma_star: ClassVar[bool] = True

    step_lengths: tuple[float, ...] = (0.5, 1.25)
    steps: int = 100
    gradient_samples: int = 20_000
    margin_samples: int = 100
    kappa: float = 1e-6
    clamp: float = 0.001
    compare_samples: int = 1000
    metric: metrics.Metric = "affine-invariant"
    exp_map: ExpMap = "factored"

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "gradient_samples", "margin_samples", "compare_samples")
        positive(self, "step_lengths", "kappa")
        between(self, 0, 0.5, "clamp")
        for field, choices in (("metric", metrics.Metric), ("exp_map", ExpMap)):
            if getattr(self, field) not in get_args(choices):
                refuse(self, field, f"be one of {', '.join(get_args(choices))}")

    def _samples(self) -> int:
        return self.gradient_samples

    def _state(self, dimension: int) -> int:
        return 12 * 8 * dimension**2  # a dozen float64 matrices

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        candidates = [self._climb(model, images, context, length) for length in self.step_lengths]
        return best_of(model, images, candidates, context, self.compare_samples)

    def _climb(self, model: nn.Module, images: Tensor, context: Context, length: float) -> Fit:
        """The candidate of one step length."""
        floor = context.start().scale.double()[:, None]  # (B, 1)

        def move(state: State, step: int) -> tuple[State, Tensor]:
            scale = _Scale(*state)
            velocity, objective = self._velocity(model, images, scale, context, step)
            return self._step(scale, velocity, length, floor), objective

        def noise(state: State) -> FullNoise:
            return _noise(_Scale(*state), images)

        start = _Scale.isotropic(floor, images[0].numel())
        return ascend(start, move, noise, context, steps=self.steps, every=self.steps)[-1]

    def _velocity(
        self, model: nn.Module, images: Tensor, scale: _Scale, context: Context, step: int
    ) -> tuple[Tensor, Tensor]:
        """The objective, (B,), and before it its gradient in the frame of C, (B, d, d)."""
        noise, streams = _noise(scale, images, FullNoise.unchecked), context.streams
        batching = context.batching
        p = soft_probabilities(
            model, images, noise, self.margin_samples, streams, 2 * step, batching
        )
        top, classes = top_two(p, self.clamp)
        quantiles = torch.special.ndtri(top)
        signs = quantiles.new_tensor([1.0, -1.0])
        weights = torch.zeros_like(p).scatter(1, classes, signs / normal_density(quantiles))
        slope = gap_gradient(
            model, images, noise, weights, self.gradient_samples, streams, 2 * step + 1, batching
        )
        gap, slope = (quantiles[:, 0] - quantiles[:, 1]).double(), slope.double()
        # L^T G L and R (P + kappa K), with slope = E = dR/dC, gap = R and C = L L^T:
        # G = (P + kappa K) E + R P / d C^-1 + kappa R u u^T. In the frame of a factor L of C,
        # C^-1 is the identity and u a direction known beforehand.
        weight = scale.mean + self.kappa * scale.smallest
        velocity = trailing(weight, slope) * metrics.whiten(scale.factor, slope)
        velocity.diagonal(dim1=1, dim2=2).add_((gap * scale.mean / slope.shape[1])[:, None])
        pull = trailing(self.kappa * gap * scale.smallest, scale.along) * scale.along
        velocity += pull.unsqueeze(-1) * scale.along.unsqueeze(-2)
        return velocity, gap * weight

    def _step(self, scale: _Scale, velocity: Tensor, length: float, floor: Tensor) -> _Scale:
        """The scale after one step, floored; its mean is NaN where the step is not finite."""
        good = torch.isfinite(velocity).flatten(1).all(1)
        velocity = torch.where(trailing(good, velocity), velocity, 0.0)
        if self.metric == "affine-invariant" and self.exp_map == "factored":
            factor = metrics.factored_step(scale.factor, velocity, length)
            matrix = factor @ factor.mT
        else:
            inverse = linalg.inv(scale.factor)
            gradient = inverse.mT @ velocity @ inverse  # the Euclidean one
            matrix = metrics.step(self.metric, scale.matrix, gradient, length)
        # Judged in the precision that will be sampled from: a scale that overflows there is lost.
        good &= torch.isfinite(matrix.float()).flatten(1).all(1)
        one = eye(matrix.shape[-1], matrix)
        found = _Scale.floored(torch.where(trailing(good, matrix), matrix, one), floor)
        return found._replace(mean=torch.where(good, found.mean, torch.nan))


def _noise(scale: _Scale, images: Tensor, make: Callable[..., FullNoise] = FullNoise) -> FullNoise:
    """The noise in the precision that is sampled and certified."""
    return make(scale.matrix.to(images.dtype), tuple(images.shape[1:]))

"""RDDRS-TR: a full covariance per image by a trust-region ascent in log volume."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import eye, trace
from rddrs_dist.methods.ascent import State, ascend, asks, trailing
from rddrs_dist.methods.base import Context, Fit, Method
from rddrs_dist.methods.checks import at_least_one, between, positive, refuse
from rddrs_dist.methods.region_size import sized_region
from rddrs_dist.methods.sighted import sighted_fit
from rddrs_dist.methods.trust_region import narrowed
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.region import diameter
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Curvature, Tempering, curvature, slopes
from rddrs_dist.smoothing.margin import normal_density
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import normal_quantile_lower

_TINY = 1e-30
# Of start_multiples, the widest that may have the largest certified ball.
_WIDEST = 4.0
# Share of the cap below which the cap is not felt: it would take 3 % off the growth of an axis.
_SMALL = 0.3


class _Climb(NamedTuple):
    """The state of an ascent of B images."""

    scale: Tensor  # S, (B, d, d)
    logdet: Tensor  # (B,), log |det S|
    widest: Tensor  # (B,), the largest axis at most
    basis: Tensor  # (B, d, k), see Curvature
    hessian: Tensor  # (B, k, k)
    gradients: Tensor  # (B, k, k)
    best: Tensor  # (B,) float64, the largest objective so far
    stale: Tensor  # (B,) int64, steps since it was reached


@dataclass(frozen=True)
class RDDRSTR(Method):
    """S full, from an ascent in log volume that keeps the smoothed classifier's sight.

    Maximises log det S under three conditions: class c keeps its probability at x + S z; at
    training images y of other labels the answer at y + S z is c with a probability of at most
    `blindness`; and the region holds the ball of the best isotropic noise. No axis is shorter than
    that ball at the radius of `sighted_target` wants, and none longer than the diameter of
    [0, 1]^d there. Without training images the second condition falls away.

    With a blindness of 1 it is the method of version 0.7.0, whose largest regions belong to
    classifiers that give one answer everywhere: log det S is maximised while class c keeps the
    probability `target`, and no semi-axis exceeds the diameter. Settings from `target` on are that
    method's, and some of the sighted one's too.

    Attributes:
        blindness: Largest probability of the class at training images of other labels; 1 for the
            method of 0.7.0.
        floor: Share of the radius of the best isotropic noise's ball that the smallest axis has at
            the radius of `sighted_target`.
        sighted_target: Probability of the class at which the region holds that ball.
        aimed_share: Share of `blindness` that the fit aims at: what it has not looked at is
            measured.
        growth_target: Probability of the class above which axes grow.
        sighted_steps: Steps.
        sighted_rank: Directions in which the curvature is followed.
        sighted_damping: See damping.
        sighted_temperature: See temperature; all samples go backward.
        priority: How much more weight the condition has that is nearer to being broken.
        settling: Share by which steps are shorter at the end.
        floor_every: Steps after which axes are brought back to the floor and the cap exactly.
        round_multiples: Isotropic scales around the best of start_multiples, in its units.
        sized_multiples: Multiples of the last scale, above the floor, that are compared.
        sized_alpha: Error probability of the bounds on radii that are compared.
        target: Probability of the class at which the ascent of 0.7.0 holds the noise.
        growth: Largest step of an axis outward, in its logarithm.
        shrinkage: Largest step of an axis inward.
        decay: Weight of the past in the running means of the curvature.
        damping: Directions whose mean squared gradient is below this share of that of all, in the
            Frobenius norm, are taken as flat.
        rank: Directions in which the curvature is followed.
        temperature: Of the softmax, in units of the standard deviation of the margin.
        boundary_share: Share of the samples, those nearest to the decision boundary, that go
            backward.
        samples: Samples per image and step.
        steps: Steps at most.
        patience: Steps without a visible gain after which an image is done.
        start_multiples: Isotropic scales tried as a start, in units of sigma, 1 among them.
        start_samples: Samples per image and isotropic scale that choose the start.
        domain_share: The ascent holds semi-axes to this share of the domain's diameter at the
            target radius; the final size is sought from there.
        compare_samples: Samples per image that choose the final size.
        coarse_multiples: Sizes at which compare_samples / coarse_share estimate the radius.
        coarse_share: See coarse_multiples.
        fine_multiples: Sizes, in units of the likely best, among which all samples choose.
        cap_factor: Axes are cut at the domain as if the radius were so many times as large as it
            is for sure: the region is the rounder and larger, and what that costs of the radius a
            larger multiple makes up where the network has nearly the same radius at any.
        neighbour_margin: Training images with another label are kept out of the region times this.
        neighbour_reach: Beyond so many times the fitted region no training images are looked for,
            and no region goes.
        compare_alpha: Error probability of the bounds on radii that choose the final size.

    References:
        docs/method.md, section 9; the manifold and the gradient estimator are those of Labarbarie,
        Hajri, Arnaudon 2022 (arXiv 2206.10235).
    """

    name: ClassVar[str] = "rddrs_tr"
    label: ClassVar[str] = "RDDRS-TR"
    paper: ClassVar[str] = "docs/method.md, section 9"
    colour: ClassVar[str] = "#aa3f8f"
    dashes: ClassVar[Any] = (0, (9, 1.6))

    blindness: float = 0.05
    floor: float = 1.1
    sighted_target: float = 0.9985
    aimed_share: float = 0.6
    growth_target: float = 0.97
    sighted_steps: int = 27
    sighted_rank: int = 200
    sighted_damping: float = 0.001
    sighted_temperature: float = 1.0
    priority: float = 1.0
    settling: float = 0.5
    floor_every: int = 4
    round_multiples: tuple[float, ...] = (0.6, 0.8, 1.0, 1.25)
    sized_multiples: tuple[float, ...] = (0.75, 0.9, 1.05)
    sized_alpha: float = 0.2
    target: float = 0.9
    growth: float = 0.35
    shrinkage: float = 0.35
    decay: float = 0.7
    damping: float = 0.003
    rank: int = 128
    temperature: float = 0.6
    boundary_share: float = 0.4
    samples: int = 500
    steps: int = 40
    patience: int = 5
    start_multiples: tuple[float, ...] = tuple(1.5**k for k in range(-4, 9))
    start_samples: int = 200
    domain_share: float = 0.9
    compare_samples: int = 2000
    coarse_multiples: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0, 16.0, 32.0)
    coarse_share: int = 4
    fine_multiples: tuple[float, ...] = (0.85, 1.0, 1.1, 1.25)
    cap_factor: float = 1.55
    neighbour_margin: float = 1.5
    neighbour_reach: float = 10.0
    compare_alpha: float = 0.001

    def __post_init__(self) -> None:
        at_least_one(
            self, "rank", "samples", "steps", "patience", "start_samples", "compare_samples",
            "coarse_share", "sighted_steps", "sighted_rank", "floor_every",
        )  # fmt: skip
        positive(
            self, "growth", "shrinkage", "damping", "temperature", "start_multiples",
            "coarse_multiples", "fine_multiples", "cap_factor", "neighbour_margin",
            "neighbour_reach", "floor", "sighted_damping", "sighted_temperature",
            "round_multiples", "sized_multiples",
        )  # fmt: skip
        between(self, 0.5, 1, "target", "sighted_target", "growth_target")
        between(self, 0, 1 + 1e-9, "blindness", "aimed_share")
        between(self, -1e-9, 1, "settling")
        between(self, -1e-9, 1e3, "priority")
        between(self, -1e-9, 1, "decay")
        between(self, 0, 0.4, "growth")  # beyond, an axis could overshoot the cap (see _grow)
        between(self, 0, 1, "shrinkage")  # beyond, the series of the exponential is too short
        between(self, 0, 1 + 1e-9, "boundary_share", "domain_share")
        between(self, 0, 0.5, "compare_alpha", "sized_alpha")
        if 1.0 not in self.start_multiples:
            refuse(self, "start_multiples", "have 1, the network's own sigma, among them")
        if list(self.coarse_multiples) != sorted(set(self.coarse_multiples)):
            refuse(self, "coarse_multiples", "ascend")

    @property
    def radius(self) -> float:
        """Phi^-1(target), the radius that the region is held to."""
        return float(normal_quantile_lower(np.array([self.target]))[0])

    @property
    def coarse_samples(self) -> int:
        """Samples per image and coarse multiple."""
        return -(-self.compare_samples // self.coarse_share)

    def _samples(self) -> int:
        return self.samples

    def _state(self, dimension: int) -> int:
        return 12 * 8 * dimension**2  # a dozen float64 matrices at the end, less before

    @property
    def round_ladder(self) -> tuple[float, ...]:
        """The start_multiples that are looked at for the largest ball: not those far too wide."""
        return tuple(multiple for multiple in self.start_multiples if multiple <= _WIDEST)

    @property
    def sighted_radius(self) -> float:
        """Phi^-1(sighted_target), likewise."""
        return float(normal_quantile_lower(np.array([self.sighted_target]))[0])

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        if self.blindness < 1:
            return sighted_fit(self, model, images, context)
        classes, sigma, target = self._start(model, images, context)
        noise = partial(FullNoise, event_shape=tuple(images.shape[1:]))
        d, count = images[0].numel(), len(images)
        start = _Climb(
            sigma.view(-1, 1, 1) * eye(d, images),
            d * sigma.log(),
            sigma,
            *Curvature.blank(images, self.rank),
            best=torch.full((count,), -torch.inf, dtype=torch.float64, device=images.device),
            stale=torch.zeros(count, dtype=torch.int64, device=images.device),
        )
        fit = ascend(
            start,
            lambda state, step: self._move(
                _Climb(*state), step, model, images, classes, target, context
            ),
            lambda state: noise(state[0]),
            context,
            steps=self.steps,
            every=self.steps,
            converged=lambda state: _Climb(*state).stale >= self.patience,
        )[-1]
        sized = sized_region(model, images, fit.noise.scale, classes, context, self)
        return replace(fit, noise=noise(sized.scale), limit=sized.limit)

    def _start(
        self, model: nn.Module, images: Tensor, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A class, an isotropic scale to start from and the radius to hold, (B,) each.

        The class is the answer at sigma where that has the majority there, and otherwise the one
        with the largest proxy radius for sure. The start is the largest scale that holds the
        target. Where none does, as near a decision boundary, it is the one of the largest proxy
        radius, and its own radius is held.
        """
        ladder, n = self.start_multiples, self.start_samples
        found = [
            class_counts(
                model, images, IsotropicNoise.constant(factor * context.sigma, images), n,
                context.streams, Stage.FIT, rung, context.batching,
            )
            for rung, factor in enumerate(ladder)
        ]  # fmt: skip
        p = torch.stack(found, 1).to(images.dtype) / self.start_samples  # (B, rungs, K)
        scales = context.sigma * p.new_tensor(ladder)
        quantiles = torch.special.ndtri(p.clamp(0.01, self.target))
        share, answer = p[:, ladder.index(1.0)].max(-1)
        # Less three standard errors, or the widest noise would win by chance with one half.
        least = p - 3 * (p * (1 - p) / self.start_samples).sqrt()
        sure = torch.special.ndtri(least.clamp(0.01, self.target)) * scales.view(-1, 1)
        classes = torch.where(share > 0.5, answer, sure.amax(1).argmax(-1))
        rows = classes.view(-1, 1, 1).expand(-1, len(ladder), 1)
        held, radii = p.gather(2, rows)[..., 0], quantiles.gather(2, rows)[..., 0]
        best = torch.where(held >= self.target, scales, -1.0).argmax(1, keepdim=True)
        most = (radii * scales).argmax(1, keepdim=True)
        rung = torch.where((held >= self.target).any(1, keepdim=True), best, most)
        return classes, scales[rung[:, 0]], radii.gather(1, rung)[:, 0].clamp_min(0.05)

    def _move(
        self, state: _Climb, step: int, model: nn.Module, images: Tensor, classes: Tensor,
        target: Tensor, context: Context,
    ) -> tuple[State, Tensor]:  # fmt: skip
        """The state after one step, and the objective (B,) before it."""
        number = len(self.start_multiples) + step
        noise = FullNoise.unchecked(state.scale, tuple(images.shape[1:]))
        tempering = Tempering(self.temperature, self.boundary_share)
        drawn = slopes(
            model, images.unsqueeze(1), noise, classes.unsqueeze(1), self.samples, tempering,
            context.streams, number, context.batching,
        )  # fmt: skip
        k, past = state.basis.shape[-1], Curvature(state.basis, state.hessian, state.gradients)
        draw = Stage.FIT, number + self.steps, 0, k, images
        probes = context.streams.normal(*draw).flatten(2)
        seen = curvature(drawn, state.scale, past, self.decay, probes)
        p = drawn.p.double().clamp(0.01, 0.9995)
        quantile = torch.special.ndtri(p)
        excess = quantile.to(state.scale.dtype) - target
        scale, lost = narrowed(state.scale, seen, self.damping, self.shrinkage)
        scale, widest, widened = self._grow(scale, state.widest, excess)
        logdet = state.logdet + lost + widened
        # log Phi^-1(p) + log det S / d; a gain shows from twice its standard error on.
        radius = quantile.clamp_min(0.05)
        error = (p * (1 - p) / drawn.n).sqrt() / (normal_density(quantile) * radius)
        objective = radius.log() + (state.logdet / noise.dimension).double()
        stale = torch.where(objective > state.best + 2 * error, 0, state.stale + 1)
        best = torch.maximum(objective, state.best)
        return _Climb(scale, logdet, widest, *seen, best, stale), objective

    def _grow(
        self, scale: Tensor, widest: Tensor, excess: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Widens all axes where the radius exceeds its target, the less the nearer to the cap.

        An axis at the share s of the cap becomes s e^a (1 - (1 - e^-a) s^2), which is s e^a for a
        small one, rises with s and is 1 at s = 1 (for a < 0.4). While all axes are small, which
        they are for half of the steps, they grow by e^a without a look at them.

        From S (B, d, d), its largest axis at most and the radius above its target, (B,) each, to
        the new scale, the largest axis that it can have and the gain in log det, (B,) each.
        """
        rate = (2 * self.growth * excess).clamp(0, self.growth)
        wide, share = trailing(rate, scale), widest / self._cap(scale)
        small = share < _SMALL
        held = torch.where(small, 0.0, -torch.expm1(-rate))
        widest = widest * rate.exp() * (1 - held * share**2)
        gain = scale.shape[-1] * rate
        if asks(held) and bool((held == 0).all()):
            return wide.exp() * scale, widest, gain
        pulled, lost = self._pull(scale, held)
        return wide.exp() * (scale - trailing(held, scale) * pulled), widest, gain + lost

    def _pull(self, scale: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """S P, (B, d, d), and log det(I - c P), (B,), for P = S^T S / cap^2 and c (B,).

        The logarithm comes from the traces of P, P^2 and P^3; the series goes on as a geometric
        one, which is exact where the axes are at the cap or far from it.
        """
        share = scale.mT @ scale / self._cap(scale) ** 2
        pulled = scale @ share
        squares = share.square().sum((1, 2))
        cubes = pulled.square().sum((1, 2)) / self._cap(scale) ** 2
        ratio = (cubes / (squares + _TINY)).clamp(1e-3, 1)
        rest = torch.log1p(-held * ratio) + held * ratio + (held * ratio) ** 2 / 2
        return pulled, rest * cubes / ratio**3 - held * trace(share) - held**2 * squares / 2

    def _cap(self, scale: Tensor) -> float:
        """The largest axis, with which a semi-axis just stays within the domain's diameter."""
        return self.domain_share * diameter(scale.shape[-1]) / self.radius

"""RDDRS-TR: a full covariance per image by a trust-region ascent in log volume."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, linalg, nn

from rddrs_dist.geometry.symmetric import apply, sym
from rddrs_dist.methods.ascent import State, ascend, trailing
from rddrs_dist.methods.base import Context, Fit, Method
from rddrs_dist.methods.checks import at_least_one, positive
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.reference import diameter, keep_out, within
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Curvature, curvature
from rddrs_dist.smoothing.margin import normal_density
from rddrs_dist.smoothing.sample import class_counts, soft_probabilities
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

# Isotropic scales tried as a start, in units of sigma; the steps of the ascent are numbered on.
_LADDER = tuple(1.25**k for k in range(-8, 17))
# Multiples of the fitted scale among which comparison samples choose.
_MULTIPLES = (0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1)
# No radius above this is certified with fewer than 200,000 samples at alpha = 0.001.
_LARGEST_RADIUS = 4.0
# Axes and guard are held this much inside their limits: what certification will find is known only
# to the accuracy of the comparison samples.
_INSIDE = 0.9
_TINY = 1e-30


class _Climb(NamedTuple):
    """The state of an ascent of B images.

    Attributes:
        scale: S, (B, d, d).
        hessian: Running sum of W, (B, d, d), in the frame of S.
        gradients: The same of S^T E[g g^T] S.
        best: (B,) float64, the largest objective so far.
        stale: (B,) int64, steps since it was reached.
    """

    scale: Tensor
    hessian: Tensor
    gradients: Tensor
    best: Tensor
    stale: Tensor


@dataclass(frozen=True)
class RDDRSTR(Method):
    """S full, from an ascent in log volume that holds p at a target and stays in the domain.

    Maximises log det S under two conditions: class c keeps the probability `target` at x + S z,
    and no semi-axis of {x + S u : |u| < Phi^-1(target)} exceeds the diameter of [0, 1]^d.

    Attributes:
        target: Mean softmax of the class at which the ascent holds the noise.
        growth: Largest step of an axis outward, in its logarithm.
        shrinkage: Largest step of an axis inward.
        memory: Weight of the past in the running means of the curvature.
        damping: Directions whose mean squared gradient is below this share of that of all, in the
            Frobenius norm, are taken as flat.
        min_samples: Samples per image of the first step; they grow geometrically.
        max_samples: Samples per image of the last planned step.
        steps: Steps at most.
        patience: Steps without a visible gain after which an image is done.
        start_samples: Samples per image and isotropic scale that choose the start.
        compare_samples: Samples per image and multiple that choose the final size.
        guard: Training images with another label are kept out of the region times this.

    References:
        docs/method.md, section 9; the manifold and the gradient estimator are those of Labarbarie,
        Hajri, Arnaudon 2022 (arXiv 2206.10235).
    """

    name: ClassVar[str] = "rddrs_tr"

    target: float = 0.9
    growth: float = 0.25
    shrinkage: float = 0.25
    memory: float = 0.7
    damping: float = 0.003
    min_samples: int = 500
    max_samples: int = 1500
    steps: int = 40
    patience: int = 5
    start_samples: int = 200
    compare_samples: int = 2000
    guard: float = 1.5

    def __post_init__(self) -> None:
        at_least_one(
            self, "min_samples", "max_samples", "steps", "patience", "start_samples",
            "compare_samples",
        )  # fmt: skip
        positive(self, "growth", "shrinkage", "damping", "guard")
        # Beyond 0.4 the growth of an axis below the cap could overshoot it: see _grow.
        for field, low, high in (("target", 0.5, 1), ("memory", -1e-9, 1), ("growth", 0, 0.4)):
            if not low < getattr(self, field) < high:
                raise ValueError(
                    f"{self.name}.{field} must be between {max(low, 0):g} and {high:g}, "
                    f"got {getattr(self, field)}"
                )

    @property
    def radius(self) -> float:
        """Phi^-1(target), the radius that the region is held to."""
        return float(normal_quantile_lower(np.array([self.target]))[0])

    def _samples(self) -> int:
        return self.max_samples

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        classes, sigma, target = self._start(model, images, context)
        start = sigma.view(-1, 1, 1) * _eye(images)
        blank = torch.zeros_like(start)
        best = torch.full_like(sigma, -torch.inf, dtype=torch.float64)

        def move(state: State, step: int) -> tuple[State, Tensor]:
            return self._move(_Climb(*state), model, images, classes, target, context, step)

        def noise(state: State) -> FullNoise:
            return FullNoise(_Climb(*state).scale, tuple(images.shape[1:]))

        state = _Climb(start, blank, blank, best, torch.zeros_like(best, dtype=torch.int64))
        fit = ascend(
            state,
            move,
            noise,
            context,
            steps=self.steps,
            every=self.steps,
            converged=lambda state: _Climb(*state).stale >= self.patience,
        )[-1]
        scale, limits = self._bounded(fit.noise.scale, images, classes, context)
        sized = self._sized(model, images, scale, limits, classes, context)
        return Fit(sized, fit.status, fit.steps, fit.objective)

    def _start(
        self, model: nn.Module, images: Tensor, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The class at sigma, an isotropic scale to start from and the radius to hold, (B,) each.

        The start is the largest scale that holds the target. Where none does, as near a decision
        boundary, it is the one of the largest proxy radius, and its own radius is held.
        """
        shape = tuple(images.shape[1:])
        found = []
        for rung, factor in enumerate(_LADDER):
            noise = IsotropicNoise(images.new_full((len(images),), factor * context.sigma), shape)
            found.append(
                soft_probabilities(model, images, noise, self.start_samples, context.streams, rung)
            )
        p = torch.stack(found, 1)  # (B, rungs, K)
        classes = p[:, _LADDER.index(1.0)].argmax(-1)
        held = p.gather(2, classes.view(-1, 1, 1).expand(-1, len(_LADDER), 1))[..., 0]
        radii = torch.special.ndtri(held.clamp(0.01, self.target))
        scales = context.sigma * held.new_tensor(_LADDER)
        best = torch.where(held >= self.target, scales, -1.0).argmax(1, keepdim=True)
        most = (radii * scales).argmax(1, keepdim=True)
        rung = torch.where((held >= self.target).any(1, keepdim=True), best, most)
        return classes, scales[rung[:, 0]], radii.gather(1, rung)[:, 0].clamp_min(0.05)

    def _move(
        self,
        state: _Climb,
        model: nn.Module,
        images: Tensor,
        classes: Tensor,
        target: Tensor,
        context: Context,
        step: int,
    ) -> tuple[State, Tensor]:
        """The state after one step, and the objective (B,) before it."""
        noise, n = FullNoise(state.scale, tuple(images.shape[1:])), self._schedule(step)
        seen = curvature(model, images, noise, classes, n, context.streams, len(_LADDER) + step)
        keep = self.memory
        hessian = keep * state.hessian + (1 - keep) * seen.hessian
        gradients = keep * state.gradients + (1 - keep) * seen.gradients
        quantile = torch.special.ndtri(seen.p.double().clamp(0.01, 0.9995))
        # A decomposition of NaN is an error; such an image ends as `ascend` says.
        good = (torch.isfinite(hessian) & torch.isfinite(gradients)).flatten(1).all(1)
        hessian, gradients = (
            torch.where(trailing(good, part), part, 0.0) for part in (hessian, gradients)
        )
        scale = self._reshape(state.scale, hessian, gradients)
        scale = self._grow(scale, quantile.to(scale.dtype) - target)
        scale = torch.where(trailing(good, scale), scale, torch.nan)
        objective, noisy = self._objective(state.scale, seen, quantile, n)
        better = objective > state.best + noisy
        best = torch.maximum(objective, state.best)
        stale = torch.where(better, 0, state.stale + 1)
        return _Climb(scale, hessian, gradients, best, stale), objective

    def _schedule(self, step: int) -> int:
        """Samples of a step: few while the steps are large."""
        share = (step - 1) / max(1, self.steps - 1)
        return round(self.min_samples * (self.max_samples / self.min_samples) ** share)

    def _objective(
        self, scale: Tensor, seen: Curvature, quantile: Tensor, n: int
    ) -> tuple[Tensor, Tensor]:
        """log Phi^-1(p) + log det S / d, and twice the standard error of its estimate, (B,)."""
        radius = quantile.clamp_min(0.05)
        mean_axis = linalg.slogdet(scale).logabsdet.double() / scale.shape[-1]
        p = seen.p.double().clamp(0.01, 0.9995)
        error = (p * (1 - p) / n).sqrt() / (normal_density(quantile) * radius)
        return radius.log() + mean_axis, 2 * error

    def _reshape(self, scale: Tensor, hessian: Tensor, gradients: Tensor) -> Tensor:
        """Narrows the directions along which p falls.

        W acts in the range of the gradients, its Monte-Carlo noise does not: what lies across it
        is damped away before eigenvalues are taken. Eigenvalues below minus their mean modulus
        give the full step, positive ones none.
        """
        strength = linalg.matrix_norm(gradients)
        ridge = trailing(self.damping * strength + _TINY, gradients) * _eye(scale)
        soft = linalg.solve(gradients + ridge, gradients)  # (B, d, d), 1 where the gradients are
        projected = sym(soft @ hessian @ soft.mT)

        def factor(eigenvalues: Tensor) -> Tensor:
            unit = eigenvalues.abs().mean(-1, keepdim=True) + _TINY
            return torch.exp(-self.shrinkage * (-eigenvalues / unit).clamp(0, 1))

        return scale @ apply(factor, projected)

    def _grow(self, scale: Tensor, excess: Tensor) -> Tensor:
        """Widens all axes where the radius exceeds its target, the less the nearer to the cap.

        An axis at the share s of the cap becomes s e^a (1 - (1 - e^-a) s^2), which is s e^a for a
        small one, rises with s and is 1 at s = 1 (for a < 0.4). Matrix products only.
        """
        rate = (2 * self.growth * excess).clamp(0, self.growth)
        rate = trailing(rate, scale)
        share = scale.mT @ scale / self._cap(scale) ** 2
        return rate.exp() * (scale + torch.expm1(-rate) * (scale @ share))

    def _cap(self, scale: Tensor) -> float:
        """The largest axis, with which a semi-axis just stays within the domain's diameter."""
        return _INSIDE * diameter(scale.shape[-1]) / self.radius

    def _bounded(
        self, scale: Tensor, images: Tensor, classes: Tensor, context: Context
    ) -> tuple[Tensor, Tensor]:
        """The scale with axes cut at the cap and training images kept out of the guarded region.

        Also the largest radius, (B,), for which both hold.
        """
        u, axes, v = linalg.svd(scale)
        scale = (u * axes.clamp_max(self._cap(scale)).unsqueeze(-2)) @ v
        widest = diameter(scale.shape[-1])
        if context.reference is None:
            return scale, widest / linalg.matrix_norm(scale, 2)
        kept, limits = [], []
        for s, image, label in zip(scale, images, classes.tolist(), strict=True):
            others = context.reference.others(image, label)
            s = keep_out(s, others, self.guard * self.radius / _INSIDE)
            limit = widest / float(linalg.matrix_norm(s, 2))
            wide = s.double()
            near = within(wide @ wide.mT, others, self.guard * limit)[1]
            kept.append(s)
            limits.append(min([limit, *(near / self.guard).tolist()]))
        return torch.stack(kept), scale.new_tensor(limits)

    def _sized(
        self,
        model: nn.Module,
        images: Tensor,
        scale: Tensor,
        limits: Tensor,
        classes: Tensor,
        context: Context,
    ) -> FullNoise:
        """The multiple of the scale that supports the largest proxy radius within its limits.

        sigma I, with which the class was found, is there for images that nothing else holds.
        """
        shape = tuple(images.shape[1:])
        sigma = context.sigma * _eye(images).expand_as(scale)
        unlimited = torch.full_like(limits, torch.inf)
        candidates = [(sigma, unlimited), *((k * scale, limits / k) for k in _MULTIPLES)]
        best, score = sigma, np.zeros(len(images))
        for candidate, limit in candidates:
            noise = FullNoise(candidate, shape)
            low, high = self._radii(model, images, noise, classes, context)
            gain = np.where(high <= limit.double().cpu().numpy(), low, 0.0)
            gain = gain * noise.mean_axis.cpu().numpy()
            better = torch.from_numpy(gain > score).to(scale.device)
            best = torch.where(trailing(better, scale), candidate, best)
            score = np.maximum(score, gain)
        return FullNoise(best, shape)

    def _radii(
        self, model: nn.Module, images: Tensor, noise: FullNoise, classes: Tensor, context: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bound of the radius that comparison samples support, (B,)."""
        n, streams = self.compare_samples, context.streams
        counts = class_counts(model, images, noise, n, streams, Stage.COMPARE)
        count = counts.gather(1, classes[:, None])[:, 0].cpu().numpy()
        low = normal_quantile_lower(clopper_pearson_lower(count, n, 0.001))
        high = normal_quantile_lower(1 - clopper_pearson_lower(n - count, n, 0.001))
        return low, np.minimum(high, _LARGEST_RADIUS)


def _eye(like: Tensor) -> Tensor:
    """The identity for a batch of images (B, *event) or of matrices (B, d, d), (d, d)."""
    size = like.shape[-1] if like.ndim == 3 else math.prod(like.shape[1:])
    return torch.eye(size, dtype=like.dtype, device=like.device)

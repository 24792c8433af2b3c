"""RDDRS-TR: a full covariance per image by a trust-region ascent in log volume."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, linalg, nn

from rddrs_dist.geometry.symmetric import apply, sym
from rddrs_dist.methods.ascent import State, ascend, trailing
from rddrs_dist.methods.base import Context, Fit, Method
from rddrs_dist.methods.checks import at_least_one, positive
from rddrs_dist.methods.sizing import best_multiple, bounded, radius_limits
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.reference import diameter
from rddrs_dist.smoothing.curvature import curvature
from rddrs_dist.smoothing.margin import normal_density
from rddrs_dist.smoothing.sample import soft_probabilities
from rddrs_dist.stats import normal_quantile_lower

# Isotropic scales tried as a start, in units of sigma; the steps of the ascent are numbered on.
LADDER = tuple(1.25**k for k in range(-8, 17))
# Axes and guard are held this much inside their limits, since the radius that certification will
# find is known only to the accuracy of comparison samples.
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
        start = sigma.view(-1, 1, 1) * _eye(images[0].numel(), images)
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
        found = fit.noise.scale
        scale = bounded(
            found, images, classes, context.reference, self.radius / _INSIDE, self.guard
        )
        limits = radius_limits(scale, images, classes, context.reference, self.guard)
        sized = best_multiple(model, images, scale, limits, classes, context, self.compare_samples)
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
        for rung, factor in enumerate(LADDER):
            noise = IsotropicNoise(images.new_full((len(images),), factor * context.sigma), shape)
            found.append(
                soft_probabilities(model, images, noise, self.start_samples, context.streams, rung)
            )
        p = torch.stack(found, 1)  # (B, rungs, K)
        classes = p[:, LADDER.index(1.0)].argmax(-1)
        held = p.gather(2, classes.view(-1, 1, 1).expand(-1, len(LADDER), 1))[..., 0]
        radii = torch.special.ndtri(held.clamp(0.01, self.target))
        scales = context.sigma * held.new_tensor(LADDER)
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
        noise, n = FullNoise(state.scale, tuple(images.shape[1:])), self.schedule(step)
        seen = curvature(model, images, noise, classes, n, context.streams, len(LADDER) + step)
        keep = self.memory
        hessian = keep * state.hessian + (1 - keep) * seen.hessian
        gradients = keep * state.gradients + (1 - keep) * seen.gradients
        p = seen.p.double().clamp(0.01, 0.9995)
        quantile = torch.special.ndtri(p)
        # A decomposition of NaN is an error; such an image ends as `ascend` says.
        good = (torch.isfinite(hessian) & torch.isfinite(gradients)).flatten(1).all(1)
        hessian, gradients = (
            torch.where(trailing(good, part), part, 0.0) for part in (hessian, gradients)
        )
        scale = self._reshape(state.scale, hessian, gradients)
        scale = self._grow(scale, quantile.to(scale.dtype) - target)
        scale = torch.where(trailing(good, scale), scale, torch.nan)
        objective, noisy = self._objective(state.scale, p, quantile, n)
        better = objective > state.best + noisy
        best = torch.maximum(objective, state.best)
        stale = torch.where(better, 0, state.stale + 1)
        return _Climb(scale, hessian, gradients, best, stale), objective

    def schedule(self, step: int) -> int:
        """Samples of a step: few while the steps are large."""
        share = (step - 1) / max(1, self.steps - 1)
        return round(self.min_samples * (self.max_samples / self.min_samples) ** share)

    def _objective(
        self, scale: Tensor, p: Tensor, quantile: Tensor, n: int
    ) -> tuple[Tensor, Tensor]:
        """log Phi^-1(p) + log det S / d, and twice the standard error of its estimate, (B,)."""
        radius = quantile.clamp_min(0.05)
        mean_axis = linalg.slogdet(scale).logabsdet.double() / scale.shape[-1]
        error = (p * (1 - p) / n).sqrt() / (normal_density(quantile) * radius)
        return radius.log() + mean_axis, 2 * error

    def _reshape(self, scale: Tensor, hessian: Tensor, gradients: Tensor) -> Tensor:
        """Narrows the directions along which p falls.

        Eigenvalues below minus their mean modulus give the full step, positive ones none.
        """

        def factor(eigenvalues: Tensor) -> Tensor:
            unit = eigenvalues.abs().mean(-1, keepdim=True) + _TINY
            return torch.exp(-self.shrinkage * (-eigenvalues / unit).clamp(0, 1))

        return scale @ apply(factor, self.damped(hessian, gradients))

    def damped(self, hessian: Tensor, gradients: Tensor) -> Tensor:
        """An estimate of W, (B, d, d), without what lies across the range of the gradients.

        W acts in that range, its Monte-Carlo noise does not.
        """
        strength = linalg.matrix_norm(gradients)
        eye = _eye(gradients.shape[-1], gradients)
        ridge = trailing(self.damping * strength + _TINY, gradients) * eye
        soft = linalg.solve(gradients + ridge, gradients)  # (B, d, d), 1 where the gradients are
        return sym(soft @ hessian @ soft.mT)

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


def _eye(size: int, like: Tensor) -> Tensor:
    """The identity, (size, size), of a tensor's kind."""
    return torch.eye(size, dtype=like.dtype, device=like.device)

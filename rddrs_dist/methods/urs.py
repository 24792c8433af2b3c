"""Universal Riemannian smoothing: one noise for all images, fitted once to training images."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import eye
from rddrs_dist.methods.ascent import State, ascend
from rddrs_dist.methods.base import Context, Fit, Method
from rddrs_dist.methods.checks import at_least_one, between, positive, refuse
from rddrs_dist.methods.trust_region import narrowed, narrowed_pixelwise
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from rddrs_dist.noise.base import right_axes
from rddrs_dist.region import diameter
from rddrs_dist.sight import fitted
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import (
    Curvature,
    Slopes,
    Tempering,
    curvature,
    slopes,
)
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import logits_of, one_hot


@dataclass(frozen=True)
class URS(Method):
    """One S for all images, of the largest log det S at a given price in accuracy under noise.

    Two conditions: training images keep their right label under S z with a mean probability that
    is at most `drop` below the one under sigma z, and all axes lie between floor * sigma and cap.

    Attributes:
        structure: full, or diagonal: a standard deviation per pixel.
        refit: Fit although the checkpoint holds the noise that its network was trained under.
        drop: How much of the mean probability of the right label may be given up.
        floor: No axis is shorter, in units of sigma.
        cap: No axis is longer, as a share of the diameter of [0, 1]^d.
        growth: Largest step of an axis outward, in its logarithm.
        shrinkage: Largest step of an axis inward.
        decay: Weight of the past in the running means.
        damping: Directions whose mean squared gradient is below this share of that of all, in the
            Frobenius norm, are taken as flat.
        rank: Directions in which the curvature is followed, of a full scale.
        temperature: Of the softmax, in units of the standard deviation of the margin.
        boundary_share: Share of the samples, those nearest to the decision boundary, that go
            backward.
        samples: Samples per step, two around each of half as many training images.
        start_samples: Samples that measure the mean probability under sigma z.
        steps: Steps.

    References:
        docs/method.md, section 11. UCAN (arXiv 2510.19977) has one diagonal for a data set.
    """

    name: ClassVar[str] = "urs"
    label: ClassVar[str] = "URS"
    paper: ClassVar[str] = "docs/method.md, section 11"
    colour: ClassVar[str] = "#b8860b"
    dashes: ClassVar[Any] = (0, (7, 1.4, 1.2, 1.4))
    universal: ClassVar[bool] = True

    structure: Literal["full", "diagonal"] = "full"
    refit: bool = False
    drop: float = 0.01
    floor: float = 1.0
    cap: float = 0.7
    growth: float = 0.35
    shrinkage: float = 0.35
    decay: float = 0.7
    damping: float = 0.003
    rank: int = 192
    temperature: float = 0.6
    boundary_share: float = 0.3
    samples: int = 2000
    start_samples: int = 20_000
    steps: int = 25

    def __post_init__(self) -> None:
        if self.structure not in ("full", "diagonal"):
            refuse(self, "structure", "be full or diagonal")
        at_least_one(self, "rank", "samples", "start_samples", "steps")
        positive(self, "floor", "cap", "damping", "temperature")
        between(self, 0, 1, "drop", "shrinkage")
        between(self, 0, 0.4, "growth")  # beyond, an axis could overshoot the cap
        between(self, -1e-9, 1, "decay")
        between(self, 0, 1 + 1e-9, "boundary_share")

    def _samples(self) -> int:
        return 1

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        if context.universal is None:
            raise ValueError(
                "urs has one noise for all images and the context has none: fit it to training "
                "images with prepare(model, context) and pass replace(context, universal=it)"
            )
        return Fit.of(context.universal.repeated(len(images)))

    def taken(self, stored: Noise | None) -> Noise | None:
        """See `Method.taken`."""
        if stored is None or self.refit:
            return None
        if stored.is_diagonal != (self.structure == "diagonal"):
            held = "diagonal" if stored.is_diagonal else "full"
            raise ValueError(
                f"the checkpoint holds a {held} noise for all images and urs.structure is "
                f"{self.structure}: fit another with --urs.refit, or ask for {held}"
            )
        return stored

    def prepare(self, model: nn.Module, context: Context) -> Noise:
        """See `Method.prepare`; the `fitted` half of the training images is looked at.

        Raises:
            ValueError: If the context has no training images.
        """
        if context.neighbours is None:
            raise ValueError("urs fits its noise to training images, and the context has none")
        known = context.neighbours
        half = fitted(len(known.labels))
        images, labels = known.images[half], known.labels[half]
        with multiplying("tf32", images.device):
            return _Ascent(self, model, Neighbours(images, labels), context).noise()


class _Climb(NamedTuple):
    """The state of the ascent, B = 1; of a diagonal W and G are diagonals too, without a basis."""

    scale: Tensor  # S, (1, d, d), or its diagonal, (1, d)
    p: Tensor  # (1,), running mean of the probability of the right label
    basis: Tensor  # (1, d, k), see Curvature
    hessian: Tensor  # (1, k, k), or (1, d)
    gradients: Tensor  # (1, k, k), or (1, d)


@dataclass(frozen=True, eq=False)
class _Ascent:
    """The ascent of one run, on labelled images that are not measured with."""

    method: URS
    model: nn.Module
    known: Neighbours
    context: Context

    @property
    def like(self) -> Tensor:
        """One image, (1, *event)."""
        return self.known.images[:1]

    def noise(self) -> Noise:
        """The noise at its end, of one image."""
        method, sigma, like = self.method, self.context.sigma, self.like
        d, full = like.numel(), method.structure == "full"
        start = self._probability(IsotropicNoise.constant(sigma, like))
        if full:
            scale, seen = eye(d, like).unsqueeze(0), Curvature.blank(like, method.rank)
        else:
            none = like.new_zeros(1, d)
            scale, seen = torch.ones_like(none), (like.new_zeros(1, 0), none, none)
        move = self._full if full else self._diagonal
        found = ascend(
            _Climb(sigma * scale, start, *seen),
            lambda state, step: move(_Climb(*state), step, start - method.drop),
            lambda state: self._of(state[0]),
            self.context,
            steps=method.steps,
            every=method.steps,
        )
        return found[-1].noise.lower()

    def _of(self, scale: Tensor) -> FullNoise | DiagonalNoise:
        """The noise of a scale."""
        shape = tuple(self.like.shape[1:])
        if scale.ndim == 3:
            return FullNoise.unchecked(scale, shape)
        return DiagonalNoise(scale.unflatten(1, shape), shape)

    def _around(self, step: int, n: int) -> tuple[Tensor, Tensor]:
        """Images chosen at random, with replacement, and their labels: (1, n, *event), (1, n)."""
        below = [len(self.known.labels)]
        rows = self.context.streams.integers(Stage.FIT, step, below, n)
        places = torch.from_numpy(rows).to(self.known.labels.device)
        return self.known.images[places], self.known.labels[places]

    @torch.no_grad()
    def _probability(self, noise: Noise) -> Tensor:
        """Share of the images that keep their label, one sample each, (1,)."""
        steps, n = self.method.steps, self.method.start_samples
        images, labels = self._around(3 * steps + 1, n)
        blocks = list(self.context.batching.batches(self.like, n).blocks)
        parts = zip(blocks, images.split(blocks, 1), labels.split(blocks, 1), strict=True)
        right = []
        for block, (size, own, wanted) in enumerate(parts):
            z = self.context.streams.normal(Stage.FIT, 3 * steps + 2, block, size, self.like)
            answers = one_hot(logits_of(self.model, own + noise.colour(z)))
            right.append(answers.gather(2, wanted.unsqueeze(2)).sum((1, 2)))
        return torch.stack(right).sum(0) / n

    def _slopes(self, noise: FullNoise | DiagonalNoise, step: int) -> Slopes:
        """Samples around as many pairs of images, each with the class that is right there."""
        method, context = self.method, self.context
        images, labels = self._around(2 * method.steps + step, max(1, method.samples // 2))
        tempering = Tempering(method.temperature, method.boundary_share)
        given = (method.samples, tempering, context.streams, step, context.batching)
        return slopes(self.model, images, noise, labels, *given)

    def _rate(self, seen: Slopes, state: _Climb, target: Tensor) -> tuple[Tensor, Tensor]:
        """The running mean of p and how far axes may grow, (1,) each."""
        method = self.method
        p = method.decay * state.p + (1 - method.decay) * seen.p
        return p, method.growth * ((p - target) / method.drop).clamp(0, 1)

    def _full(self, state: _Climb, step: int, target: Tensor) -> tuple[State, Tensor]:
        """The state after one step, and the mean logarithm of its axes, (1,)."""
        method, scale = self.method, state.scale
        drawn = self._slopes(self._of(scale), step)
        past, k = Curvature(*state[2:]), state.basis.shape[2]
        probes = self.context.streams.normal(Stage.FIT, method.steps + step, 0, k, self.like)
        seen = curvature(drawn, scale, past, method.decay, probes.flatten(2))
        p, rate = self._rate(drawn, state, target)
        scale = narrowed(scale, seen, method.damping, method.shrinkage)[0].double()
        # S f(S^T S), which turns nothing: what has been seen stays where it is in the new frame.
        axes, frame = right_axes(scale)
        wanted = self._bounded(axes, rate)
        scale = (scale @ (frame * (wanted / axes).unsqueeze(1))) @ frame.mT  # (1, d, d)
        return _Climb(scale.to(state.scale.dtype), p, *seen), wanted.log().mean(1)

    def _diagonal(self, state: _Climb, step: int, target: Tensor) -> tuple[State, Tensor]:
        """The same for a diagonal scale."""
        method, share = self.method, 1 - self.method.decay
        drawn = self._slopes(self._of(state.scale), step)
        white = drawn.gradients * state.scale.unsqueeze(1)
        hessian = method.decay * state.hessian + share * (white * drawn.z).sum(1) / drawn.n
        gradients = method.decay * state.gradients + share * white.square().sum(1) / drawn.n
        p, rate = self._rate(drawn, state, target)
        axes = narrowed_pixelwise(
            state.scale, hessian, gradients, method.damping, method.shrinkage
        )
        axes = self._bounded(axes, rate)
        return _Climb(axes, p, state.basis, hessian, gradients), axes.log().mean(1)

    def _bounded(self, axes: Tensor, rate: Tensor) -> Tensor:
        """Axes (1, d) after growth by a rate (1,), between floor and cap.

        An axis s becomes s e^a (1 - (1 - e^-a) (s / cap)^2), the less the nearer to the cap, which
        none crosses (for a < 0.4).
        """
        cap, rate = self.method.cap * diameter(axes.shape[1]), rate.unsqueeze(1).to(axes.dtype)
        grown = axes * rate.exp() * (1 + torch.expm1(-rate) * (axes / cap).clamp(max=1) ** 2)
        return grown.clamp(min=self.method.floor * self.context.sigma).clamp(max=cap)

"""Aimed noise: one certificate for the changes of an image that a user names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from rddrs_dist.families import FAMILIES, Family
from rddrs_dist.methods.base import Context, Fit, Method, Status
from rddrs_dist.methods.checks import at_least_one, between, positive, refuse
from rddrs_dist.methods.sighted import others_of
from rddrs_dist.noise import IsotropicNoise, LowRankNoise
from rddrs_dist.region import Floats, Integers
from rddrs_dist.sight import Others
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

_DEFAULT = {"rotation": 10.0}  # where nothing is named
# Step of the comparison stage at which sight is asked.
_SIGHT = 1
# Error probability of p: a radius smaller than expected costs the ends of families, too wide a
# noise only some sight.
_SURE = 0.3
# Factor between the first noises that are tried, until one is too narrow and one too wide.
_WIDER = 1.5
# What Phi^-1(blindness) changes by where noises reach e times as far, on MNIST: a first guess.
_SLOPE = 1.8
# Factor by which they differ at least until something is known on either side.
_LITTLE = 1.05
# A smaller s has to promise so much more.
_WORTH = 1.1
# Radius that regions of a network are trained to have; 3.2 wants 10,000 samples, 3.8 100,000.
_TRAINED_RADIUS = 3.0
_LEAST_TAU = 1e-3
# Sweeps at most, and the error of weights and lengths, as a share, at which they are over.
_SWEEPS, _GAP = 200, 1e-3
# Times that secants are added where a family leaves the region between others.
_REFINED = 5


@dataclass(frozen=True)
class Aim(Method):
    """S S^T = s^2 I + U diag(w) U^T, just wide enough for the changes that are named.

    U are the secants x' - x of changed images x', and w makes the noise that is the nearest to
    N(0, s^2 I), in relative entropy, of those whose region holds all of them. A region is convex,
    so that it holds mixtures of changed images too. Sought is the largest multiple tau <= 1 of
    the named amounts that is certified for a classifier that sees.

    An amount of 0 is not named. Where none is named, it is a rotation by 10 degrees.

    Attributes:
        rotation: Degrees, to either side.
        shift: Pixels, right or left and up or down at once.
        scaling: %, larger or smaller.
        shear: Degrees, to either side.
        brightness: Pixel values, added or taken away.
        contrast: %, more or less, about the mean of the image.
        blur: Standard deviation, in pixels.
        secants: Changed images of each side of a family that is no straight line; more are added
            where it leaves the region between them.
        grade: Share of the radius that the nearest of these leave free: by so much the radius may
            be smaller than thought, and the part of the family that is left shrinks with it.
        slack: Share of the radius that is left for what a family does between its secants.
        multiples: s, in units of sigma, largest first; one after another until all is held.
        start_samples: Samples that choose the class.
        trials: Noises that are tried with each s.
        samples: Samples that tell the probability of the class under each noise.
        sight_samples: Samples that tell its blindness.
        blindness: Largest probability of the class at training images of other labels.
        aimed_share: Share of `blindness` that is aimed at: what is not looked at is measured.

    References:
        docs/method.md, section 13.
    """

    name: ClassVar[str] = "aim"
    label: ClassVar[str] = "Aimed"
    paper: ClassVar[str] = "docs/method.md, section 13"
    colour: ClassVar[str] = "#1b7f79"
    dashes: ClassVar[Any] = (0, (2.5, 1, 1, 1))

    rotation: float = 0.0
    shift: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    secants: int = 6
    grade: float = 0.3
    slack: float = 0.04
    multiples: tuple[float, ...] = (1.0, 0.5)
    start_samples: int = 200
    trials: int = 5
    samples: int = 1300
    sight_samples: int = 1600
    blindness: float = 0.05
    aimed_share: float = 0.45

    def __post_init__(self) -> None:
        for family in FAMILIES:
            if not 0 <= getattr(self, family.name) <= family.limit:
                refuse(self, family.name, f"be 0, or up to {family.limit:g} {family.unit}")
        at_least_one(self, "secants", "start_samples", "trials", "samples", "sight_samples")
        between(self, -1e-9, 1, "grade", "slack")
        between(self, 0, 1 + 1e-9, "blindness", "aimed_share")
        positive(self, "multiples")
        if list(self.multiples) != sorted(set(self.multiples), reverse=True):
            refuse(self, "multiples", "descend")

    @property
    def amounts(self) -> dict[Family, float]:
        """What is named: families and their largest parameters."""
        named = {one: float(getattr(self, one.name)) for one in FAMILIES}
        if not any(named.values()):
            named = {one: _DEFAULT.get(one.name, 0.0) for one in FAMILIES}
        return {one: amount for one, amount in named.items() if amount}

    def multiple(self, held: Floats) -> Floats:
        """tau up to which regions hold what is named, (B,), from what they hold of each family.

        Args:
            held: Largest parameters, (len(FAMILIES), B).
        """
        shares = [
            np.where(own >= amount, 1.0, np.nextafter(own / amount, 0.0).clip(0.0))
            for own, amount in zip(held, (self.amounts.get(one) for one in FAMILIES), strict=True)
            if amount is not None
        ]
        return np.min(shares, axis=0)

    def _samples(self) -> int:
        return max(self.samples, self.sight_samples)

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        return _Search.begun(self, model, images, context).fit()

    def noise(self, images: Tensor, s: float, taus: Floats, radii: Floats) -> LowRankNoise:
        """The noise whose region of radius r holds tau times what is named.

        Args:
            images: (B, C, H, W).
            s: Standard deviation where nothing is named.
            taus: tau of each image, (B,), in (0, 1].
            radii: r of each image, (B,).
        """
        given = zip(images.split(1), taus.tolist(), radii.tolist(), strict=True)
        parts = [self._noise(image, s, tau, radius) for image, tau, radius in given]
        found = LowRankNoise.concatenate(parts)
        return replace(found, scale=found.scale.to(images.device))

    def training_noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Noise along the secants of a random multiple of what is named, as images (B, *event).

        It has about the variances of `noise` for a region of radius `_TRAINED_RADIUS`, without
        its search for weights: those of the ends of each family alone, and all alike.
        """
        tau = max(float(torch.rand((), generator=generator, device=images.device)), _LEAST_TAU)
        found = torch.zeros_like(images)
        for family, amount in self.amounts.items():
            changed = family.hull(images.cpu(), tau * amount, 1).to(images)
            secants = changed - images.unsqueeze(1)  # (B, m, *event)
            z = torch.randn(secants.shape[:2], generator=generator, device=images.device)
            share = z.shape[1] ** -0.5 / _TRAINED_RADIUS
            found += share * torch.einsum("bm,bm...->b...", z, secants)
        return found

    def _noise(self, image: Tensor, s: float, tau: float, radius: float) -> LowRankNoise:
        """That of one image, on the CPU."""
        image, even = image.cpu(), [j / self.secants for j in range(1, self.secants + 1)]
        shares = {family: even for family in self.amounts if family.departure}
        noise = self._holding(image, s, shares, tau, radius)
        for _ in range(_REFINED):
            more = {one: self._missed(image, noise, one, at, tau, radius)
                    for one, at in shares.items()}  # fmt: skip
            if not any(more.values()):
                break
            shares |= {one: sorted([*shares[one], *at]) for one, at in more.items()}
            noise = self._holding(image, s, shares, tau, radius)
        return noise

    def _holding(
        self, image: Tensor, s: float, shares: Mapping[Family, Sequence[float]], tau: float,
        radius: float,
    ) -> LowRankNoise:  # fmt: skip
        """The noise whose region holds straight families, and curved ones at shares of tau."""
        found = [
            self._secants(image, family, shares[family], tau)[0]
            if family in shares
            else (family.hull(image, tau * amount)[0] - image.double()).flatten(1)
            for family, amount in self.amounts.items()
        ]
        secants = torch.cat(found)
        weights = aimed_weights(secants, s, radius)
        used = weights > 0
        columns, own = secants[used].mT.unsqueeze(0), weights[used].unsqueeze(0)
        return LowRankNoise.of(weights.new_tensor([s]), columns, own, tuple(image.shape[1:]))

    def _secants(
        self, image: Tensor, family: Family, shares: Sequence[float], tau: float
    ) -> tuple[Tensor, Tensor]:
        """x' - x at shares of tau times an amount, (k, d) float64, and which share each is of.

        They are as much longer than they are as they are to lie deeper in the region; see `grade`.
        """
        amount, of = tau * self.amounts[family], torch.tensor(shares, dtype=torch.float64)
        changed = family.variants(image, [share * amount for share in shares])[0]
        secants = (changed - image.double()).flatten(2) / (1 - self.grade * (1 - of)).unsqueeze(1)
        return secants.flatten(0, 1), of.repeat(len(secants))

    def _missed(
        self, image: Tensor, noise: LowRankNoise, family: Family, shares: Sequence[float],
        tau: float, radius: float,
    ) -> list[float]:  # fmt: skip
        """Shares half way between others at which a region is left, but for half of the slack."""
        between = [(low + high) / 2 for low, high in pairwise([0.0, *shares])]
        secants, of = self._secants(image, family, between, tau)
        lengths = noise.inverse(0).times(secants.mT).norm(dim=0)
        return sorted(set(of[lengths > radius * (1 + self.slack / 2)].tolist()))


class _Trial(NamedTuple):
    """Noises of B images, and what samples tell of them."""

    s: float
    noise: LowRankNoise
    reach: Floats  # tau per unit of radius that the noise was made for, (B,)
    radius: Floats  # that is likely to be certified, less the slack, (B,)
    blind: Floats  # share of blind samples, (B,)

    @property
    def tau(self) -> Floats:
        """What is likely to be certified, at most 1."""
        return np.minimum(self.reach * self.radius, 1)


@dataclass(frozen=True, eq=False)
class _Search:
    """The search for the noise of images that share launches.

    tau is the product of two: what a noise reaches per unit of radius, which is chosen, and the
    radius that it has then. The more it reaches, the smaller the radius and the blinder.
    """

    method: Aim
    model: nn.Module
    images: Tensor
    context: Context
    classes: Tensor
    others: Others | None

    @classmethod
    def begun(cls, method: Aim, model: nn.Module, images: Tensor, context: Context) -> "_Search":
        """A search for the class that the network answers under the narrowest noise."""
        noise = IsotropicNoise.constant(method.multiples[-1] * context.sigma, images)
        given = method.start_samples, context.streams, Stage.FIT, 0, context.batching
        classes = class_counts(model, images, noise, *given).argmax(1)
        return cls(method, model, images, context, classes, others_of(classes, context))

    def fit(self) -> Fit:
        """The best noise of each image."""
        tried, best, everyone = list[_Trial](), list[_Trial](), range(len(self.images))
        for multiple in self.method.multiples:
            tried += self._with(multiple * self.context.sigma)
            best = [max(tried, key=lambda one, i=i: self._worth(one, i)) for i in everyone]
            if self.context.late or all(self._held(one)[i] for i, one in enumerate(best)):
                break
        noise = LowRankNoise.concatenate([one.noise[[i]] for i, one in enumerate(best)])
        sees = [bool(self._sees(one)[i]) for i, one in enumerate(best)]
        ended = Status.DEADLINE if self.context.late else Status.CONVERGED
        return Fit(
            noise,
            [ended if one else Status.BLIND for one in sees],
            np.full(len(sees), len(tried)),
            np.array([one.tau[i] for i, one in enumerate(best)]),
            np.full(len(sees), math.inf),
        )

    def _sees(self, trial: _Trial) -> NDArray[np.bool_]:
        """Whether noises leave as much sight as is aimed at, (B,)."""
        return trial.blind <= self.method.aimed_share * self.method.blindness

    def _held(self, trial: _Trial) -> NDArray[np.bool_]:
        """Whether noises are likely to hold all that is named, (B,)."""
        return self._sees(trial) & (trial.tau >= 1)

    def _worth(self, trial: _Trial, i: int) -> tuple[float, ...]:
        """What the larger of is better for an image; of equals, the first of the least reach."""
        if not self._sees(trial)[i]:
            return (0.0, -trial.blind[i])
        narrow = trial.s < self.method.multiples[0] * self.context.sigma
        return (1.0, trial.tau[i] / (_WORTH if narrow else 1), -trial.reach[i])

    def _with(self, s: float) -> list[_Trial]:
        """The noises that are tried with one s."""
        radius = self._radius(np.full(len(self.images), self.method.samples))
        reach, tried = (1 + _GAP) / radius, list[_Trial]()
        for _ in range(self.method.trials):
            tried.append(self._tried(s, reach, radius))
            if self.context.late or bool(self._held(tried[0]).all()):
                break
            radius = tried[-1].radius
            reach = np.array([self._next(tried, i) for i in range(len(reach))])
        return tried

    def _next(self, tried: Sequence[_Trial], i: int) -> float:
        """What the next noise of an image is to reach.

        Between the widest that is known to be too narrow and the narrowest that is known to be
        wide enough, or blind. On a straight line of Phi^-1(blindness) where that decides.
        """
        reach, blind, tau, sees = np.array(
            [(one.reach[i], one.blind[i], one.tau[i], self._sees(one)[i]) for one in tried]
        ).T
        over = (sees == 0) | (tau >= 1)
        if not over.any():
            return reach.max() * _WIDER
        high = np.where(over, reach, np.inf).argmin()
        below, likely = np.where(reach < reach[high], reach, 0.0), ndtri(np.clip(blind, 1e-3, 0.5))
        allowed = ndtri(self.method.aimed_share * self.method.blindness)
        if not below.any():
            shorter = np.exp((allowed - likely[high]) / _SLOPE) if not sees[high] else 1 / _WIDER
            return reach[high] * min(shorter, 1 / _LITTLE)
        low, share = below.argmax(), 0.5
        if not sees[high]:
            share = (allowed - likely[low]) / (likely[high] - likely[low])
            share = np.clip(share, 0.1, 0.9)
        return float(reach[low] ** (1 - share) * reach[high] ** share)

    def _radius(self, count: Integers) -> Floats:
        """The radius that certificates are likely to have after so many answers, (B,)."""
        samples, (n, alpha) = self.method.samples, (self.context.n, self.context.alpha)
        p = clopper_pearson_lower(count, samples, _SURE)
        lower = clopper_pearson_lower(np.floor(p * n).astype(np.int64), n, alpha)
        # What is not certified has one too, so that wider and narrower noise can be told apart.
        return normal_quantile_lower(lower).clip(0.1) / (1 + self.method.slack)

    def _tried(self, s: float, reach: Floats, radius: Floats) -> _Trial:
        """Noises of a reach, made for a radius, and what samples tell: the same for all."""
        method, context, batching = self.method, self.context, self.context.batching
        taus = np.minimum(reach * radius, 1)
        noise = method.noise(self.images, s, taus, taus / reach)
        given = method.samples, context.streams, Stage.COMPARE, 0, batching
        counts = class_counts(self.model, self.images, noise, *given)
        found = self._radius(counts.gather(1, self.classes.unsqueeze(1))[:, 0].cpu().numpy())
        if self.others is None:
            return _Trial(s, noise, reach, found, np.zeros(len(found)))
        drawn = method.sight_samples, Stage.COMPARE, _SIGHT, batching, self.others.images[:1]
        blind = self.others.blind(self.model, noise, *drawn).double().cpu().numpy()
        return _Trial(s, noise, reach, found, blind / method.sight_samples)


def aimed_weights(secants: Tensor, s: float, radius: float) -> Tensor:
    """w of C = s^2 I + U diag(w) U^T with ||C^(-1/2) d|| <= r for all secants d, (k,).

    w maximises log det C - r^2 sum(w), which is concave. Its dual is to minimise the relative
    entropy of N(0, s^2 I) to N(0, C), s^2 tr(C^-1) + log det C up to constants, over all C whose
    region holds the secants: no other C is nearer to N(0, s^2 I). One weight after another is
    made the best, in closed form.

    Args:
        secants: d as rows, (k, d) float64; one of zeros gets no weight.
        s: Least standard deviation.
        radius: r.
    """
    held = (secants @ secants.mT / s**2).numpy()  # U^T C^-1 U
    weights, least = np.zeros(len(held)), 1 / radius**2
    for _ in range(_SWEEPS):
        for i, own in enumerate(weights):
            length = held[i, i]
            if length <= 0:
                continue
            change = max(0.0, own + least - 1 / length) - own
            weights[i] += change
            column = held[:, i] * (change / (1 + change * length))
            held = held - np.outer(column, held[i])
        lengths = held.diagonal() * least
        gap = weights @ (1 - lengths)  # what the dual is above it, times r^2
        if lengths.max() <= 1 + _GAP and gap <= _GAP * weights.sum():
            break
    return torch.from_numpy(weights)

"""The size of a fitted region: inside the pixel domain, clear of other labels, as large as it can.

A region is {x + S u : |u| < r}. What it must not leave and what it must not reach give a limit for
its radius; the size is chosen so that certification will surely reach it, and the certified radius
is cut there. How S and r share a size is nothing to the region: it is that of k S and r / k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import eye
from rddrs_dist.methods.ascent import trailing
from rddrs_dist.methods.axis_cap import capped
from rddrs_dist.methods.base import Context
from rddrs_dist.neighbours import Neighbours, keep_out
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.region import diameter
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, class_counts_of_multiples
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Between the coarse multiples the radius is interpolated in so many steps.
_STEPS = 256
# Scales are rounded to single precision, which moves distances in units of narrow axes by less.
_ROUNDING = 1e-4
# Proxy radii that are no further apart are the same.
_SAME = 1e-6


@dataclass(frozen=True)
class Sizing:
    """How the size of a region is chosen.

    Attributes:
        radius: Smallest radius at which semi-axes are cut at the diameter of [0, 1]^d.
        margin: Training images with another label are kept out of the region times this.
        samples: Samples per image and multiple of the last choice.
        coarse: Multiples of the cut scale at which a share of the samples estimates the radius.
        fine: Multiples of the likely best one, among which all samples choose.
        share: The samples of a fine multiple over those of a coarse one.
        cap: Axes are cut at the domain as if the radius were so many times as large as it is for
            sure: the region is the rounder and larger, and what that costs of the radius a larger
            multiple makes up where the network has nearly the same radius at any.
        furthest: Beyond so many times the fitted region no training images are looked for, and no
            region goes.
        alpha: Error probability of the bounds on radii.
    """

    radius: float
    margin: float
    samples: int
    coarse: tuple[float, ...]
    fine: tuple[float, ...]
    share: int
    cap: float
    furthest: float
    alpha: float

    @property
    def few(self) -> int:
        """Samples per image and coarse multiple."""
        return -(-self.samples // self.share)

    def radius_below(self, counts: Tensor, classes: Tensor, n: int) -> Floats:
        """Lower bound of the radius that class counts (B, K) out of n support, (B,)."""
        count = counts.gather(1, classes[:, None])[:, 0].cpu().numpy()
        return normal_quantile_lower(clopper_pearson_lower(count, n, self.alpha))


@dataclass(frozen=True, eq=False)
class Sized:
    """Scales of B images, and how far their regions may reach.

    Attributes:
        scale: S, (B, d, d), lower triangular.
        limit: (B,), the largest radius at which a region keeps to the domain and to its margin.
        radius: (B,), the radius that comparison samples support, the limit at most.
        proxy: (B,), the proxy radius with it.
    """

    scale: Tensor
    limit: Floats
    radius: Floats
    proxy: Floats

    @classmethod
    def best(
        cls, lower: Tensor, multiples: Sequence[float], radii: Sequence[Floats], limits: Floats
    ) -> "Sized":
        """Of multiples of a scale those of the largest proxy radius, the first among equals.

        Args:
            lower: (B, d, d), lower triangular.
            multiples: The k, M of them.
            radii: M of radii that k times the scale supports, (B,).
            limits: (B,), over k the largest radius at a multiple of k.
        """
        means = lower.diagonal(dim1=1, dim2=2).double().log().mean(1).exp().cpu().numpy()
        best, radius, proxy = (np.zeros(len(lower)) for _ in range(3))
        for k, own in zip(multiples, radii, strict=True):
            held = np.minimum(own, limits / k)
            better = (held * k * means > proxy * (1 + _SAME)) | (best == 0)
            best = np.where(better, k, best)
            radius = np.where(better, held, radius)
            proxy = np.where(better, held * k * means, proxy)
        factors = trailing(torch.from_numpy(best).to(lower), lower)
        return cls(factors * lower, limits / best, radius, proxy)

    def improved(self, rows: Rows, other: "Sized") -> "Sized":
        """With those of another, one for each of some rows, that have a larger proxy radius."""
        better = np.flatnonzero(other.proxy > self.proxy[rows] * (1 + _SAME))
        if not len(better):
            return self
        scale = self.scale.clone()
        scale[torch.from_numpy(rows[better])] = other.scale[torch.from_numpy(better)]
        limit, radius, proxy = self.limit.copy(), self.radius.copy(), self.proxy.copy()
        for own, new in ((limit, other.limit), (radius, other.radius), (proxy, other.proxy)):
            own[rows[better]] = new[better]
        return Sized(scale, limit, radius, proxy)


def sized_region(
    model: nn.Module,
    images: Tensor,
    scale: Tensor,
    classes: Tensor,
    context: Context,
    sizing: Sizing,
) -> Sized:
    """A fitted scale with its axes cut at the domain, clear of other labels, of the best size.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S as fitted, (B, d, d).
        classes: (B,), the class that each region is for.
        context: sigma, streams and neighbours; the comparison stage is drawn from.
        sizing: How the size is chosen.
    """
    fitted, n = FullNoise(scale, tuple(images.shape[1:])), sizing.samples
    drawn = (context.streams, Stage.COMPARE)
    counts = class_counts(model, images, fitted, sizing.few, *drawn, batching=context.batching)
    known = sizing.radius_below(counts, classes, sizing.few)
    # The noise of RS, sigma I, is there for images that nothing else holds.
    start, everyone = IsotropicNoise.constant(context.sigma, images), np.arange(len(images))
    counts = class_counts(model, images, start, n, *drawn, 1, context.batching)
    one = eye(fitted.dimension, scale).expand_as(scale)
    free = np.full(len(images), np.inf)
    rs = Sized.best(one, (context.sigma,), [sizing.radius_below(counts, classes, n)], free)

    def sized(rows: Rows, supposed: Floats) -> Sized:
        own, label, part = images[rows], classes[rows], context[rows.tolist()]
        at = np.maximum(sizing.radius, supposed)
        cut, limits = bounded(scale[rows], own, label, part.neighbours, at, sizing)
        return best_multiple(model, own, cut, limits, label, part, sizing)

    found = rs.improved(everyone, sized(everyone, sizing.cap * known))
    # Where a rounder region is none that the network holds, one that is as round as it surely is.
    short = np.flatnonzero((found.radius < found.limit) & (sizing.cap * known > sizing.radius))
    return found.improved(short, sized(short, known[short])) if len(short) else found


def bounded(
    scale: Tensor,
    images: Tensor,
    classes: Tensor,
    neighbours: Neighbours | None,
    radius: Floats,
    sizing: Sizing,
) -> tuple[Tensor, Floats]:
    """Cuts the axes at the domain and keeps training images out of the region and its margin.

    Args:
        scale: S, (B, d, d).
        images: (B, *event).
        classes: (B,), the class that each region is for.
        neighbours: Training images; None where there are none.
        radius: (B,), at which semi-axes are cut at the diameter of [0, 1]^d.
        sizing: Its margin and how far training images are looked for.

    Returns:
        The scale, (B, d, d), and the largest radius at which its region keeps to the domain and to
        its margin, (B,).
    """
    d = scale.shape[-1]
    caps = torch.from_numpy(diameter(d) / radius).to(scale.device)
    cut = capped(scale.double(), caps)
    kept, limits = cut.scale, (diameter(d) / cut.widest).cpu().numpy()
    margin = sizing.margin
    if neighbours is None:
        return kept.to(scale.dtype), limits
    for row, label in enumerate(classes.tolist()):
        reach, whitening = min(limits[row], sizing.furthest * radius[row]), cut.whitening[row]
        near, distances = neighbours.near(images[row], label, whitening, margin * reach)
        # A training image equal to the test image can be kept out by nothing.
        near = near[distances > 0]
        whitened = near @ whitening @ cut.turn[row].mT  # (k, d)
        kept[row], whitened = keep_out(kept[row], whitened, margin * radius[row])
        limits[row] = min([reach, *(whitened.norm(dim=1) / margin).tolist()])
    return kept.to(scale.dtype), limits


def best_multiple(
    model: nn.Module,
    images: Tensor,
    scale: Tensor,
    limits: Floats,
    classes: Tensor,
    context: Context,
    sizing: Sizing,
) -> Sized:
    """The multiple k of a scale that supports the largest proxy radius within its limit.

    It is sought at multiples far apart, and then at those around the likely best. Noise that is
    wide everywhere has nearly the same radius at any multiple, so that from some k on the limit is
    reached; of these, which have the same region, the smallest is taken, whose smoothed network
    sees most.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S, (B, d, d).
        limits: (B,), the largest radius with S, over k with k S.
        classes: (B,), the class whose probability counts.
        context: Streams, whose comparison stage is drawn from.
        sizing: Multiples and samples.
    """
    few, n, coarse = sizing.few, sizing.samples, sizing.coarse
    drawn = (context.streams, Stage.COMPARE)
    # Samples come from the scale as it was fitted: they turn with the image, as it does.
    noise = FullNoise(scale, tuple(images.shape[1:]))
    lower, limits = noise.lower().scale, limits * (1 - _ROUNDING)
    counts = class_counts_of_multiples(
        model, images, noise, coarse, few, *drawn, batching=context.batching
    )
    radii = [sizing.radius_below(own, classes, few) for own in counts]
    supposed = [
        sizing.radius_below(sizing.share * own, classes, sizing.share * few) for own in counts
    ]
    likely = likely_multiple(coarse, supposed, limits)
    factors = trailing(torch.from_numpy(likely).to(scale), scale)
    noise = FullNoise(factors * scale, noise.event_shape)
    counts = class_counts_of_multiples(
        model, images, noise, sizing.fine, n, *drawn, 1, context.batching
    )
    fine = [sizing.radius_below(own, classes, n) for own in counts]
    found = Sized.best(factors * lower, sizing.fine, fine, limits / likely)
    return found.improved(np.arange(len(images)), Sized.best(lower, coarse, radii, limits))


def likely_multiple(coarse: Sequence[float], radii: Sequence[Floats], limits: Floats) -> Floats:
    """The multiple that is best if radii at coarse multiples are interpolated, (B,).

    Args:
        coarse: The multiples, ascending.
        radii: Lower bounds of the radius at each of them; (B,) each.
        limits: (B,), over k the largest radius at a multiple of k.
    """
    places = np.log(coarse)
    steps = np.linspace(places[0], places[-1], _STEPS)
    multiples = np.exp(steps)
    gains = [
        np.minimum(np.interp(steps, places, own) * multiples, limit)
        for own, limit in zip(np.stack(radii, 1), limits, strict=True)
    ]
    return multiples[np.stack(gains).argmax(1)]

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
from rddrs_dist.methods.axis_cap import cut_by_eigenvalues, cut_by_products
from rddrs_dist.methods.base import Context
from rddrs_dist.neighbours import Neighbours, diameter, keep_out
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, class_counts_of_multiples
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Multiples of the cut scale at which a share of the comparison samples looks at its radius, and
# multiples of the likely best among which all of them choose.
COARSE = (0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0, 16.0, 32.0)
FINE = (0.85, 1.0, 1.1, 1.25)
SHARE = 4
# Between the former the radius is interpolated in so many steps.
_STEPS = 256
# Beyond so many times the fitted region no training images are looked for, and no region goes.
_FURTHEST = 10.0
_ALPHA = 0.001
# Axes are cut at the domain as if the radius were so many times as large as it is for sure: the
# region is the rounder and larger, and what that costs of the radius a larger multiple makes up
# where the network has nearly the same radius at any.
_ROUNDER = 1.55
# Scales are rounded to single precision, which moves distances in units of narrow axes by less.
_ROUNDING = 1e-4
# Proxy radii that are no further apart are the same.
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Sized:
    """Scales of B images, and how far their regions may reach.

    Attributes:
        scale: S, (B, d, d), lower triangular.
        limit: (B,), the largest radius at which a region keeps to the domain and to its guard.
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
    *,
    radius: float,
    guard: float,
    n: int,
) -> Sized:
    """A fitted scale with its axes cut at the domain, clear of other labels, of the best size.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S as fitted, (B, d, d).
        classes: (B,), the class that each region is for.
        context: sigma, streams and reference; the comparison stage is drawn from.
        radius: Smallest radius at which semi-axes are cut at the diameter of [0, 1]^d.
        guard: Training images with another label are kept out of the region times this.
        n: Comparison samples per image and size of the last choice.
    """
    fitted, few, streams = (
        FullNoise(scale, tuple(images.shape[1:])),
        first_look(n),
        context.streams,
    )
    counts = class_counts(model, images, fitted, few, streams, Stage.COMPARE)
    known = _radius_below(counts, classes, few)
    # The noise of RS, sigma I, is there for images that nothing else holds.
    start, everyone = IsotropicNoise.constant(context.sigma, images), np.arange(len(images))
    counts = class_counts(model, images, start, n, streams, Stage.COMPARE, 1)
    one = eye(fitted.dimension, scale).expand_as(scale)
    free = np.full(len(images), np.inf)
    rs = Sized.best(one, (context.sigma,), [_radius_below(counts, classes, n)], free)

    def sized(rows: Rows, supposed: Floats) -> Sized:
        own, label, part = images[rows], classes[rows], context[rows.tolist()]
        at = np.maximum(radius, supposed)
        cut, limits = bounded(scale[rows], own, label, part.neighbours, at, guard)
        return best_multiple(model, own, cut, limits, label, part, n)

    found = rs.improved(everyone, sized(everyone, _ROUNDER * known))
    # Where a rounder region is none that the network holds, one that is as round as it surely is.
    short = np.flatnonzero((found.radius < found.limit) & (_ROUNDER * known > radius))
    return found.improved(short, sized(short, known[short])) if len(short) else found


def first_look(n: int) -> int:
    """Samples per image and multiple of the first look, from those of the second."""
    return -(-n // SHARE)


def bounded(
    scale: Tensor,
    images: Tensor,
    classes: Tensor,
    reference: Neighbours | None,
    radius: Floats,
    guard: float,
) -> tuple[Tensor, Floats]:
    """Cuts the axes at the domain and keeps training images out of the guarded region.

    Args:
        scale: S, (B, d, d).
        images: (B, *event).
        classes: (B,), the class that each region is for.
        reference: Training images; None where there are none.
        radius: (B,), at which semi-axes are cut at the diameter of [0, 1]^d.
        guard: Images with another label are kept out of the region times this.

    Returns:
        The scale, (B, d, d), and the largest radius at which its region keeps to the domain and to
        its guard, (B,).
    """
    d = scale.shape[-1]
    caps = torch.from_numpy(diameter(d) / radius).to(scale.device)
    cut = (cut_by_products if scale.is_cuda else cut_by_eigenvalues)(scale.double(), caps)
    kept, limits = cut.scale, (diameter(d) / cut.widest).cpu().numpy()
    if reference is None:
        return kept.to(scale.dtype), limits
    for row, label in enumerate(classes.tolist()):
        reach, whitening = min(limits[row], _FURTHEST * radius[row]), cut.whitening[row]
        near, distances = reference.near(images[row], label, whitening, guard * reach)
        # A training image equal to the test image can be kept out by nothing.
        near = near[distances > 0]
        whitened = near @ whitening @ cut.turn[row].mT  # (k, d)
        kept[row], whitened = keep_out(kept[row], whitened, guard * radius[row])
        limits[row] = min([reach, *(whitened.norm(dim=1) / guard).tolist()])
    return kept.to(scale.dtype), limits


def best_multiple(
    model: nn.Module,
    images: Tensor,
    scale: Tensor,
    limits: Floats,
    classes: Tensor,
    context: Context,
    n: int,
) -> Sized:
    """The multiple k of a scale that supports the largest proxy radius within its limit.

    It is sought in two looks: at multiples far apart, and at those around the likely best. Noise
    that is wide everywhere has nearly the same radius at any multiple, so that from some k on the
    limit is reached; of these, which have the same region, the smallest is taken, whose smoothed
    network sees most.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S, (B, d, d).
        limits: (B,), the largest radius with S, over k with k S.
        classes: (B,), the class whose probability counts.
        context: Streams, whose comparison stage is drawn from.
        n: Samples per image and multiple in the second look; SHARE times those of the first.
    """
    few, streams, stage = first_look(n), context.streams, Stage.COMPARE
    # Samples come from the scale as it was fitted: they turn with the image, as it does.
    noise = FullNoise(scale, tuple(images.shape[1:]))
    lower, limits = noise.lower().scale, limits * (1 - _ROUNDING)
    counts = class_counts_of_multiples(model, images, noise, COARSE, few, streams, stage)
    coarse = [_radius_below(own, classes, few) for own in counts]
    likely = likely_multiple(
        [_radius_below(SHARE * own, classes, SHARE * few) for own in counts], limits
    )
    factors = trailing(torch.from_numpy(likely).to(scale), scale)
    noise = FullNoise(factors * scale, noise.event_shape)
    counts = class_counts_of_multiples(model, images, noise, FINE, n, streams, stage, 1)
    fine = [_radius_below(own, classes, n) for own in counts]
    found = Sized.best(factors * lower, FINE, fine, limits / likely)
    return found.improved(np.arange(len(images)), Sized.best(lower, COARSE, coarse, limits))


def likely_multiple(radii: Sequence[Floats], limits: Floats) -> Floats:
    """The multiple that is best if radii at COARSE multiples are interpolated, (B,).

    Args:
        radii: Lower bounds of the radius, for each of COARSE; (B,) each.
        limits: (B,), over k the largest radius at a multiple of k.
    """
    places = np.log(COARSE)
    fine = np.linspace(places[0], places[-1], _STEPS)
    multiples = np.exp(fine)
    gains = [
        np.minimum(np.interp(fine, places, own) * multiples, limit)
        for own, limit in zip(np.stack(radii, 1), limits, strict=True)
    ]
    return multiples[np.stack(gains).argmax(1)]


def _radius_below(counts: Tensor, classes: Tensor, n: int) -> Floats:
    """Lower bound of the radius that class counts (B, K) out of n support, (B,)."""
    count = counts.gather(1, classes[:, None])[:, 0].cpu().numpy()
    return normal_quantile_lower(clopper_pearson_lower(count, n, _ALPHA))

"""The size of a fitted region: inside the pixel domain, clear of other labels, as large as it can.

A region is {x + S u : |u| < r}. What it must not leave and what it must not reach give a limit for
its radius; the size is chosen so that certification will surely reach it, and the certified radius
is cut there. How S and r share a size is nothing to the region: it is that of k S and r / k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, linalg, nn

from rddrs_dist.geometry.norm import norm_bounds
from rddrs_dist.geometry.symmetric import eye, raised
from rddrs_dist.methods.ascent import trailing
from rddrs_dist.methods.base import Context
from rddrs_dist.neighbours import Neighbours, keep_out
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.noise.base import right_axes, whitening_of_factor
from rddrs_dist.region import Floats, Integers, diameter
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, class_counts_of_multiples
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

if TYPE_CHECKING:
    from rddrs_dist.methods.rddrs_tr import RDDRSTR

# Between the coarse multiples the radius is interpolated in so many steps.
_STEPS = 256
# Scales are rounded to single precision, which moves distances in units of narrow axes by less.
ROUNDING = 1e-4
# Proxy radii that are no further apart are the same.
_SAME = 1e-6
# The widest axis is then known to 1e-5.
_SQUARINGS = 18


@dataclass(frozen=True, eq=False)
class Sized:
    """Scales of B images, and how far their regions may reach."""

    scale: Tensor  # S, (B, d, d), lower triangular
    limit: Floats  # (B,), the largest radius that keeps to the domain and to the margin
    radius: Floats  # (B,), the radius that comparison samples support, the limit at most
    proxy: Floats  # (B,), the proxy radius with it

    @classmethod
    def best(
        cls, lower: Tensor, multiples: Sequence[float], radii: Sequence[Floats], limits: Floats
    ) -> "Sized":
        """Of multiples of a scale those of the largest proxy radius, the first among equals.

        The scale (B, d, d) is lower triangular; k times it supports a radius (B,), and the limits
        (B,) over k are the largest radii at a multiple of k.
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

    def improved(self, rows: Integers, other: "Sized") -> "Sized":
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
    method: "RDDRSTR",
) -> Sized:
    """A fitted scale with its axes cut at the domain, clear of other labels, of the best size.

    S (B, d, d) was fitted for a class (B,) of each image (B, *event). The comparison stage of the
    streams is drawn from, and the method's settings say how the size is chosen.
    """
    fitted, alpha = FullNoise(scale, tuple(images.shape[1:])), method.compare_alpha
    few, n = method.coarse_samples, method.compare_samples
    drawn, batching = (context.streams, Stage.COMPARE), context.batching
    counts = class_counts(model, images, fitted, few, *drawn, batching=batching)
    known = radius_below(counts, classes, few, alpha)
    # The noise of RS, sigma I, is there for images that nothing else holds.
    start, everyone = IsotropicNoise.constant(context.sigma, images), np.arange(len(images))
    counts = class_counts(model, images, start, n, *drawn, 1, batching)
    one = eye(fitted.dimension, scale).expand_as(scale)
    free, radii = np.full(len(images), np.inf), [radius_below(counts, classes, n, alpha)]
    rs, least = Sized.best(one, (context.sigma,), radii, free), method.radius / method.domain_share

    def sized(rows: Integers, supposed: Floats) -> Sized:
        own, label, part = images[rows], classes[rows], context[rows.tolist()]
        at = np.maximum(least, supposed)
        margin, farthest = method.neighbour_margin, method.neighbour_reach
        cut, limits = bounded(scale[rows], own, label, part.neighbours, at, margin, farthest)
        return best_multiple(model, own, cut, limits, label, part, method)

    found = rs.improved(everyone, sized(everyone, method.cap_factor * known))
    # Where a rounder region is none that the network holds, one that is as round as it surely is.
    short = np.flatnonzero((found.radius < found.limit) & (method.cap_factor * known > least))
    return found.improved(short, sized(short, known[short])) if len(short) else found


def radius_below(counts: Tensor, classes: Tensor, n: int, alpha: float) -> Floats:
    """Lower bound of the radius that class counts (B, K) out of n support, (B,)."""
    count = counts.gather(1, classes[:, None])[:, 0].cpu().numpy()
    return normal_quantile_lower(clopper_pearson_lower(count, n, alpha))


def bounded(
    scale: Tensor,
    images: Tensor,
    classes: Tensor,
    neighbours: Neighbours | None,
    radius: Floats,
    margin: float,
    farthest: float,
) -> tuple[Tensor, Floats]:
    """Cuts the axes at the domain and keeps training images out of the region and its margin.

    Semi-axes are cut at the diameter of [0, 1]^d, at a radius of each image. Returns the scale,
    (B, d, d), and the largest radius at which its region keeps to the domain and to its margin, of
    at most the farthest multiple of the radius; no training image is looked for beyond.
    """
    d = scale.shape[-1]
    caps = torch.from_numpy(diameter(d) / radius).to(scale.device)
    cut = capped(scale.double(), caps)
    kept, limits = cut.scale, (diameter(d) / cut.widest).cpu().numpy()
    if neighbours is None:
        return kept.to(scale.dtype), limits
    for row, label in enumerate(classes.tolist()):
        reach = min(limits[row], farthest * radius[row])
        whitening = cut.whitening[row]
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
    method: "RDDRSTR",
) -> Sized:
    """The multiple k of a scale that supports the largest proxy radius within its limit.

    It is sought at multiples far apart, and then at those around the likely best. Noise that is
    wide everywhere has nearly the same radius at any multiple, so that from some k on the limit is
    reached; of these, which have the same region, the smallest is taken, whose smoothed network
    sees most. The limits (B,) are those of the radius with S; with k S they are as large over k.
    """
    coarse, fine, alpha = method.coarse_multiples, method.fine_multiples, method.compare_alpha
    few, n, share = method.coarse_samples, method.compare_samples, method.coarse_share
    drawn, batching = (context.streams, Stage.COMPARE), context.batching
    # Samples come from the scale as it was fitted: they turn with the image, as it does.
    noise = FullNoise(scale, tuple(images.shape[1:]))
    lower, limits = noise.lower().scale, limits * (1 - ROUNDING)
    counts = class_counts_of_multiples(
        model, images, noise, coarse, few, *drawn, batching=batching
    )
    radii = [radius_below(own, classes, few, alpha) for own in counts]
    supposed = [radius_below(share * own, classes, share * few, alpha) for own in counts]
    likely = likely_multiple(coarse, supposed, limits)
    factors = trailing(torch.from_numpy(likely).to(scale), scale)
    noise = FullNoise(factors * scale, noise.event_shape)
    counts = class_counts_of_multiples(model, images, noise, fine, n, *drawn, 1, batching)
    held = [radius_below(own, classes, n, alpha) for own in counts]
    found = Sized.best(factors * lower, fine, held, limits / likely)
    return found.improved(np.arange(len(images)), Sized.best(lower, coarse, radii, limits))


def likely_multiple(coarse: Sequence[float], radii: Sequence[Floats], limits: Floats) -> Floats:
    """The multiple that is best if radii (B,) at each of the coarse ones are interpolated, (B,).

    The limits (B,) over k are the largest radii at a multiple of k.
    """
    places = np.log(coarse)
    steps = np.linspace(places[0], places[-1], _STEPS)
    multiples = np.exp(steps)
    gains = [
        np.minimum(np.interp(steps, places, own) * multiples, limit)
        for own, limit in zip(np.stack(radii, 1), limits, strict=True)
    ]
    return multiples[np.stack(gains).argmax(1)]


class Capped(NamedTuple):
    """Scales S' of B images with S' S'^T that of S but for axes above a cap, which end there."""

    scale: Tensor  # S', (B, d, d) float64
    widest: Tensor  # (B,), the largest axis of S' at most
    whitening: Tensor  # A, (B, d, d); few images are near along its first columns
    turn: Tensor  # Q, (B, d, d), orthogonal, with S'^-1 = Q A^T


def capped(scale: Tensor, caps: Tensor) -> Capped:
    """From S (B, d, d) and caps (B,) float64, the way that is the fastest on their device."""
    return (capped_by_products if scale.is_cuda else capped_by_eigenvalues)(scale, caps)


def capped_by_eigenvalues(scale: Tensor, caps: Tensor) -> Capped:
    """S' = S f(S^T S): a rotation from the right is no change of the noise, and none is made."""
    axes, frame = right_axes(scale)
    cut = torch.minimum(axes, caps.unsqueeze(1))
    kept = (scale @ (frame * (cut / axes).unsqueeze(-2))) @ frame.mT
    return Capped(kept, cut[:, -1], scale @ (frame / (axes * cut).unsqueeze(-2)), frame)


def capped_by_products(scale: Tensor, caps: Tensor) -> Capped:
    """S' lower triangular; a GPU takes an eighth of the time for it.

    With M = S^T S / cap^2 and R R^T = max(M, I) it is a factor of S R^-T R^-1 S^T. Axes are cut to
    within a few 1e-6 of the cap. Where rounding has left no factor, eigenvalues have to do.
    """
    wide = norm_bounds(scale, _SQUARINGS)[1]
    over = (wide > caps).nonzero()[:, 0]
    if len(over):
        share = scale[over] / trailing(caps[over], scale)
        root = linalg.cholesky_ex(raised(share.mT @ share, caps.new_ones(1, 1, 1))[0]).L
        scale = scale.index_copy(
            0, over, linalg.solve_triangular(root, scale[over].mT, upper=False).mT
        )
    lower, failed = linalg.cholesky_ex(scale @ scale.mT)
    whitening, order = whitening_of_factor(lower)
    turn = eye(scale.shape[-1], scale)[order].mT  # its columns in that order
    made = Capped(lower, torch.minimum(wide, caps), whitening, turn)
    flat = failed.nonzero()[:, 0]
    if not len(flat):
        return made
    others = capped_by_eigenvalues(scale[flat], caps[flat])
    return Capped(*(part.index_copy(0, flat, own) for part, own in zip(made, others, strict=True)))

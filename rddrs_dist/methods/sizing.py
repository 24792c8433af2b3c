"""The size of a fitted region: inside the pixel domain, clear of other labels, as large as it can.

A region is {x + S u : |u| < r}; its radius r is known for certain only after certification.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import eye
from rddrs_dist.methods.ascent import trailing
from rddrs_dist.methods.base import Context
from rddrs_dist.methods.cut import cut_by_eigenvalues, cut_by_products
from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.reference import Reference, diameter, keep_out
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, class_counts_of_multiples
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]

# Multiples of the cut scale at which a share of the comparison samples looks at its radius, and
# multiples of the likely best among which all of them choose.
COARSE = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
FINE = (0.85, 0.94, 0.97, 1.0, 1.03, 1.06, 1.15)
SHARE = 4
# Between the former the radius is interpolated in so many steps.
_STEPS = 128
# No radius above this is certified with fewer than 200,000 samples at alpha = 0.001.
_LARGEST_RADIUS = 4.0
_ALPHA = 0.001
# Cutting axes raises the radius a little.
_SLACK = 1.02


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
) -> FullNoise:
    """A fitted scale with its axes cut at the domain, clear of other labels, of the best size.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S as fitted, (B, d, d).
        classes: (B,), the class that each region is for.
        context: sigma, streams and reference; the comparison stage is drawn from.
        radius: Smallest radius at which semi-axes stay within the diameter of [0, 1]^d; more where
            the noise has more.
        guard: Training images with another label are kept out of the region times this.
        n: Comparison samples per image and size of the last choice.
    """
    fitted, few = FullNoise(scale, tuple(images.shape[1:])), first_look(n)
    counts = class_counts(model, images, fitted, few, context.streams, Stage.COMPARE)
    expected = np.maximum(radius, _SLACK * _radii(counts, classes, few)[1])
    scale, limits = bounded(scale, images, classes, context.reference, expected, guard)
    return best_multiple(model, images, scale, limits, classes, context, n)


def first_look(n: int) -> int:
    """Samples per image and multiple of the first look, from those of the second."""
    return -(-n // SHARE)


def bounded(
    scale: Tensor,
    images: Tensor,
    classes: Tensor,
    reference: Reference | None,
    radius: NDArray[np.float64],
    guard: float,
) -> tuple[Tensor, NDArray[np.float64]]:
    """Cuts the axes at the domain and keeps training images out of the guarded region.

    Args:
        scale: S, (B, d, d).
        images: (B, *event).
        classes: (B,), the class that each region is for.
        reference: Training images; None where there are none.
        radius: (B,), at which semi-axes stay within the diameter of [0, 1]^d.
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
        widest = max(radius[row], min(limits[row], _LARGEST_RADIUS))
        whitening = cut.whitening[row]
        near, distances = reference.near(images[row], label, whitening, guard * widest)
        # A training image equal to the test image can be kept out by nothing.
        near = near[distances > 0]
        whitened = near @ whitening @ cut.turn[row].mT  # (k, d)
        kept[row], whitened = keep_out(kept[row], whitened, guard * radius[row])
        limits[row] = min([limits[row], *(whitened.norm(dim=1) / guard).tolist()])
    return kept.to(scale.dtype), limits


def best_multiple(
    model: nn.Module,
    images: Tensor,
    scale: Tensor,
    limits: NDArray[np.float64],
    classes: Tensor,
    context: Context,
    n: int,
) -> FullNoise:
    """The multiple of a scale that supports the largest proxy radius within its limits.

    It is sought in two looks: at multiples far apart, and at those around the likely best. The
    noise of RS, sigma I, is there for images that nothing else holds.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S, (B, d, d).
        limits: (B,), the largest radius with S, over k with k S.
        classes: (B,), the class whose probability counts.
        context: sigma and streams; the comparison stage is drawn from.
        n: Samples per image and multiple in the second look; SHARE times those of the first.
    """
    few, streams, stage = first_look(n), context.streams, Stage.COMPARE
    # Samples come from the scale as it was fitted: they turn with the image, as it does.
    noise = FullNoise(scale, tuple(images.shape[1:]))
    lower = noise.lower().scale
    start = IsotropicNoise.constant(context.sigma, images)
    counts = class_counts(model, images, start, n, streams, stage, 1)
    choice = _Choice(
        (context.sigma * eye(noise.dimension, scale)).expand_as(scale),
        _radii(counts, classes, n)[0] * context.sigma,
    )
    counts = class_counts_of_multiples(model, images, noise, COARSE, few, streams, stage)
    bounds = [_radii(found, classes, few) for found in counts]
    choice = choice.against(lower, COARSE, bounds, limits)
    likely = likely_multiple(
        [_radii(SHARE * found, classes, SHARE * few) for found in counts], limits
    )
    factors = trailing(torch.from_numpy(likely).to(scale), scale)
    noise = FullNoise(factors * scale, noise.event_shape)
    counts = class_counts_of_multiples(model, images, noise, FINE, n, streams, stage, 1)
    bounds = [_radii(found, classes, n) for found in counts]
    choice = choice.against(factors * lower, FINE, bounds, limits / likely)
    return FullNoise(choice.scale, noise.event_shape)


class _Choice(NamedTuple):
    """The best scales so far.

    Attributes:
        scale: (B, d, d), lower triangular.
        score: (B,), lower bounds of their proxy radii.
    """

    scale: Tensor
    score: NDArray[np.float64]

    def against(
        self,
        lower: Tensor,
        multiples: Sequence[float],
        bounds: Sequence[Bounds],
        limits: NDArray[np.float64],
    ) -> Self:
        """The better of these and of those multiples k of a scale that keep to limits / k.

        Args:
            lower: (B, d, d), lower triangular.
            multiples: The k, M of them.
            bounds: M of lower and upper bounds of the radius, (B,) each.
            limits: (B,), the largest radius with the scale itself.
        """
        scale, score = self
        means = lower.double().diagonal(dim1=1, dim2=2).log().mean(1).exp().cpu().numpy()
        for k, (low, high) in zip(multiples, bounds, strict=True):
            gain = np.where(high <= limits / k, low * k * means, 0.0)
            better = torch.from_numpy(gain > score).to(lower.device)
            scale = torch.where(trailing(better, lower), k * lower, scale)
            score = np.maximum(score, gain)
        return self._replace(scale=scale, score=score)


def likely_multiple(bounds: Sequence[Bounds], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The multiple that is best if the bounds at COARSE multiples are interpolated, (B,).

    Noise that is wide everywhere has nearly the same radius at any multiple, so that the best one
    just keeps to the limit.

    Args:
        bounds: Of the radius, for each of COARSE; (B,) each.
        limits: As above.
    """
    places = np.log(COARSE)
    fine = np.linspace(places[0], places[-1], _STEPS)
    multiples = np.exp(fine)
    likely = np.full(len(limits), COARSE[0])
    for row, limit in enumerate(limits):
        low, high = (
            np.interp(fine, places, [bound[side][row] for bound in bounds]) for side in (0, 1)
        )
        gain = np.where(high * multiples <= limit, low * multiples, 0.0)
        if gain.max() > 0:
            likely[row] = multiples[gain.argmax()]
    return likely


def _radii(counts: Tensor, classes: Tensor, n: int) -> Bounds:
    """Lower and upper bound of the radius that class counts (B, K) out of n support, (B,)."""
    count = counts.gather(1, classes[:, None])[:, 0].cpu().numpy()
    low = normal_quantile_lower(clopper_pearson_lower(count, n, _ALPHA))
    high = normal_quantile_lower(1 - clopper_pearson_lower(n - count, n, _ALPHA))
    return low, np.minimum(high, _LARGEST_RADIUS)

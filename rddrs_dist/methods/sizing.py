"""The size of a fitted region: inside the pixel domain, clear of other labels, as large as it can.

A region is {x + S u : |u| < r}; its radius r is known for certain only after certification.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, linalg, nn

from rddrs_dist.methods.ascent import trailing
from rddrs_dist.methods.base import Context
from rddrs_dist.noise import FullNoise
from rddrs_dist.reference import Reference, diameter, keep_out, within
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

# Multiples of the fitted scale among which comparison samples choose.
MULTIPLES = (0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1)
# No radius above this is certified with fewer than 200,000 samples at alpha = 0.001.
_LARGEST_RADIUS = 4.0
_ALPHA = 0.001


def bounded(
    scale: Tensor,
    images: Tensor,
    classes: Tensor,
    reference: Reference | None,
    radius: float,
    guard: float,
) -> Tensor:
    """Cuts the axes at the domain and keeps training images out of the guarded region.

    Args:
        scale: S, (B, d, d).
        images: (B, *event).
        classes: (B,), the class that each region is for.
        reference: Training images; None where there are none.
        radius: Radius at which semi-axes stay within the diameter of [0, 1]^d.
        guard: Images with another label are kept out of the region times this.

    Returns:
        (B, d, d).
    """
    u, axes, v = _svd(scale)
    cut = axes.clamp_max(diameter(scale.shape[-1]) / radius)
    scale = (u * cut.unsqueeze(-2)) @ v
    if reference is None:
        return scale
    kept = [
        keep_out(own, reference.others(image, label), guard * radius)
        for own, image, label in zip(scale, images, classes.tolist(), strict=True)
    ]
    return torch.stack(kept)


def _svd(scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition S = U diag(s) V, (B, d, d)."""
    try:
        return linalg.svd(scale)
    except linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        # LAPACK's can fail to converge where many axes lie at the cap; eigh does not.
        wide = scale.double()
        squares, frame = linalg.eigh(wide.mT @ wide)
        axes = squares.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
        u = wide @ frame / axes.unsqueeze(-2)
        return u.to(scale.dtype), axes.to(scale.dtype), frame.mT.to(scale.dtype)


def radius_limits(
    scale: Tensor, images: Tensor, classes: Tensor, reference: Reference | None, guard: float
) -> NDArray[np.float64]:
    """The largest radius at which the region keeps to the domain and to its guard, (B,).

    Args: see `bounded`.
    """
    wide = scale.double()
    longest = linalg.eigvalsh(wide.mT @ wide)[:, -1].sqrt().cpu().numpy()
    limits = diameter(scale.shape[-1]) / longest
    if reference is None:
        return limits
    for row, label in enumerate(classes.tolist()):
        others = reference.others(images[row], label)
        _, near = within(wide[row] @ wide[row].mT, others, guard * limits[row])
        limits[row] = min([limits[row], *(near / guard).tolist()])
    return limits


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

    sigma I, with which the class was found, is there for images that nothing else holds.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        scale: S, (B, d, d).
        limits: (B,), the largest radius with S, over k with k S.
        classes: (B,), the class whose probability counts.
        context: sigma and streams; the comparison stage is drawn from.
        n: Samples per image and multiple.
    """
    shape, d = tuple(images.shape[1:]), scale.shape[-1]
    sigma = context.sigma * torch.eye(d, dtype=scale.dtype, device=scale.device).expand_as(scale)
    mean_axes = (linalg.slogdet(scale.double()).logabsdet / d).exp().cpu().numpy()
    candidates = [(sigma, np.full_like(limits, context.sigma), np.full_like(limits, np.inf))]
    candidates += [(k * scale, k * mean_axes, limits / k) for k in MULTIPLES]
    best, score = sigma, np.zeros(len(images))
    for candidate, means, limit in candidates:
        low, high = _radii(model, images, FullNoise(candidate, shape), classes, context, n)
        gain = np.where(high <= limit, low * means, 0.0)
        better = torch.from_numpy(gain > score).to(scale.device)
        best = torch.where(trailing(better, scale), candidate, best)
        score = np.maximum(score, gain)
    return FullNoise(best, shape)


def _radii(
    model: nn.Module, images: Tensor, noise: FullNoise, classes: Tensor, context: Context, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound of the radius that n comparison samples support, (B,)."""
    counts = class_counts(model, images, noise, n, context.streams, Stage.COMPARE)
    count = counts.gather(1, classes[:, None])[:, 0].cpu().numpy()
    low = normal_quantile_lower(clopper_pearson_lower(count, n, _ALPHA))
    high = normal_quantile_lower(1 - clopper_pearson_lower(n - count, n, _ALPHA))
    return low, np.minimum(high, _LARGEST_RADIUS)

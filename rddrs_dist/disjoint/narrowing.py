"""How regions are made smaller so that no two of different predictions overlap.

An ellipsoid inside a certified one is certified, so that nothing is sampled anew. To narrow one
direction by a factor t costs log(1 / t) / d of the log proxy radius, where shrinking the region by
t would cost log(1 / t).

A narrower scale is proposed in double precision and rounded to the single precision in which
scales are stored. All that is claimed is claimed of the rounded one, with bounds for the rounding
errors of what is computed of it: by how much its ellipsoid must shrink to be inside and on its
side.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, linalg

from rddrs_dist.disjoint.contact import Contacts
from rddrs_dist.noise import FullNoise, Noise
from rddrs_dist.region import Floats, Integers, Region, product_below

# Regions that were made smaller are apart by this share of their size.
APART = 1 - 1e-6
# More than rounding adds to a product and a difference of two numbers.
_ROUNDED = 1 - 1e-12
# Sweeps over all hyperplanes, at most. They end where no hyperplane is exceeded by more than a
# share, which costs as much of the radius, and none that a region was narrowed for is missed by
# much more, which costs that share of one axis.
_SWEEPS = 50
_OVER, _SHORT = 1e-6, 1e-3
# More than the rounding errors of the few scalars that the shares are made of.
_INSIDE = 1 - 1e-9
_EPS = torch.finfo(torch.float64).eps
SINGULAR = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]


def narrowed(region: Region, min_axis: float, normals: Tensor, bounds: Tensor) -> Region | None:
    """A region inside another one, narrower along the normals of some hyperplanes.

    Args:
        region: {x + S u : |u| < r} of one image.
        min_axis: Smallest axis of S, at most, which is often known.
        normals: w_j, (m, d) float64; there need not be any.
        bounds: b_j, (m,) float64.

    Returns:
        {x + S' u : |u| < t r} with S' in single precision, lower triangular, and a share t < 1
        with t ||S^-1 S'|| <= 1 and t ||S'^T w_j|| <= b_j, rounding errors included. None where no
        share can be told from 0.
    """
    if not bool((bounds > 0).all()):
        return None
    noise = region.noise
    triangular = noise if noise.is_lower else noise.double().lower()
    try:
        made = _proposed(triangular.matrix()[0], normals, bounds).float()
        if not bool(made.isfinite().all()):
            return None
        inner = FullNoise(made.unsqueeze(0), noise.event_shape)
        stretch = _stretch(noise.matrix()[0], min_axis, made.double())
    except SINGULAR:  # so narrow that its matrices are singular
        return None
    shares = torch.cat(
        [(1 / stretch).clamp_max(1).view(1), bounds / support_above(inner, normals)]
    )
    share = float(shares.min()) * _INSIDE  # NaN where any is
    radius = product_below(region.radius, np.array(share))
    return Region(region.centre, inner, radius, region.prediction) if share > 0 else None


def support_above(noise: Noise, normals: Tensor) -> Tensor:
    """||S^T w|| of each w (m, d) float64, never below the truth, (m,); S of one image."""
    slack = 2 * (noise.dimension + 8) * _EPS
    images = noise.adjoint_of(torch.zeros(len(normals), dtype=torch.int64), normals)
    frobenius = noise.variances().sum().sqrt()
    return images.norm(dim=1) * (1 + slack) + slack * frobenius * normals.norm(dim=1)


def _stretch(outer: Tensor, min_axis: float, inner: Tensor) -> Tensor:
    """||S^-1 S'|| of (d, d) float64, never below the truth: how far S' reaches out of S.

    With any X near S^-1 S' the truth is at most ||X|| + ||S' - S X|| / min_axis.
    """
    ratio = linalg.solve(outer, inner)
    error, length = (len(outer) + 8) * _EPS, ratio.norm()
    rounding = error * (inner.norm() + outer.norm() * length)
    residual = (inner - outer @ ratio).norm() + rounding
    # ||X||^2 as an eigenvalue of X^T X, half the work of a singular value.
    square = linalg.eigvalsh(ratio.mT @ ratio)[-1] + 4 * error * length.square()
    return square.sqrt() + residual / min_axis


def _proposed(scale: Tensor, normals: Tensor, bounds: Tensor) -> Tensor:
    """The lower triangular scale S' that is to keep to its hyperplanes, before it is rounded.

    With S' S'^T = S C S^T,

        C^-1 = I + sum_j l_j q_j q_j^T,  q_j = S^T w_j,  l_j >= 0,

    is at least I, so that the ellipsoid stays inside; each l_j in turn is made as small as its
    bound q_j^T C q_j <= b_j^2 allows. Scales are (d, d) float64.
    """
    q = normals @ scale  # (m, d) @ (d, d)
    inverse = torch.eye(len(scale), dtype=scale.dtype) + (q.mT * _weights(q, bounds)) @ q
    # C^-1 = U U^T with U upper triangular, so that S U^-T is lower triangular as S is; C^-1 is at
    # least I, and no inverse of it is needed, which rounding would make indefinite where a bound
    # is next to nothing.
    root = linalg.cholesky(inverse.flip(0, 1)).flip(0, 1)
    return linalg.solve_triangular(root.mT, scale, upper=False, left=False)


def _weights(q: Tensor, bounds: Tensor) -> Tensor:
    """The l_j, (m,), for q (m, d)."""
    # The sweeps need C for the q alone: Q C Q^T, (m, m), where that is smaller. Both change alike.
    few = len(q) < q.shape[1]
    c = q @ q.mT if few else torch.eye(q.shape[1], dtype=q.dtype)
    weights, wanted = torch.zeros_like(bounds), (bounds**-2).tolist()
    for _ in range(_SWEEPS):
        lengths = c.diagonal() if few else ((q @ c) * q).sum(1)  # (m, d) @ (d, d)
        over = lengths.sqrt() / bounds
        if bool((over <= 1 + _OVER).all() and (over[weights > 0] >= 1 - _SHORT).all()):
            break
        moved = ((over > 1) | (weights > 0)).nonzero()[:, 0]
        for j in moved[over[moved].argsort(descending=True)].tolist():
            image = c[j].clone() if few else c @ q[j]
            length = float(image[j] if few else q[j] @ image)
            if not length > 0:  # less than rounding can tell
                continue
            change = max(wanted[j] - 1 / length, -float(weights[j]))
            if change == 0:  # those before it in this sweep were enough
                continue
            weights[j] += change
            left = 1 / (1 + change * length)
            c.addr_(image, image, alpha=-change * left)
            if few:  # the same once more, without what is lost where the difference is small
                c[j] = c[:, j] = image * left
    return weights


def bounds(radius: Floats, conflicts: Contacts) -> Iterator[tuple[int, Integers, Floats]]:
    """How far each region that has a conflict may reach along the normals of its conflicts.

    Args:
        radius: Of all regions, (N,).
        conflicts: All pairs without a hyperplane between them.

    Yields:
        A region; the numbers of its conflicts, (m,), ascending; and bounds of ||S^T w||, (m,),
        with which each of a pair stays on its own side of the hyperplane where both touch when
        scaled by their contact factor. Regions ascend.
    """
    factor = conflicts.factor(radius) * APART
    for region in np.union1d(conflicts.first, conflicts.second).tolist():
        own = np.flatnonzero((conflicts.first == region) | (conflicts.second == region))
        is_first = conflicts.first[own] == region
        support = np.where(is_first, conflicts.left[own], conflicts.right[own])
        yield region, own, factor[own] * support


def order_free(radius: Floats, conflicts: Contacts) -> Floats:
    """Every region shrinks by the smallest factor of its conflicts, whatever their order.

    Args:
        radius: (N,).
        conflicts: All pairs without a hyperplane between them.

    Returns:
        Radii (N,) with which every pair has a hyperplane between them.
    """
    factor = np.ones_like(radius)
    for side in (conflicts.first, conflicts.second):
        np.minimum.at(factor, side, conflicts.factor(radius) * APART)
    return radius * factor


def in_order(radius: Floats, conflicts: Contacts) -> Floats:
    """Each region shrinks until it leaves those before it alone, which keep what they have.

    Args:
        radius: (N,), of the regions in the order in which images came.
        conflicts: All pairs without a hyperplane between them.

    Returns:
        Radii (N,); 0 where no size is small enough.

    References:
        Alfarra et al. 2020 (arXiv 2012.04351), the memory-based certification.
    """
    smaller = radius.copy()
    later = np.maximum(conflicts.first, conflicts.second)
    for pair in np.argsort(later, kind="stable"):
        i, j = conflicts.first[pair], conflicts.second[pair]
        own, other = conflicts.left[pair], conflicts.right[pair]
        if i > j:
            i, j, own, other = j, i, other, own
        # Where an earlier region reaches to the hyperplane, what is left is less than rounding.
        left = conflicts.gap[pair] * _ROUNDED - smaller[i] * own
        smaller[j] = min(smaller[j], max(left / other * APART, 0.0))
    return smaller

"""How regions are made smaller so that no two of different predictions overlap."""

from collections.abc import Iterator

import numpy as np

from rddrs_dist.disjoint.contact import Contacts
from rddrs_dist.region import Floats, Integers

# Regions that were made smaller are apart by this share of their size.
APART = 1 - 1e-6
# More than rounding adds to a product and a difference of two numbers.
_ROUNDED = 1 - 1e-12


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

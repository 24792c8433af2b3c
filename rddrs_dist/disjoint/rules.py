"""How regions are made smaller so that no two of different predictions overlap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Regions that were made smaller are apart by this share of their size.
_APART = 1 - 1e-6
# More than rounding adds to a product and a difference of two numbers.
_ROUNDED = 1 - 1e-12


@dataclass(frozen=True, eq=False)
class Conflicts:
    """Pairs of regions with no plane between them, C of them, each with the best plane found.

    Attributes:
        first: One region of each, (C,).
        second: The other.
        gap: w . (x_j - x_i), at least, (C,).
        left: ||S_i^T w||, at most, (C,).
        right: ||S_j^T w||, at most, (C,).
    """

    first: Integers
    second: Integers
    gap: Floats
    left: Floats
    right: Floats

    @classmethod
    def none(cls) -> "Conflicts":
        """No pair at all."""
        which, size = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(which, which, size, size, size)

    def mu(self, radius: Floats) -> Floats:
        """Factor by which both regions of a pair may scale, (C,), at least 0.

        Args:
            radius: Of all regions, (N,).
        """
        supports = radius[self.first] * self.left + radius[self.second] * self.right
        return np.maximum(self.gap / supports, 0.0)


class Bounds:
    """How far each region may reach along the normals of its conflicts."""

    def __init__(self, radius: Floats, conflicts: Conflicts) -> None:
        """Sorts all conflicts by region, once.

        Args:
            radius: Of all regions, (N,).
            conflicts: All pairs without a plane between them.
        """
        mu = conflicts.mu(radius) * _APART
        regions = np.concatenate([conflicts.first, conflicts.second])
        self._conflict = np.argsort(regions, kind="stable")
        self._bound = np.concatenate([mu * conflicts.left, mu * conflicts.right])[self._conflict]
        self._starts = np.searchsorted(regions[self._conflict], np.arange(len(radius) + 1))
        self._conflict %= max(len(conflicts.first), 1)

    @property
    def regions(self) -> Integers:
        """The regions that have a conflict, ascending."""
        return np.flatnonzero(np.diff(self._starts))

    def of(self, region: int) -> tuple[Integers, Floats]:
        """The planes that a region must keep to, and how far it may reach toward each.

        Returns:
            Numbers of its conflicts, (m,), ascending, and bounds of ||S^T w||, (m,), with which
            each of a pair stays on its own side of the plane where both touch when scaled by
            their factor.
        """
        own = slice(*self._starts[region : region + 2])
        order = np.argsort(self._conflict[own])
        return self._conflict[own][order], self._bound[own][order]


def order_free(radius: Floats, conflicts: Conflicts) -> Floats:
    """Every region shrinks by the smallest of its pairs' factors, whatever their order.

    Args:
        radius: (N,).
        conflicts: All pairs without a plane between them.

    Returns:
        Radii (N,) with which every pair has a plane between them.
    """
    factor = np.ones_like(radius)
    for side in (conflicts.first, conflicts.second):
        np.minimum.at(factor, side, conflicts.mu(radius) * _APART)
    return radius * factor


def in_order(radius: Floats, conflicts: Conflicts) -> Floats:
    """Each region shrinks until it leaves those before it alone, which keep what they have.

    Args:
        radius: (N,), of the regions in the order in which images came.
        conflicts: All pairs without a plane between them.

    Returns:
        Radii (N,); 0 where no size is small enough.

    References:
        Alfarra et al. 2020 (arXiv 2012.04351), the memory-based certification.
    """
    sound = radius.copy()
    later = np.maximum(conflicts.first, conflicts.second)
    for pair in np.argsort(later, kind="stable"):
        i, j = conflicts.first[pair], conflicts.second[pair]
        own, other = conflicts.left[pair], conflicts.right[pair]
        if i > j:
            i, j, own, other = j, i, other, own
        # Where an earlier region reaches to the plane, what is left is less than rounding.
        left = conflicts.gap[pair] * _ROUNDED - sound[i] * own
        room = left / other * _APART
        sound[j] = min(sound[j], max(room, 0.0))
    return sound

"""How regions are made smaller so that no two of different predictions overlap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Regions that were made smaller are apart by this share of their size.
_APART = 1 - 1e-6


@dataclass(frozen=True, eq=False)
class Conflicts:
    """Pairs of regions with no plane between them, C of them, each with the best plane found.

    Attributes:
        first: One region of each, (C,).
        second: The other.
        gap: w . (x_j - x_i), at least, (C,).
        left: ||S_i^T w||, at most, (C,).
        right: ||S_j^T w||, at most, (C,).
        normal: w, (C, d) float32.
    """

    first: Integers
    second: Integers
    gap: Floats
    left: Floats
    right: Floats
    normal: NDArray[np.float32]

    @classmethod
    def none(cls, dimension: int) -> "Conflicts":
        """No pair at all, of regions in d dimensions."""
        which, size = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(which, which, size, size, size, np.empty((0, dimension), np.float32))

    def mu(self, radius: Floats) -> Floats:
        """Factor by which both regions of a pair may scale, (C,), at least 0.

        Args:
            radius: Of all regions, (N,).
        """
        supports = radius[self.first] * self.left + radius[self.second] * self.right
        return np.maximum(self.gap / supports, 0.0)

    def planes(self, radius: Floats, region: int) -> tuple[NDArray[np.float32], Floats]:
        """The planes that a region must keep to, and how far it may reach toward each.

        Args:
            radius: Of all regions, (N,).
            region: Number of the region.

        Returns:
            Normals w, (m, d), and bounds of ||S^T w||, (m,), with which each of a pair stays on
            its own side of the plane where both touch when scaled by their factor.
        """
        mu = self.mu(radius) * _APART
        sides = ((self.first == region, self.left), (self.second == region, self.right))
        normals = np.concatenate([self.normal[chosen] for chosen, _ in sides])
        return normals, np.concatenate([(mu * support)[chosen] for chosen, support in sides])


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
        room = (conflicts.gap[pair] - sound[i] * own) / other * _APART
        sound[j] = min(sound[j], max(room, 0.0))
    return sound

"""Regions that a classifier remembers, and which of them a point lies in.

Hundreds of regions are looked at one after the other: for most of them a few products of vectors
tell that a point is outside.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, linalg

from rddrs_dist.region import Region

_EPS = torch.finfo(torch.float64).eps
_EPS32 = torch.finfo(torch.float32).eps
# Directions of a dense region along which a point is looked at first: 2 % of its memory, and most
# points that are outside are so along these.
_NARROWEST = 16


@dataclass(frozen=True, eq=False)
class Entry:
    """A remembered region, with what makes it quick to tell that a point is outside.

    No inverse of S is kept: S is triangular, so that S^-1 delta costs as many operations as a
    product with an inverse would, with less rounding and half the memory.

    Attributes:
        region: {x + delta : ||S^-1 delta|| < r} of one image, on the CPU; S lower triangular.
        query: Number of the query that the region is of.
        min_axis: Smallest axis of S, at most, in pixel units.
        max_axis: Largest axis of S, at least.
        narrow: A, (k, d) float32, the k narrowest directions over their axes; k = 0 where S is
            diagonal.
    """

    region: Region
    query: int
    min_axis: float
    max_axis: float
    narrow: Tensor

    @classmethod
    def of(cls, region: Region, query: int) -> "Entry":
        """An entry of a region."""
        longest = float(region.max_axis[0]) * (1 + 1e-9)
        return cls(region, query, float(region.min_axis[0]), longest, _narrowest(region))

    @property
    def prediction(self) -> int:
        """Class of the region."""
        return int(self.region.prediction[0])

    @property
    def radius(self) -> float:
        """r, dimensionless, positive."""
        return float(self.region.radius[0])

    @cached_property
    def point(self) -> Tensor:
        """x, (d,) float64."""
        return self.region.centre.flatten().double()

    @property
    def reach(self) -> float:
        """Longest semi-axis, at least, in pixel units."""
        return self.radius * self.max_axis * (1 + 1e-9)

    @cached_property
    def certain(self) -> float:
        """The radius up to which every point is recognised, whatever the rounding.

        `distance` is above the truth by a share of at most c (d + 8) eps ||S||_F / min_axis, as
        substitution in a triangle is backward stable; c is generous.
        """
        spread = float(self._frobenius) / self.min_axis
        return self.radius / (1 + 16 * (len(self.point) + 8) * _EPS * spread)

    @cached_property
    def _frobenius(self) -> Tensor:
        """||S||_F."""
        return self.region.noise.variances().sum().sqrt()

    @cached_property
    def _limit(self) -> float:
        """The largest ||A delta|| of a point inside: r ||A S||, at least."""
        narrow = self.narrow.double()
        product = narrow @ self.region.noise.matrix()[0]  # (k, d) @ (d, d)
        rounding = 2 * (len(self.point) + 8) * _EPS * narrow.norm() * self._frobenius
        stretch = linalg.matrix_norm(product, 2) * (1 + 1e-9) + rounding
        return float(stretch) * self.radius * (1 + 1e-5)

    def contains(self, point: Tensor) -> bool:
        """Whether a point (d,) float64 is inside for certain; NaN is not."""
        return not self._is_far(point) and self.distance(point) < self.radius

    def _is_far(self, point: Tensor) -> bool:
        """Whether a point is outside by its distance, or along the narrowest directions."""
        delta = point - self.point
        if float(delta.norm()) > self.reach:
            return True
        if not len(self.narrow):
            return False
        least = (self.narrow @ delta.float()).norm()  # (k, d) @ (d,)
        # What rounding can add to that, which is computed in single precision.
        rounding = 2 * (len(delta) + 8) * _EPS32 * self.narrow.norm() * delta.norm()
        return bool(least > self._limit + rounding)

    def distance(self, point: Tensor) -> float:
        """||S^-1 (x' - x)||, never below the truth.

        With any y near S^-1 delta the truth is at most ||y|| + ||delta - S y|| / min_axis.

        Args:
            point: x', (d,) float64, of numbers that single precision holds.
        """
        delta, noise = point - self.point, self.region.noise
        error = (len(delta) + 8) * _EPS
        if noise.is_diagonal:
            return float(noise.mahalanobis(delta.view_as(self.region.centre))) * (1 + error)
        scale = noise.matrix()[0]
        y = linalg.solve_triangular(scale, delta.unsqueeze(1), upper=False).squeeze(1)
        residual = (delta - scale @ y).norm()  # (d, d) @ (d,)
        rounding = error * (delta.norm() + scale.norm() * y.norm())
        return float(y.norm() * (1 + error) + (residual + rounding) / self.min_axis) * (1 + error)


def find(entries: Iterable[Entry], point: Tensor) -> tuple[int, Entry] | None:
    """The first region that a point (d,) float64 lies in for certain, and its number."""
    inside = ((number, one) for number, one in enumerate(entries) if one.contains(point))
    return next(inside, None)


def _narrowest(region: Region) -> Tensor:
    """The narrowest directions of a dense scale over their axes, (k, d) float32."""
    noise = region.noise
    if noise.is_diagonal:
        return torch.empty(0, noise.dimension)
    # Good directions are all that is wanted of this decomposition: the bound is of what came out.
    values, frame = linalg.eigh(noise.covariance()[0])
    lengths = values[:_NARROWEST].clamp_min(values[-1] * _EPS).sqrt()
    return (frame[:, :_NARROWEST] / lengths).mT.float().contiguous()

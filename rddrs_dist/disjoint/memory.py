"""Regions that a classifier remembers: which of them a point lies in, and what a new one may be.

Hundreds of regions are looked at one after the other: for most of them a few products of vectors
tell that a point is outside.

Earlier regions keep what they have. Toward each of them of another class that a new one overlaps a
hyperplane is sought that leaves the earlier one whole, and the new one is narrowed to its own side
(`narrowing.narrowed`). To shrink it instead would never keep more: it wants such a hyperplane too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, linalg

from rddrs_dist.disjoint.contact import contacts, preconditioner
from rddrs_dist.disjoint.narrowing import APART, SINGULAR, narrowed, support_above
from rddrs_dist.noise.base import above_rounding
from rddrs_dist.region import Region

_EPS = torch.finfo(torch.float64).eps
_EPS32 = torch.finfo(torch.float32).eps
# Directions of a dense region along which a point is looked at first: 2 % of its memory, and most
# points that are outside are so along these.
_NARROWEST = 16
# Values of s that are tried for a hyperplane beside a border.
_WEIGHTS = 400


@dataclass(frozen=True, eq=False)
class Entry:
    """A remembered region, with what makes it quick to tell that a point is outside.

    No inverse of S is kept: S is triangular, so that S^-1 delta costs as many operations as a
    product with an inverse would, with less rounding and half the memory.
    """

    region: Region  # {x + delta : ||S^-1 delta|| < r} of one image, on the CPU; S lower triangular
    query: int  # number of the query that the region is of
    min_axis: float  # smallest axis of S, at most, in pixel units
    max_axis: float  # largest axis of S, at least
    # A, (k, d) float32, the k narrowest directions over their axes; k = 0 where S is diagonal.
    narrow: Tensor

    @classmethod
    def of(cls, region: Region, query: int) -> "Entry":
        """An entry of a region."""
        noise, narrow = region.noise, torch.empty(0, region.dimension)
        if not noise.is_diagonal:
            # Good directions are all that is wanted: the bound is of what came out.
            values, frame = linalg.eigh(noise.covariance()[0])
            lengths = values[:_NARROWEST].clamp_min(values[-1] * _EPS).sqrt()
            narrow = (frame[:, :_NARROWEST] / lengths).mT.float().contiguous()
        longest = float(region.max_axis[0]) * (1 + 1e-9)
        return cls(region, query, float(region.min_axis[0]), longest, narrow)

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
    def _frobenius(self) -> Tensor:
        """||S||_F."""
        return self.region.noise.variances().sum().sqrt()

    @cached_property
    def certain(self) -> float:
        """The radius up to which every point is recognised, whatever the rounding.

        `distance` is above the truth by a share of at most c (d + 8) eps ||S||_F / min_axis, as
        substitution in a triangle is backward stable; c is generous.
        """
        spread = float(self._frobenius) / self.min_axis
        return self.radius / (1 + 16 * (len(self.point) + 8) * _EPS * spread)

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
        delta = point - self.point
        if float(delta.norm()) > self.reach:
            return False
        if len(self.narrow):
            least = (self.narrow @ delta.float()).norm()  # (k, d) @ (d,)
            # What rounding can add to that, which is computed in single precision.
            rounding = 2 * (len(delta) + 8) * _EPS32 * self.narrow.norm() * delta.norm()
            if bool(least > self._limit + rounding):
                return False
        return self.distance(point) < self.radius

    def distance(self, point: Tensor) -> float:
        """||S^-1 (x' - x)||, never below the truth.

        With any y near S^-1 delta the truth is at most ||y|| + ||delta - S y|| / min_axis. The
        point is x', (d,) float64, of numbers that single precision holds.
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


def narrowed_to_fit(new: Region, query: int, earlier: Iterable[Entry]) -> Entry | None:
    """The largest region found inside a new one that overlaps none of another class.

    Args:
        new: The certified region of one image, on the CPU; its scale need not be triangular.
        query: Number of its query.
        earlier: What is remembered.

    Returns:
        What to remember; None where no region is left that could be told from nothing.
    """
    try:
        found = list(_hyperplanes(new, earlier))
        made: Region | None = new
        if found or not new.noise.is_lower:
            empty = torch.empty(0, new.dimension, dtype=torch.float64)
            normals = torch.stack([w for w, _ in found]) if found else empty
            bounds = torch.tensor([bound for _, bound in found], dtype=torch.float64)
            made = narrowed(new, float(new.min_axis[0]), normals, bounds)
        entry = None if made is None else Entry.of(made, query)
    except SINGULAR:  # so narrow that its matrices are singular; no region is disjoint too
        return None
    # Where rounding exceeds the region itself no point would ever be recognised.
    if entry is None or not entry.min_axis > 0 or not entry.certain > entry.radius / 2:
        return None
    return entry


def _hyperplanes(new: Region, earlier: Iterable[Entry]) -> Iterator[tuple[Tensor, float]]:
    """A normal w, (d,) float64, and a bound for each rival that the new region overlaps.

    The rival is kept whole where ||S^T w|| of the new one is at most the bound.
    """
    point, radius = new.centre[0].flatten().double(), float(new.radius[0])
    reach = radius * float(new.max_axis[0]) * (1 + 1e-8)
    rivals = [
        one
        for one in earlier
        if one.prediction != new.prediction[0]
        and not float((one.point - point).norm()) * (1 - 1e-9) > reach + one.reach
    ]
    inverse = preconditioner(new) if rivals else None
    for one in rivals:
        found = contacts(new, one.region, inverse)
        if not (found.factor(new.radius, one.region.radius) > 1 + 1e-12).all():
            v = one.point - point
            w = _best_normal(new, one.region, v)
            # What the earlier region leaves of r ||S^T w|| to the new one, never above the truth.
            slack = 2 * (len(v) + 8) * _EPS
            gap = float(w @ v - slack * w.norm() * v.norm())
            free = gap * (1 - slack) - _support(one.region, w) * (1 + slack)
            if not free / _support(new, w) > 1 + 1e-12:
                yield w, free / radius * APART


def _best_normal(new: Region, one: Region, v: Tensor) -> Tensor:
    """w (d,) float64 that leaves the most to the new region, as the earlier one keeps all.

    `contacts` is for two regions that shrink alike, and not sharp beside a border. The normal
    sought is the w of ((1 - s) A_i + s A_j) w = v = x_j - x_i for one s here too. In the frame in
    which the earlier region is a ball and A_i diagonal each s costs O(d), so that all are tried;
    the last one, s = 1, leaves something wherever the new centre is outside.
    """
    own, other = (float(each.radius[0]) * each.noise.matrix()[0] for each in (new, one))
    ratio = linalg.solve(other, own)
    values, frame = linalg.eigh(ratio @ ratio.mT)  # (d, d) @ (d, d)
    values = above_rounding(values)
    y = frame.mT @ linalg.solve(other, v)
    ends = values[0].log10() - 3, values[-1].log10() + 3
    weights = torch.logspace(float(ends[0]), float(ends[1]), _WEIGHTS, dtype=torch.float64)
    tilts = torch.cat([y / (values + weights.unsqueeze(1)), y.unsqueeze(0)])  # (m, d)
    share = (tilts @ y - tilts.norm(dim=1)) / (tilts * values.sqrt()).norm(dim=1)
    w = linalg.solve(other.mT, frame @ tilts[share.nan_to_num(-torch.inf).argmax()])
    return w / w.norm()


def _support(region: Region, w: Tensor) -> float:
    """r ||S^T w||, never below the truth, for w (d,) float64."""
    return float(region.radius[0]) * float(support_above(region.noise, w.unsqueeze(0)))

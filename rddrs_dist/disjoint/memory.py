"""Regions that a classifier remembers, and which of them a point lies in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, linalg

from rddrs_dist.disjoint import Regions
from rddrs_dist.noise import FullNoise, Noise

_EPS = torch.finfo(torch.float64).eps
_EPS32 = torch.finfo(torch.float32).eps
# Directions of a dense region along which a point is looked at first: 2 % of its memory, and most
# points that are outside are so along these.
_NARROWEST = 16
_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Entry:
    """A remembered region {x + delta : ||S^-1 delta|| < r} and its class.

    No inverse of S is kept: a dense S is triangular, so that S^-1 delta costs as many operations
    as a product with an inverse would, with less rounding and half the memory.

    Attributes:
        centre: x, (1, *event) float32, on the CPU.
        prediction: Class of the region.
        radius: r, dimensionless, positive.
        noise: S, of one image, on the CPU; lower triangular where it is dense.
        min_axis: Smallest axis of S, at most, in pixel units.
        max_axis: Largest axis of S, at least.
        narrow: A, (k, d) float32, the k narrowest directions over their axes; k = 0 where S is not
            dense.
        stretch: ||A S||, at least, so that ||A delta|| <= stretch ||S^-1 delta||.
        query: Number of the query that the region is of.
    """

    centre: Tensor
    prediction: int
    radius: float
    noise: Noise
    min_axis: float
    max_axis: float
    narrow: Tensor
    stretch: float
    query: int

    @classmethod
    def of(
        cls, centre: Tensor, prediction: int, radius: float, noise: Noise, query: int
    ) -> "Entry":
        """An entry, with what makes its membership quick to tell; arguments as above."""
        axes = (float(noise.min_axis), float(noise.max_axis) * (1 + 1e-9))
        return cls(centre, prediction, radius, noise, *axes, *_narrow(noise), query)

    @cached_property
    def point(self) -> Tensor:
        """x, (d,) float64."""
        return self.centre.flatten().double()

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
        spread = float(frobenius(self.noise)) / self.min_axis
        return self.radius / (1 + 16 * (len(self.point) + 8) * _EPS * spread)

    def regions(self) -> Regions:
        """The region by itself."""
        return regions([self])

    def distance(self, point: Tensor) -> float:
        """||S^-1 (x' - x)||, never below the truth.

        With any y near S^-1 delta the truth is at most ||y|| + ||delta - S y|| / min_axis.

        Args:
            point: x', (d,) float64, of numbers that single precision holds.
        """
        delta = point - self.point
        error = (len(delta) + 8) * _EPS
        if not isinstance(self.noise, FullNoise):
            return float(self.noise.mahalanobis(delta.view_as(self.centre))) * (1 + error)
        scale = self.noise.scale[0].double()
        y = linalg.solve_triangular(scale, delta.unsqueeze(1), upper=False).squeeze(1)
        residual = (delta - scale @ y).norm()  # (d, d) @ (d,)
        rounding = error * (delta.norm() + scale.norm() * y.norm())
        return float(y.norm() * (1 + error) + (residual + rounding) / self.min_axis) * (1 + error)

    def contains(self, point: Tensor) -> bool:
        """Whether a point is inside for certain; NaN is not."""
        return self.distance(point) < self.radius


def regions(entries: Sequence[Entry]) -> Regions:
    """The regions of entries with noise of one kind; at least one."""
    noises = [entry.noise for entry in entries]
    return Regions(
        torch.cat([entry.centre for entry in entries]),
        torch.tensor([entry.prediction for entry in entries]),
        torch.tensor([entry.radius for entry in entries], dtype=torch.float64),
        type(noises[0]).concatenate(noises),
    )


def frobenius(noise: Noise) -> Tensor:
    """||S||_F of the noise of one image."""
    return noise.variances().sum().sqrt()


def _narrow(noise: Noise) -> tuple[Tensor, float]:
    """The narrowest directions of a dense scale over their axes, and by how much they stretch."""
    if not isinstance(noise, FullNoise):
        return torch.empty(0, noise.dimension), 0.0
    # Good directions are all that is wanted of this decomposition: the bound is of what came out.
    values, frame = linalg.eigh(noise.covariance()[0])
    lengths = values[:_NARROWEST].clamp_min(values[-1] * _EPS).sqrt()
    narrow = (frame[:, :_NARROWEST] / lengths).mT.float().contiguous()
    product = narrow.double() @ noise.scale[0].double()  # (k, d) @ (d, d)
    rounding = 2 * (noise.dimension + 8) * _EPS * narrow.double().norm() * frobenius(noise)
    return narrow, float(linalg.matrix_norm(product, 2) * (1 + 1e-9) + rounding)


@dataclass(frozen=True, eq=False)
class _Block:
    """Some entries, so that most of them are ruled out together."""

    entries: tuple[Entry, ...]

    @cached_property
    def _points(self) -> Tensor:
        """Centres, (m, d) float32."""
        return torch.cat([entry.centre for entry in self.entries]).flatten(1)

    @cached_property
    def _reach(self) -> Tensor:
        """Longest semi-axes, (m,) float64."""
        return torch.tensor([entry.reach for entry in self.entries], dtype=torch.float64)

    @cached_property
    def _dense(self) -> Tensor:
        """Rows of the entries with narrow directions."""
        return torch.tensor([len(entry.narrow) > 0 for entry in self.entries]).nonzero()[:, 0]

    @cached_property
    def _narrow(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A (m, k, d) of the dense entries, A x, ||A||_F, and the largest ||A delta|| inside."""
        dense = [self.entries[row] for row in self._dense.tolist()]
        narrow = torch.stack([entry.narrow for entry in dense])
        offset = torch.stack([entry.narrow @ entry.centre.flatten() for entry in dense])
        limit = torch.tensor([entry.stretch * entry.radius for entry in dense])
        return narrow, offset, narrow.flatten(1).norm(dim=1), limit * (1 + 1e-5)

    def near(self, point: Tensor) -> Iterator[Entry]:
        """Entries that a point (d,) float64 may lie in, in their order."""
        distance = (point - self._points.double()).norm(dim=1)
        close = ~(distance > self._reach)
        if len(self._dense) and bool(close[self._dense].any()):
            close[self._dense] &= ~self._narrowly_out(point.float())
        return (self.entries[row] for row in close.nonzero()[:, 0].tolist())

    def _narrowly_out(self, point: Tensor) -> Tensor:
        """Dense entries that a point (d,) float32 is out of along their narrow directions."""
        narrow, offset, norms, limit = self._narrow
        least = (narrow @ point - offset).norm(dim=1)
        # What rounding can add to that, which is computed in single precision.
        lengths = self._points[self._dense].norm(dim=1) + point.norm()
        return least > limit + 2 * (len(point) + 8) * _EPS32 * norms * lengths


class Memory:
    """Remembered regions in their order; regions of different classes never overlap."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        starts = range(0, len(entries), _BLOCK)
        self._blocks = [_Block(tuple(entries[start : start + _BLOCK])) for start in starts]

    def __len__(self) -> int:
        return sum(len(block.entries) for block in self._blocks)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for block in self._blocks for entry in block.entries)

    def add(self, entry: Entry) -> None:
        """Remembers a region, which the caller has made clear of those of other classes."""
        if not self._blocks or len(self._blocks[-1].entries) == _BLOCK:
            self._blocks.append(_Block(()))
        self._blocks[-1] = _Block((*self._blocks[-1].entries, entry))

    def find(self, point: Tensor) -> tuple[int, Entry] | None:
        """The first region that a point (d,) float64 lies in for certain, and its number."""
        for start, block in enumerate(self._blocks):
            for entry in block.near(point):
                if entry.contains(point):
                    return start * _BLOCK + block.entries.index(entry), entry
        return None

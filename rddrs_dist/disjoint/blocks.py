"""Blocks of pairs of regions: the units of work of a soundness pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddrs_dist.disjoint.contact import touch
from rddrs_dist.disjoint.narrowing import narrowed
from rddrs_dist.disjoint.regions import Regions
from rddrs_dist.disjoint.rules import Conflicts
from rddrs_dist.noise import Packed, pack, unpack


@dataclass(frozen=True, eq=False)
class Block:
    """Some regions, as they travel.

    Attributes:
        start: Number of the first among all regions of the method.
        centres: (B, *event).
        prediction: (B,).
        radius: (B,) float64.
        scales: Of each.
    """

    start: int
    centres: Tensor
    prediction: Tensor
    radius: Tensor
    scales: Sequence[Packed]

    def regions(self) -> Regions:
        """The regions."""
        shape = tuple(self.centres.shape[1:])
        noise = unpack(self.scales, shape)
        return Regions(self.centres, self.prediction, self.radius, noise)


@dataclass(frozen=True, eq=False)
class Found:
    """What came of a block of pairs, or of all.

    Attributes:
        conflicts: Pairs without a plane between them.
        normals: The best plane found for each, (C, d) float32; of all blocks they would not fit
            into memory, and none are kept.
        planes: Regions that a plane was needed for.
        pairs: Pairs of different predictions.
        searched: Those that their distance does not tell apart.
        steps: Of conjugate gradients, in all.
    """

    conflicts: Conflicts
    normals: NDArray[np.float32]
    planes: NDArray[np.int64]
    pairs: int = 0
    searched: int = 0
    steps: int = 0


@dataclass(frozen=True, eq=False)
class Narrowed:
    """What is left of a region beside the planes that it must keep to.

    Attributes:
        region: Its number.
        share: Of its radius that is left, in [0, 1); 0 where no room could be told from none.
        min_axis: Smallest axis of the narrowed scale, at most, in pixel units.
        mean_axis: Geometric mean of its axes, at most.
        scale: The narrowed scale, that all of this is of; None where there is none.
    """

    region: int
    share: float
    min_axis: float
    mean_axis: float
    scale: Packed | None


def block_of_pairs(first: Block, second: Block, inverse: Tensor | None, threads: int) -> Found:
    """Looks at all pairs of two blocks, or of one given twice."""
    torch.set_num_threads(threads)
    same = first.start == second.start
    one, other = first.regions(), second.regions()
    touched = touch(one, other, inverse, same)
    different = one.prediction.unsqueeze(1) != other.prediction
    left = touched[~(touched.mu(one.radius, other.radius) > 1)]
    numbers = (first.start + left.rows, second.start + left.columns)
    found = (*numbers, left.gap, left.left, left.right)
    conflicts = Conflicts(*(values.numpy() for values in found))
    planes = np.union1d(first.start + touched.rows.numpy(), second.start + touched.columns.numpy())
    pairs = int((different.triu(1) if same else different).sum())
    counts = (pairs, len(touched.rows), int(touched.steps.sum()))
    return Found(conflicts, left.normal.numpy(), planes, *counts)


def together(parts: Sequence[Found]) -> Found:
    """All blocks as one, without their normals; at least one."""
    names = [field.name for field in fields(Conflicts)]
    joined = [np.concatenate([getattr(one.conflicts, name) for one in parts]) for name in names]
    planes = np.unique(np.concatenate([one.planes for one in parts]))
    sums = [sum(getattr(one, name) for one in parts) for name in ("pairs", "searched", "steps")]
    return Found(Conflicts(*joined), parts[0].normals[:0], planes, *sums)


def narrow(
    region: int,
    packed: Packed,
    min_axis: float,
    event_shape: tuple[int, ...],
    normals: NDArray[np.float32],
    bounds: NDArray[np.float64],
    threads: int,
) -> Narrowed:
    """A region narrowed to its side of all planes.

    Args:
        region: Its number, which is returned with what was found.
        packed: S.
        min_axis: Smallest axis of S, at most.
        event_shape: Shape of the image.
        normals: (m, d), see `Bounds.of`.
        bounds: (m,).
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    planes = (torch.from_numpy(normals).double(), torch.from_numpy(bounds))
    found = narrowed(unpack([packed], event_shape), min_axis, *planes)
    if found is None:
        return Narrowed(region, 0.0, 0.0, 0.0, None)
    noise, share = found
    (scale,) = pack(noise)
    return Narrowed(region, share, float(noise.min_axis), float(noise.mean_axis), scale)

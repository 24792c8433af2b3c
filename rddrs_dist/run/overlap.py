"""Which regions of one method overlap, and what is left of those that are made narrower.

Only the driver writes files. Planes and narrowed scales go to disk as they come: of many regions
neither would fit into memory.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from rddrs_dist import data
from rddrs_dist.disjoint import (
    Block,
    Bounds,
    Conflicts,
    Found,
    Narrowed,
    block_of_pairs,
    mean_inverse,
    narrow,
    together,
)
from rddrs_dist.noise import Packed
from rddrs_dist.results import hyperplanes as planes
from rddrs_dist.results import scales
from rddrs_dist.results.scales import Scales

# Bytes that a block of pairs may take, for each number of a vector and of a dense scale.
_BLOCK_BYTES = 1 << 30
_PER_NUMBER, _PER_ENTRY = 48, 12
# Blocks of regions that wait on the cluster take so many bytes; of more the oldest are let go,
# and shipped once more when their turn comes.
_WAITING_BYTES = 1 << 30
# Narrowed scales go to disk in files of so many bytes.
_FILE_BYTES = 1 << 26
# Regions whose mean shape is the preconditioner's.
_SHAPES = 64


@dataclass(frozen=True, eq=False)
class Source:
    """What all methods of a run have in common.

    Attributes:
        options: Of the pass.
        images: The images that were certified.
        scales: Their scales, of all methods.
        tasks: Runs calls on the cluster.
        numbers: Numbers of files of planes and of scales that are yet to be written.
    """

    options: Any
    images: data.ImageSet
    scales: Scales
    tasks: Any
    numbers: tuple[Iterator[int], Iterator[int]]

    @property
    def folder(self) -> Path:
        """Where files go."""
        return self.options.dir


class Overlap:
    """The regions of one method."""

    def __init__(self, source: Source, method: str, regions: pd.DataFrame) -> None:
        """Takes regions.

        Args:
            source: See there.
            method: Its name.
            regions: Rows of the images that have a region, numbered from 0.
        """
        self._source, self._method, self._regions = source, method, regions
        self._indices = regions["index"].to_numpy(np.int64)
        self._dimension = math.prod(source.images.event_shape)
        self._planes = planes.Planes(method, self._dimension)

    def search(self) -> Found:
        """Looks at all pairs, in blocks that fit into memory."""
        if not len(self._regions):
            normals = np.empty((0, self._dimension), np.float32)
            return Found(Conflicts.none(), normals, np.empty(0, np.int64))
        some = self._block(0, -(-len(self._regions) // _SHAPES)).regions()
        inverse = self._source.tasks.put(mean_inverse([some]))
        size = block_size(self._dimension, some.dense)
        blocks = -(-len(self._regions) // size)
        bytes_each = 4 * size * self._dimension * ((self._dimension + 1) / 2 if some.dense else 1)

        @lru_cache(max(2, int(_WAITING_BYTES / bytes_each)))
        def block(k: int) -> Any:
            return self._source.tasks.put(self._block(k * size, 1, (k + 1) * size))

        cores = self._source.options.cpus_per_actor
        calls = ((block(i), block(j), inverse, cores) for i, j in block_pairs(blocks))
        count = blocks * (blocks + 1) // 2
        done = self._each(block_of_pairs, calls, count, "blocks of pairs")
        return together([self._kept(found) for found in done])

    def _block(self, start: int, step: int, end: int | None = None) -> Block:
        """Some regions."""
        own = self._regions.iloc[start:end:step]
        return Block(
            start,
            torch.from_numpy(self._source.images.images[own["index"].to_numpy()]),
            torch.from_numpy(own["prediction"].to_numpy(np.int64).copy()),
            torch.from_numpy(own["radius"].to_numpy(np.float64).copy()),
            [self._packed(int(index)) for index in own["index"]],
        )

    def _packed(self, index: int) -> Packed:
        """The scale of an image."""
        return self._source.scales.packed(self._method, index)

    def _each(self, function: Any, calls: Iterable[tuple], count: int, what: str) -> Any:
        """Results of calls, with a bar on a terminal."""
        done = self._source.tasks.each(function, calls)
        return tqdm(done, f"{self._method}, {what}", total=count, disable=None)

    def _kept(self, found: Found) -> Found:
        """Puts the planes of a block on disk and keeps the rest of it."""
        conflicts, count = found.conflicts, len(found.normals)
        if count:
            pairs = (self._indices[conflicts.first], self._indices[conflicts.second])
            number = next(self._source.numbers[0])
            file = planes.write(self._source.folder, number, self._method, pairs, found.normals)
            self._planes.append(file, count)
        return replace(found, normals=found.normals[:0].copy())

    def narrowed(self, radius: NDArray[np.float64], conflicts: Conflicts) -> Iterator[Narrowed]:
        """Narrows all regions that have a conflict; their scales are stored, see `results.sound`.

        Args:
            radius: Of all regions.
            conflicts: All that `search` has found.
        """
        bounds = Bounds(radius, conflicts)
        calls = (self._call(bounds, region) for region in bounds.regions)
        waiting: dict[scales.Key, Packed] = {}
        for one in self._each(narrow, calls, len(bounds.regions), "regions to be narrowed"):
            if one.scale is not None:
                waiting[self._method, int(self._indices[one.region])] = one.scale
            if sum(scale.values.nbytes for scale in waiting.values()) > _FILE_BYTES:
                self._store(waiting)
            yield one
        self._store(waiting)

    def _call(self, bounds: Bounds, region: int) -> tuple:
        """What `narrow` wants to know of a region."""
        chosen, limits = bounds.of(region)
        return (
            *(int(region), self._packed(int(self._indices[region]))),
            float(self._regions["min_axis"].iloc[region]),
            *(self._source.images.event_shape, self._planes.normals(chosen), limits),
            self._source.options.cpus_per_actor,
        )

    def _store(self, waiting: dict[scales.Key, Packed]) -> None:
        """Puts narrowed scales on disk."""
        if waiting:
            number = next(self._source.numbers[1])
            scales.write(self._source.folder, number, waiting, scales.NARROWED)
            waiting.clear()


def block_pairs(count: int) -> Iterator[tuple[int, int]]:
    """All pairs i <= j of so many blocks, back and forth, so that a row begins where one ended."""
    for i in range(count):
        row = range(i, count)
        yield from ((i, j) for j in (reversed(row) if i % 2 else row))


def block_size(dimension: int, dense: bool) -> int:
    """Regions in one of the two halves of a block of pairs, at least one.

    Args:
        dimension: d.
        dense: Whether scales are dense: 2 m scales of d^2 numbers come to m^2 vectors of d.
    """
    vectors = _PER_NUMBER * dimension
    matrices = _PER_ENTRY * dimension**2 if dense else 0
    root = math.sqrt(matrices**2 + vectors * _BLOCK_BYTES) - matrices
    return max(1, int(root / vectors))

"""Shards: the units of work of a run, of what is written and of what is done again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rddrs_dist.data.sets import ImageSet


@dataclass(frozen=True, eq=False)
class Shard:
    """Some images of a run; no label goes with them.

    Attributes:
        number: Number of the shard, from 0.
        indices: Index of each image in the data set.
        images: (B, *event) float32.
    """

    number: int
    indices: tuple[int, ...]
    images: NDArray[np.float32]

    def __str__(self) -> str:
        first, last = self.indices[0], self.indices[-1]
        images = f"image {first}" if len(self.indices) == 1 else f"images {first} to {last}"
        return f"shard {self.number} ({images})"

    def images_alone(self) -> list["Shard"]:
        """Its images, each in a shard of its own with the same number."""
        return [
            Shard(self.number, (index,), self.images[k : k + 1])
            for k, index in enumerate(self.indices)
        ]


def split(images: ImageSet, indices: Sequence[int], size: int) -> list[Shard]:
    """Cuts the chosen images into shards of `size`, the last one possibly smaller."""
    starts = range(0, len(indices), size)
    parts = [tuple(indices[start : start + size]) for start in starts]
    return [Shard(k, part, images.images[list(part)]) for k, part in enumerate(parts)]

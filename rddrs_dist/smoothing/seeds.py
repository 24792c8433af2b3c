"""Random streams that depend on what is computed, never on who computes it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Stage(IntEnum):
    """What samples are drawn for; the streams of two stages never meet.

    The guarantee rests on ESTIMATE being independent of everything that chose the noise and the
    class.
    """

    FIT = 0
    COMPARE = 1
    SELECT = 2
    ESTIMATE = 3
    SIGHT = 4


@dataclass(frozen=True)
class Streams:
    """Independent standard normal streams of B images.

    A draw is keyed by (run seed, image index, stage, step, block): it can be made again in any
    order, by any worker and in any company of images. On a CPU the bits come from SFC64 behind
    numpy's SeedSequence, because torch's own CPU generator keeps only 32 bits of a seed, too few
    to keep millions of keys apart, and become normal in `box_muller`; on GPUs they come from
    Philox, with 64 bits of a hash of seed and image as its key and the rest in its counter, for
    all images in one launch.

    Attributes:
        seed: Seed of the run, non-negative.
        indices: Index of each image in its data set, non-negative.
    """

    seed: int
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.seed < 0 or any(index < 0 for index in self.indices):
            raise ValueError(
                f"seed and indices must be non-negative, got seed {self.seed} "
                f"and smallest index {min(self.indices, default=0)}"
            )

    @classmethod
    def of(cls, seed: int, indices: Sequence[int]) -> Self:
        """Streams of the images with these indices."""
        return cls(seed, tuple(int(index) for index in indices))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        """Streams of a part of the images."""
        own = self.indices[rows] if isinstance(rows, slice) else [self.indices[k] for k in rows]
        return replace(self, indices=tuple(own))

    def integers(self, stage: Stage, step: int, below: Sequence[int], n: int) -> NDArray[np.int64]:
        """Uniform integers of [0, below), (B, n), drawn on the CPU for every device.

        Their step must be none of those of the normal samples of the stage.

        Raises:
            ValueError: If there is not one bound per stream.
        """
        drawn = np.empty((len(self), n), np.int64)
        for own, index, bound in zip(drawn, self.indices, below, strict=True):
            sequence = np.random.SeedSequence(self.seed, spawn_key=(index, int(stage), step, 0))
            own[:] = np.random.Generator(np.random.SFC64(sequence)).integers(0, bound, n)
        return drawn

    def normal(self, stage: Stage, step: int, block: int, n: int, images: Tensor) -> Tensor:
        """Standard normal samples, the same for the same key and n.

        Args:
            stage: What they are for.
            step: Iteration of an optimiser, 0 outside one.
            block: Number of the block among those of one step.
            n: Samples per image.
            images: (B, *event), whose shape, device and dtype the samples take.

        Returns:
            (B, n, *event).

        Raises:
            ValueError: If there is not one stream per image, or no Triton for a GPU.
        """
        if len(images) != len(self):
            raise ValueError(f"wanted {len(self)} images, one per stream, got {len(images)}")
        shape, key = (n, *images.shape[1:]), (int(stage), step, block)
        if images.is_cuda:
            try:
                from rddrs_dist.cuda.philox import normal
            except ImportError as error:
                raise ValueError(
                    "samples on a GPU are drawn by a Triton kernel, and triton cannot be "
                    "imported: install the one that belongs to this torch, or use a CPU"
                ) from error

            return normal(_keys(self, images.device), key, shape).to(images.dtype)
        size = math.prod(shape)
        drawn = torch.empty(len(self), 2, -(-size // 2))
        for own, index in zip(drawn, self.indices, strict=True):
            sequence = np.random.SeedSequence(self.seed, spawn_key=(index, *key))
            generator = np.random.Generator(np.random.SFC64(sequence))
            # All of 64 bits: the raw output, which the method of that name takes longer to give.
            raw = generator.integers(0, 2**64 - 1, own.shape[1], np.uint64, endpoint=True)
            lengths, angles = torch.from_numpy(raw.view(np.int32)).view(2, -1)
            box_muller(lengths, angles, own)
        return drawn.flatten(1)[:, :size].view(len(self), *shape).to(images.dtype)


@lru_cache(maxsize=64)
def _keys(streams: Streams, device: torch.device) -> Tensor:
    """Keys of Philox, (B,) int64, on a device."""
    keys = [
        np.random.SeedSequence(streams.seed, spawn_key=(index,)).generate_state(1, np.uint64)[0]
        for index in streams.indices
    ]
    return torch.from_numpy(np.array(keys, np.uint64).view(np.int64)).to(device)


def box_muller(lengths: Tensor, angles: Tensor, into: Tensor) -> Tensor:
    """Fills (2, m) float32 with normal numbers, from uniform lengths and angles, (m,) int32 each.

    Whole arrays at a time, in less than half the time of numpy's sampler. The length is made in
    float64, so that each of the 2^32 integers stands for its own 2^-32 of the probability.
    The longest is 6.76: what lies beyond has 1.2e-10.

    References:
        Box and Muller 1958, A note on the generation of random normal deviates.
    """
    uniform = lengths.double().add_(2.0**31 + 0.5).mul_(2.0**-32)
    length = uniform.log_().mul_(-2).float().sqrt_()
    angle = angles.float().mul_(math.pi / 2**31)
    torch.mul(length, angle.cos(), out=into[0])
    torch.mul(length, angle.sin(), out=into[1])
    return into

"""Noise as plain arrays, to be stored and hashed, bit for bit."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddrs_dist.noise.base import Noise
from rddrs_dist.noise.diagonal import DiagonalNoise
from rddrs_dist.noise.full import FullNoise
from rddrs_dist.noise.isotropic import IsotropicNoise

ISOTROPIC, DIAGONAL, LOWER, DENSE = "isotropic", "diagonal", "lower", "dense"


@dataclass(frozen=True, eq=False)
class Packed:
    """The scale of one image.

    Attributes:
        kind: isotropic, diagonal, lower or dense.
        values: Its numbers, one-dimensional: sigma; the standard deviation of each element; the
            lower triangle, row by row; or the whole matrix, row by row.
    """

    kind: str
    values: NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """Hash of kind and numbers."""
        own = np.ascontiguousarray(self.values)
        return hashlib.sha256(f"{self.kind} {own.dtype.str} ".encode() + own.tobytes()).hexdigest()


def pack(noise: Noise) -> list[Packed]:
    """The scale of each image of a noise."""
    scale = noise.scale.detach().cpu()
    if isinstance(noise, FullNoise):
        return [_pack_full(one) for one in scale]
    kind = ISOTROPIC if isinstance(noise, IsotropicNoise) else DIAGONAL
    return [Packed(kind, one.numpy().reshape(-1)) for one in scale]


def _pack_full(scale: Tensor) -> Packed:
    """One dense scale; half of a triangular one is not worth a disk."""
    if bool(scale.triu(1).any()):
        return Packed(DENSE, scale.numpy().reshape(-1))
    rows, columns = _triangle(len(scale))
    return Packed(LOWER, scale[rows, columns].numpy())


def _triangle(d: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of a lower triangle, row by row."""
    rows, columns = torch.tril_indices(d, d)
    return rows, columns


def unpack(scales: Sequence[Packed], event_shape: tuple[int, ...]) -> Noise:
    """One noise of several images, of the simplest kind that holds them all.

    Args:
        scales: At least one.
        event_shape: Shape of one image.

    Returns:
        The noise, on the CPU; of one image, exactly the noise that was packed.

    Raises:
        ValueError: If the numbers are too many or too few for the image, or the kind unknown.
    """
    d = math.prod(event_shape)
    for one in scales:
        _check(one, d)
    kinds = {one.kind for one in scales}
    if kinds == {ISOTROPIC}:
        return IsotropicNoise(torch.tensor([one.values[0] for one in scales]), event_shape)
    if kinds <= {ISOTROPIC, DIAGONAL}:
        rows = [torch.from_numpy(one.values.copy()).expand(d) for one in scales]
        return DiagonalNoise(torch.stack(rows).unflatten(1, event_shape), event_shape)
    return FullNoise(torch.stack([_matrix(one, d) for one in scales]), event_shape)


def _check(one: Packed, d: int) -> None:
    """Refuses a scale that is not of an image of d elements."""
    sizes: Mapping[str, int] = {ISOTROPIC: 1, DIAGONAL: d, LOWER: d * (d + 1) // 2, DENSE: d * d}
    if sizes.get(one.kind) != one.values.size:
        raise ValueError(
            f"a scale of an image of {d} elements must have {sizes} numbers, got "
            f"{one.values.size} of kind {one.kind!r}: it belongs to other images"
        )


def _matrix(one: Packed, d: int) -> Tensor:
    """A scale as a dense matrix, (d, d)."""
    values = torch.from_numpy(one.values.copy())
    if one.kind == DENSE:
        return values.view(d, d)
    if one.kind != LOWER:
        return torch.diag(values.expand(d))
    matrix = torch.zeros(d, d, dtype=values.dtype)
    matrix[_triangle(d)] = values
    return matrix

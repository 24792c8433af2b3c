"""Centred Gaussian noise on images, N(0, S S^T), batched over images."""

from collections.abc import Sequence

import torch

from rddrs_dist.noise.base import Noise, Packed
from rddrs_dist.noise.diagonal import DiagonalNoise, IsotropicNoise
from rddrs_dist.noise.full import FullNoise
from rddrs_dist.noise.lowrank import LowRankNoise

# What a run can store and read back; each with the kinds of scales that it packs.
NOISES: tuple[type[Noise], ...] = (IsotropicNoise, DiagonalNoise, LowRankNoise, FullNoise)

__all__ = [
    "NOISES",
    "DiagonalNoise",
    "FullNoise",
    "IsotropicNoise",
    "LowRankNoise",
    "Noise",
    "Packed",
    "pack",
    "unpack",
]


def pack(noise: Noise) -> list[Packed]:
    """The scale of each image of a noise.

    Raises:
        ValueError: If the noise is none of `NOISES`, so that nothing could read it back.
    """
    if type(noise) not in NOISES:  # one derived from them would come back as its parent
        raise ValueError(
            f"a noise that is stored must be one of {', '.join(n.__name__ for n in NOISES)}, got "
            f"{type(noise).__name__}: add its class to NOISES in rddrs_dist/noise/__init__.py"
        )
    return noise.pack()


def unpack(scales: Sequence[Packed], event_shape: tuple[int, ...]) -> Noise:
    """One noise of several images, of the simplest structure that holds them all.

    Args:
        scales: At least one.
        event_shape: Shape of one image.

    Returns:
        The noise, on the CPU; of images of one kind, exactly the noise that was packed. It is in
        float64 where one of low rank is beside one that is diagonal or full.

    Raises:
        ValueError: If the numbers are too many or too few for the image, or the kind unknown.
    """
    known = {kind: structure for structure in NOISES for kind in structure.kinds}
    if unknown := [one.kind for one in scales if one.kind not in known]:
        raise ValueError(
            f"the kind of a scale must be one of {', '.join(known)}, got {unknown[0]!r}"
        )
    noises = [known[one.kind].unpack(one, event_shape) for one in scales]
    structures = {type(noise) for noise in noises}
    if len(structures) == 1:
        return structures.pop().concatenate(noises)
    if all(noise.is_diagonal for noise in noises):
        rows = [noise.axes_of_pixels().to(noise.scale.dtype) for noise in noises]
        return DiagonalNoise(torch.cat(rows).unflatten(1, event_shape), event_shape)
    if structures == {IsotropicNoise, LowRankNoise}:
        return LowRankNoise.concatenate(noises)
    # A dense scale of low rank has more digits than single precision holds.
    precision = torch.float64 if LowRankNoise in structures else torch.float32
    dense = torch.cat([noise.matrix() for noise in noises])
    return FullNoise(dense.to(precision), event_shape)

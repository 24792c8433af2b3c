"""Noise that acts on each pixel by itself, S = diag(theta) or sigma I."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from rddrs_dist.noise.base import Inverse, Noise, Packed


@dataclass(frozen=True, eq=False)
class _Pixelwise(Noise):
    """What a diagonal scale is, however many numbers it has."""

    is_diagonal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not bool((self.scale > 0).all()):
            raise ValueError(
                f"standard deviations must be positive, got {self.scale.min().item()}"
            )

    def pack(self) -> list[Packed]:
        scale = self.scale.detach().cpu()
        return [Packed(self.kinds[0], one.numpy().reshape(-1)) for one in scale]

    def lower(self) -> Self:
        """Itself."""
        return self

    def adjoint(self, w: Tensor) -> Tensor:
        return self.colour(w)

    def variances(self) -> Tensor:
        return self.axes_of_pixels() ** 2

    def covariance(self) -> Tensor:
        return torch.diag_embed(self.variances())

    def inverse(self, row: int) -> Inverse:
        axes = self.axes_of_pixels()[row]
        return Inverse(axes.norm(), axes.reciprocal().norm(), lambda v: v / axes.unsqueeze(1))


class IsotropicNoise(_Pixelwise):
    """Noise with one standard deviation per image.

    Attributes:
        scale: sigma, (B,), positive.
        event_shape: Shape of one image.
    """

    kinds: ClassVar[tuple[str, ...]] = ("isotropic",)

    @classmethod
    def constant(cls, sigma: float, images: Tensor) -> Self:
        """The same sigma for every image of (B, *event)."""
        scale = torch.full((len(images),), sigma, dtype=images.dtype, device=images.device)
        return cls(scale, tuple(images.shape[1:]))

    def _scale_shape(self) -> tuple[int, ...]:
        return ()

    def sections(self, basis: Tensor, sizes: Sequence[int]) -> Tensor:
        """The scale itself: every section of a ball is one."""
        return self.scale.double().expand(len(sizes), -1)

    @classmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "IsotropicNoise":
        return cls(one.numbers(1), event_shape)

    def colour(self, z: Tensor) -> Tensor:
        return z * self.scale.view(-1, *[1] * (z.ndim - 1))

    def mahalanobis(self, delta: Tensor) -> Tensor:
        return self._flat64(delta).norm(dim=1) / self.scale.double()

    def axes_of_pixels(self) -> Tensor:
        return self.axes

    @property
    def axes(self) -> Tensor:
        return self.scale.double()[:, None].expand(-1, self.dimension)


class DiagonalNoise(_Pixelwise):
    """Noise with one standard deviation per pixel.

    Attributes:
        scale: theta, (B, *event), positive.
        event_shape: Shape of one image.
    """

    kinds: ClassVar[tuple[str, ...]] = ("diagonal",)

    def _scale_shape(self) -> tuple[int, ...]:
        return self.event_shape

    @classmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "DiagonalNoise":
        return cls(one.numbers(math.prod(event_shape)).view(1, *event_shape), event_shape)

    def colour(self, z: Tensor) -> Tensor:
        return z * self.scale.unsqueeze(1)

    def mahalanobis(self, delta: Tensor) -> Tensor:
        return (self._flat64(delta) / self.axes_of_pixels()).norm(dim=1)

    @property
    def axes(self) -> Tensor:
        return self.axes_of_pixels().sort(dim=1).values

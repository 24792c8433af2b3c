"""Diagonal noise, S = diag(theta)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rddrs_dist.noise.base import Noise, packed_values
from rddrs_dist.noise.packed import Packed


@dataclass(frozen=True, eq=False)
class DiagonalNoise(Noise):
    """Noise with one standard deviation per pixel.

    Attributes:
        scale: (B, *event), positive.
        event_shape: Shape of one image.
    """

    kinds: ClassVar[tuple[str, ...]] = ("diagonal",)
    is_diagonal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not bool((self.scale > 0).all()):
            raise ValueError(
                f"standard deviations must be positive, got {self.scale.min().item()}"
            )

    def _scale_shape(self) -> tuple[int, ...]:
        return self.event_shape

    def pack(self) -> list[Packed]:
        """The standard deviation of each element; see Noise.pack."""
        scale = self.scale.detach().cpu()
        return [Packed(self.kinds[0], one.numpy().reshape(-1)) for one in scale]

    @classmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "DiagonalNoise":
        """See Noise.unpack."""
        values = packed_values(one, math.prod(event_shape))
        return cls(values.view(1, *event_shape), event_shape)

    def colour(self, z: Tensor) -> Tensor:
        """diag(theta) z; see Noise.colour."""
        return z * self.scale.unsqueeze(1)

    def mahalanobis(self, delta: Tensor) -> Tensor:
        """||delta / theta||; see Noise.mahalanobis."""
        return (self._flat64(delta) / self._flat64(self.scale)).norm(dim=1)

    def adjoint(self, w: Tensor) -> Tensor:
        """diag(theta) w; see Noise.adjoint."""
        return self.colour(w)

    def variances(self) -> Tensor:
        """theta^2; see Noise.variances."""
        return self._flat64(self.scale) ** 2

    def covariance(self) -> Tensor:
        """diag(theta^2); see Noise.covariance."""
        return torch.diag_embed(self._flat64(self.scale) ** 2)

    def _axes(self) -> Tensor:
        """theta, sorted; see Noise.axes."""
        return self._flat64(self.scale).sort(dim=1).values

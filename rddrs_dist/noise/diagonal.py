"""Diagonal noise, S = diag(theta)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rddrs_dist.noise.base import Noise


@dataclass(frozen=True, eq=False)
class DiagonalNoise(Noise):
    """Noise with one standard deviation per pixel.

    Attributes:
        scale: (B, *event), positive.
        event_shape: Shape of one image.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not bool((self.scale > 0).all()):
            raise ValueError(
                f"standard deviations must be positive, got {self.scale.min().item()}"
            )

    def _scale_shape(self) -> tuple[int, ...]:
        return self.event_shape

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

"""Noise with a dense scale."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, linalg

from rddrs_dist.noise.base import Noise


@dataclass(frozen=True, eq=False)
class FullNoise(Noise):
    """Noise with a full covariance S S^T.

    Attributes:
        scale: S, (B, d, d), invertible; not necessarily symmetric.
        event_shape: Shape of one image.
    """

    def _scale_shape(self) -> tuple[int, ...]:
        d = math.prod(self.event_shape)
        return (d, d)

    def colour(self, z: Tensor) -> Tensor:
        """S z; see Noise.colour."""
        return (z.flatten(2) @ self.scale.mT).view_as(z)  # (B, n, d) @ (B, d, d)

    def mahalanobis(self, delta: Tensor) -> Tensor:
        """||S^-1 delta||; see Noise.mahalanobis."""
        flat = self._flat64(delta).unsqueeze(-1)
        return linalg.solve(self.scale.double(), flat).squeeze(-1).norm(dim=1)

    def support(self, direction: Tensor) -> Tensor:
        """||S^T w||; see Noise.support."""
        flat = self._flat64(direction).unsqueeze(-1)
        return (self.scale.double().mT @ flat).squeeze(-1).norm(dim=1)

    def covariance(self) -> Tensor:
        """S S^T; see Noise.covariance."""
        scale = self.scale.double()
        return scale @ scale.mT

    def _axes(self) -> Tensor:
        """Singular values of S; see Noise.axes."""
        return linalg.svdvals(self.scale.double()).flip(-1)

    @property
    def _axis_error(self) -> Tensor:
        """d eps ||S||: a backward stable svd moves no singular value further (Weyl)."""
        return self.dimension * torch.finfo(torch.float64).eps * self.axes[:, -1]

"""Isotropic noise, S = sigma I."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from rddrs_dist.noise.base import Noise, packed_values
from rddrs_dist.noise.packed import Packed


@dataclass(frozen=True, eq=False)
class IsotropicNoise(Noise):
    """Noise with one standard deviation per image.

    Attributes:
        scale: sigma, (B,), positive.
        event_shape: Shape of one image.
    """

    kinds: ClassVar[tuple[str, ...]] = ("isotropic",)
    is_diagonal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not bool((self.scale > 0).all()):
            raise ValueError(f"sigma must be positive, got {self.scale.min().item()}")

    @classmethod
    def constant(cls, sigma: float, images: Tensor) -> Self:
        """The same sigma for every image of (B, *event)."""
        scale = torch.full((len(images),), sigma, dtype=images.dtype, device=images.device)
        return cls(scale, tuple(images.shape[1:]))

    def _scale_shape(self) -> tuple[int, ...]:
        return ()

    def pack(self) -> list[Packed]:
        """Sigma; see Noise.pack."""
        scale = self.scale.detach().cpu()
        return [Packed(self.kinds[0], one.numpy().reshape(-1)) for one in scale]

    @classmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "IsotropicNoise":
        """See Noise.unpack."""
        return cls(packed_values(one, 1), event_shape)

    def axes_of_pixels(self) -> Tensor:
        """Sigma, d times; see Noise.axes_of_pixels."""
        return self.axes

    def colour(self, z: Tensor) -> Tensor:
        """sigma z; see Noise.colour."""
        return z * self.scale.view(-1, *[1] * (z.ndim - 1))

    def mahalanobis(self, delta: Tensor) -> Tensor:
        """||delta|| / sigma; see Noise.mahalanobis."""
        return self._flat64(delta).norm(dim=1) / self.scale.double()

    def adjoint(self, w: Tensor) -> Tensor:
        """sigma w; see Noise.adjoint."""
        return self.colour(w)

    def variances(self) -> Tensor:
        """sigma^2, d times; see Noise.variances."""
        return self.axes**2

    def covariance(self) -> Tensor:
        """sigma^2 I; see Noise.covariance."""
        return torch.diag_embed(self.axes**2)

    def _axes(self) -> Tensor:
        """sigma, d times; see Noise.axes."""
        return self.scale.double()[:, None].expand(-1, self.dimension)

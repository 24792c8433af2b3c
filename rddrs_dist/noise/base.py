"""What every Gaussian noise offers, whatever the structure of its scale."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

# Sizes computed in float64 are lowered by this share, more than their rounding errors add up to.
_MARGIN = 1e-12


@dataclass(frozen=True, eq=False)
class Noise(ABC):
    """The noise eps = S z, z ~ N(0, I_d), of each of B images.

    The scale S is held in the precision that samples are drawn in; every size is computed in
    float64 from exactly those numbers.

    Attributes:
        scale: S of each image; its shape is the structure's, with a leading axis of B images.
        event_shape: Shape of one image, d elements.
    """

    scale: Tensor
    event_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        expected = self._scale_shape()
        if self.scale.ndim == 0 or tuple(self.scale.shape[1:]) != expected:
            raise ValueError(
                f"scale of {type(self).__name__} must have shape (B, *{expected}), "
                f"got {tuple(self.scale.shape)}"
            )
        if not bool(self.scale.sum().isfinite()):  # NaN and infinity survive a sum
            raise ValueError(f"scale of {type(self).__name__} must be finite, got NaN or infinity")

    @abstractmethod
    def _scale_shape(self) -> tuple[int, ...]:
        """Shape of one image's scale."""

    @abstractmethod
    def colour(self, z: Tensor) -> Tensor:
        """S z, the noise made from standard normal samples.

        Args:
            z: (B, n, *event).

        Returns:
            (B, n, *event).
        """

    @abstractmethod
    def mahalanobis(self, delta: Tensor) -> Tensor:
        """||S^-1 delta||, the radius at which a point lies.

        Args:
            delta: (B, *event), displacement from each image.

        Returns:
            (B,) float64.
        """

    @abstractmethod
    def adjoint(self, w: Tensor) -> Tensor:
        """S^T w, in the precision of the scale.

        Args:
            w: (B, n, *event).

        Returns:
            (B, n, *event).
        """

    def support(self, direction: Tensor) -> Tensor:
        """||S^T w||, the support function of the unit ellipsoid {S u : ||u|| <= 1}.

        Args:
            direction: w, (B, *event).

        Returns:
            (B,) float64.
        """
        flat = self._flat64(direction)
        return (
            self.double()
            .adjoint(flat.view(len(flat), 1, *self.event_shape))
            .flatten(1)
            .norm(dim=1)
        )

    @abstractmethod
    def variances(self) -> Tensor:
        """Diagonal of S S^T, (B, d) float64: the variance of each element of the noise."""

    @abstractmethod
    def covariance(self) -> Tensor:
        """S S^T as a dense matrix, (B, d, d) float64; for tests and small d."""

    @abstractmethod
    def _axes(self) -> Tensor:
        """See `axes`."""

    @cached_property
    def axes(self) -> Tensor:
        """Singular values of S, (B, d) float64, ascending: standard deviations along the axes."""
        return self._axes()

    @property
    def _axis_error(self) -> Tensor:
        """Bound on the error of `axes`, (B, d) or (B, 1): none if they are read off the scale."""
        return torch.zeros(len(self), 1, dtype=torch.float64, device=self.scale.device)

    def __len__(self) -> int:
        return self.scale.shape[0]

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        """The noise of a part of the images; of all of them, itself with all it has computed."""
        everyone = range(len(self))
        if list(everyone[rows] if isinstance(rows, slice) else rows) == list(everyone):
            return self
        return replace(self, scale=self.scale[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """One noise of all the images of several noises of one kind."""
        return replace(parts[0], scale=torch.cat([part.scale for part in parts]))

    def double(self) -> Self:
        """The same noise with its numbers held in float64."""
        return replace(self, scale=self.scale.double())

    def matrix(self) -> Tensor:
        """S as dense matrices, (B, d, d) float64."""
        d, device = self.dimension, self.scale.device
        basis = torch.eye(d, dtype=torch.float64, device=device).view(1, d, *self.event_shape)
        return self.double().colour(basis.expand(len(self), *basis.shape[1:])).flatten(2).mT

    @property
    def dimension(self) -> int:
        """d, the number of elements of an image."""
        return math.prod(self.event_shape)

    @cached_property
    def axes_below(self) -> Tensor:
        """Lower bounds of the axes, (B, d); 0 where rounding errors leave nothing."""
        return (self.axes - self._axis_error).clamp_min(0)

    @cached_property
    def logdet(self) -> Tensor:
        """log |det S|, (B,) float64, from lower bounds of the axes."""
        return self.axes_below.log().sum(-1)

    @cached_property
    def min_axis(self) -> Tensor:
        """Smallest axis, (B,) float64; never above the true value."""
        return self.axes_below[:, 0]

    @cached_property
    def max_axis(self) -> Tensor:
        """Largest axis, (B,) float64, to within rounding errors."""
        return self.axes[:, -1]

    @cached_property
    def mean_axis(self) -> Tensor:
        """exp(logdet / d), the geometric mean of the axes, (B,) float64; never above the truth."""
        below = (self.logdet / self.dimension).exp() * (1 - _MARGIN)
        return torch.maximum(below, self.min_axis)  # equal axes: no rounding error at all

    def capped_mean_axis(self, limit: Tensor) -> Tensor:
        """Geometric mean of the axes cut at a limit, (B,) float64; never above the truth.

        Args:
            limit: (B,) float64, largest length of an axis that counts.
        """
        cut = torch.minimum(self.axes_below, limit.unsqueeze(1))
        below = cut.log().mean(-1).exp() * (1 - _MARGIN)
        return torch.where(self.axes[:, -1] <= limit, self.mean_axis, below)

    def axes_above(self, limit: Tensor) -> Tensor:
        """How many axes are longer than a limit (B,) float64, (B,) int64."""
        return (self.axes > limit.unsqueeze(1)).sum(1)

    def _flat64(self, images: Tensor) -> Tensor:
        """(B, *event) as (B, d) float64."""
        if tuple(images.shape) != (len(self), *self.event_shape):
            raise ValueError(
                f"wanted shape {(len(self), *self.event_shape)}, got {tuple(images.shape)}"
            )
        return images.flatten(1).double()

"""Noise with a dense scale."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, linalg

from rddrs_dist.noise.base import Noise

# Rows or columns of a triangular scale that are multiplied at once: few enough to pass over its
# zeros.
_COLUMNS = 128


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

    @classmethod
    def unchecked(cls, scale: Tensor, event_shape: tuple[int, ...]) -> "FullNoise":
        """The noise of a scale that may have any numbers, for the steps of an ascent.

        No look is taken at them, for which a host would wait for its device.
        """
        noise = object.__new__(cls)
        vars(noise).update(scale=scale, event_shape=event_shape, _is_lower=False)
        return noise

    def lower(self) -> "FullNoise":
        """The same noise with a lower triangular scale of positive diagonal, half as much work."""
        root = _triangle(self.scale.double())
        root = root * root.diagonal(dim1=1, dim2=2).sign().unsqueeze(-2)
        return FullNoise(root.to(self.scale.dtype), self.event_shape)

    @cached_property
    def _is_lower(self) -> bool:
        # By bands: a copy of all that is above the diagonal would take longer than a product.
        above = [self.scale[:, start:end, end:] for start, end in self._bands()]
        above += [self.scale[:, start:end, start:end].triu(1) for start, end in self._bands()]
        return not any(bool((part != 0).any()) for part in above)

    def colour(self, z: Tensor) -> Tensor:
        """S z; see Noise.colour."""
        flat = z.flatten(2)
        if not self._is_lower:
            return (flat @ self.scale.mT).view_as(z)  # (B, n, d) @ (B, d, d)
        parts = [
            flat[..., :end] @ self.scale[:, start:end, :end].mT for start, end in self._bands()
        ]
        return torch.cat(parts, -1).view_as(z)

    def mahalanobis(self, delta: Tensor) -> Tensor:
        """||S^-1 delta||; see Noise.mahalanobis."""
        flat = self._flat64(delta).unsqueeze(-1)
        return linalg.solve(self.scale.double(), flat).squeeze(-1).norm(dim=1)

    def adjoint(self, w: Tensor) -> Tensor:
        """S^T w; see Noise.adjoint."""
        flat = w.flatten(2)
        if not self._is_lower:
            return (flat @ self.scale).view_as(w)  # (B, n, d) @ (B, d, d)
        parts = [
            flat[..., start:] @ self.scale[:, start:, start:end] for start, end in self._bands()
        ]
        return torch.cat(parts, -1).view_as(w)

    def _bands(self) -> list[tuple[int, int]]:
        """Rows or columns of a triangular scale that are multiplied at once."""
        return list(pairwise([*range(0, self.dimension, _COLUMNS), self.dimension]))

    def variances(self) -> Tensor:
        """Squared lengths of the rows of S; see Noise.variances."""
        return self.scale.double().square().sum(2)

    def covariance(self) -> Tensor:
        """S S^T; see Noise.covariance."""
        scale = self.scale.double()
        return scale @ scale.mT

    def _axes(self) -> Tensor:
        """Singular values of S; see Noise.axes.

        A GPU takes eight times as long for them as for the eigenvalues of S^T S.
        """
        scale = self.scale.double()
        if scale.is_cuda:
            return linalg.eigvalsh(scale.mT @ scale).clamp_min(0).sqrt()
        return linalg.svdvals(scale).flip(-1)

    @property
    def _axis_error(self) -> Tensor:
        """d eps ||S||: a backward stable svd moves no singular value further (Weyl).

        Eigenvalues of S^T S are off by d eps ||S||_F^2 from the product (Higham 2002, section 3.5)
        and by no more from their own computation; what that is for their roots depends on these.
        """
        share = self.dimension * torch.finfo(torch.float64).eps
        if not self.scale.is_cuda:
            return share * self.axes[:, -1:]
        squares = self.axes.square()
        error = 2 * share * squares.sum(1, keepdim=True)
        return self.axes - (squares - error).clamp_min(0).sqrt()


def _triangle(scale: Tensor) -> Tensor:
    """L, lower triangular with L L^T = S S^T, from S (B, d, d)."""
    if scale.is_cuda:  # where QR takes thirty times as long
        root, failed = linalg.cholesky_ex(scale @ scale.mT)
        if not bool(failed.any()):
            return root
    return linalg.qr(scale.mT, mode="r").R.mT  # S^T = Q R

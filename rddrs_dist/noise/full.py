"""Noise with a dense scale."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.norm import least_bound, norm_bounds, rounding
from rddrs_dist.geometry.symmetric import eye
from rddrs_dist.noise.base import Extremes, Inverse, Noise, Packed

# Rows or columns of a triangular scale that are multiplied at once: few enough to pass over its
# zeros.
_COLUMNS = 128
# Share of the smallest square axis that its bound may take; half as much of the axis.
_FELT = 2e-4


@dataclass(frozen=True, eq=False)
class FullNoise(Noise):
    """Noise with a full covariance S S^T.

    Attributes:
        scale: S, (B, d, d), invertible; not necessarily symmetric.
        event_shape: Shape of one image.
    """

    kinds: ClassVar[tuple[str, ...]] = ("lower", "dense")

    def _scale_shape(self) -> tuple[int, ...]:
        d = math.prod(self.event_shape)
        return (d, d)

    @classmethod
    def unchecked(cls, scale: Tensor, event_shape: tuple[int, ...]) -> "FullNoise":
        """The noise of a scale that may have any numbers, for the steps of an ascent.

        No look is taken at them, for which a host would wait for its device.
        """
        noise = object.__new__(cls)
        vars(noise).update(scale=scale, event_shape=event_shape, is_lower=False)
        return noise

    def lower(self) -> "FullNoise":
        """The same noise with a lower triangular scale of positive diagonal, half as much work."""
        scale = self.scale.double()
        if scale.is_cuda:  # where QR takes thirty times as long
            root, failed = linalg.cholesky_ex(scale @ scale.mT)
            if bool(failed.any()):
                flat = failed > 0
                root[flat] = linalg.qr(scale[flat].mT, mode="r").R.mT
        else:
            root = linalg.qr(scale.mT, mode="r").R.mT  # S^T = Q R, L L^T = S S^T
        root = root * root.diagonal(dim1=1, dim2=2).sign().unsqueeze(-2)
        return FullNoise(root.to(self.scale.dtype), self.event_shape)

    def pack(self) -> list[Packed]:
        return [_packed(one) for one in self.scale.detach().cpu()]

    @classmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "FullNoise":
        d = math.prod(event_shape)
        if one.kind == "dense":
            return cls(one.numbers(d * d).view(1, d, d), event_shape)
        values = one.numbers(d * (d + 1) // 2)
        matrix = torch.zeros(1, d, d, dtype=values.dtype)
        rows, columns = torch.tril_indices(d, d)
        matrix[0, rows, columns] = values
        return cls(matrix, event_shape)

    def matrix(self) -> Tensor:
        return self.scale.double()

    @cached_property
    def frobenius(self) -> Tensor:
        # Rows in the precision of S, which takes a tenth of the time; what that may lose is added.
        rows, kind = linalg.vector_norm(self.scale, dim=2), torch.finfo(torch.float32)
        lost = rows.shape[1] * (kind.eps * rows.double() + kind.tiny**0.5)
        return (rows.double() + lost).norm(dim=1)

    @cached_property
    def is_lower(self) -> bool:
        """Whether S is lower triangular, of all images; looked at once."""
        # By bands: a copy of all that is above the diagonal would take longer than a product.
        above = [self.scale[:, start:end, end:] for start, end in self._bands()]
        above += [self.scale[:, start:end, start:end].triu(1) for start, end in self._bands()]
        return not any(bool((part != 0).any()) for part in above)

    def colour(self, z: Tensor) -> Tensor:
        flat = z.flatten(2)
        if not self.is_lower:
            return (flat @ self.scale.mT).view_as(z)  # (B, n, d) @ (B, d, d)
        parts = [
            flat[..., :end] @ self.scale[:, start:end, :end].mT for start, end in self._bands()
        ]
        return torch.cat(parts, -1).view_as(z)

    def mahalanobis(self, delta: Tensor) -> Tensor:
        flat = self._flat64(delta).unsqueeze(-1)
        return linalg.solve(self.scale.double(), flat).squeeze(-1).norm(dim=1)

    def adjoint(self, w: Tensor) -> Tensor:
        flat = w.flatten(2)
        if not self.is_lower:
            return (flat @ self.scale).view_as(w)  # (B, n, d) @ (B, d, d)
        parts = [
            flat[..., start:] @ self.scale[:, start:, start:end] for start, end in self._bands()
        ]
        return torch.cat(parts, -1).view_as(w)

    def _bands(self) -> list[tuple[int, int]]:
        """Rows or columns of a triangular scale that are multiplied at once."""
        return list(pairwise([*range(0, self.dimension, _COLUMNS), self.dimension]))

    def variances(self) -> Tensor:
        return self.scale.double().square().sum(2)

    def covariance(self) -> Tensor:
        scale = self.scale.double()
        return scale @ scale.mT

    def inverse(self, row: int) -> Inverse:
        lower = self.scale[row].double()
        if not self.is_lower:
            lower = linalg.qr(lower.mT, mode="r").R.mT  # S^T = Q R, S^-1 = Q^T R^-T
        # From the right: what is left of X L - I is then small, whatever the axes are.
        inverse = linalg.solve_triangular(lower, eye(len(lower), lower), upper=False, left=False)
        return Inverse(lower.norm(), inverse.norm(), inverse.matmul)

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Axes and bounds on their errors; a GPU takes long for singular values."""
        scale = self.scale.double()
        return axes_by_squares(scale) if scale.is_cuda else axes_by_values(scale)

    @property
    def axes(self) -> Tensor:
        return self._spectrum[0]

    @cached_property
    def axes_below(self) -> Tensor:
        axes, errors = self._spectrum
        return (axes - errors).clamp_min(0)  # 0 where rounding errors leave nothing

    @cached_property
    def extremes(self) -> Extremes:
        if not (self.scale.is_cuda and self.is_lower):
            return super().extremes
        return extremes_of(self.scale.double())  # where singular values are dear


def extremes_of(lower: Tensor) -> Extremes:
    """From bounds of norms and the diagonal of S (B, d, d) float64, lower triangular."""
    smallest = least_bound(lower)
    lost = smallest == 0  # to rounding
    if bool(lost.any()):
        axes, errors = axes_by_values(lower[lost])
        smallest[lost] = (axes - errors)[:, 0].clamp_min(0)
    logdet = lower.diagonal(dim1=1, dim2=2).abs().log().sum(-1)
    return Extremes(smallest, *norm_bounds(lower), logdet)


def axes_by_values(scale: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of S (B, d, d) float64, ascending, and bounds of their errors.

    A backward stable decomposition moves none further than (d + 8) eps ||S|| (Weyl).
    """
    axes = linalg.svdvals(scale).flip(-1)
    return axes, rounding(scale) * axes[:, -1:]


def axes_by_squares(scale: Tensor) -> tuple[Tensor, Tensor]:
    """The same from eigenvalues of S^T S, for which a GPU takes an eighth of the time.

    They are off by (d + 8) eps ||S||_F^2 from the product (Higham 2002, section 3.5), and by no
    more from a backward stable solver; what that is for their roots depends on these. Where it
    would be felt in the smallest axis, its image has its singular values computed.
    """
    squares = linalg.eigvalsh(scale.mT @ scale).clamp_min(0)
    lost = 2 * rounding(scale) * squares.sum(1, keepdim=True)
    axes = squares.sqrt()
    errors = axes - (squares - lost).clamp_min(0).sqrt()
    felt = lost[:, 0] > _FELT * squares[:, 0]
    if bool(felt.any()):
        axes[felt], errors[felt] = axes_by_values(scale[felt])
    return axes, errors


def _packed(scale: Tensor) -> Packed:
    """One dense scale (d, d); half of a triangular one is not worth a disk."""
    if bool(scale.triu(1).any()):
        return Packed("dense", scale.numpy().reshape(-1))
    rows, columns = torch.tril_indices(len(scale), len(scale))
    return Packed("lower", scale[rows, columns].numpy())

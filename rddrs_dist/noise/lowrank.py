"""Noise that is isotropic but for a few directions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor, linalg
from torch.nn.functional import pad

from rddrs_dist.geometry.norm import rounding
from rddrs_dist.noise.base import Inverse, Noise, Packed
from rddrs_dist.noise.full import FullNoise

_EPS = torch.finfo(torch.float64).eps
# More than rounding takes from a square, a sum and a product, as a share.
_ROUNDED = 4 * _EPS


@dataclass(frozen=True, eq=False)
class LowRankNoise(Noise):
    """Noise with S = s I + W W^T, W (d, k): k axes of any direction are longer than s.

    S is symmetric and at least s I whatever the numbers of W are. So nothing is asked of W, and
    rounding it to single precision makes another noise of the same structure. With the singular
    values t_i of W the axes are s, d - k times and exactly, and s + t_i^2. Samples and storage
    take O(k d), the singular values O(k^2 d), once.

    `lower`, `covariance`, `matrix` and `whitening` are dense; so is what comes of a region that is
    narrowed (`disjoint/narrowing.py`).

    Attributes:
        scale: s, then the columns of W one after another, (B, 1 + k d); s is positive. Columns at
            the end that are 0 are not stored.
        event_shape: Shape of one image.
    """

    kinds: ClassVar[tuple[str, ...]] = ("low-rank",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not bool((self.scale[:, 0] > 0).all()):
            raise ValueError(f"s must be positive, got {self.scale[:, 0].min().item()}")
        # A product with W W^T is off by at most (d + k) eps / 2 ||W||_2 ||W||_F, and that is at
        # most ((1 + k^(1/2)) / 2)^(1/2) ||S||_F. So many columns keep it within 2 (d + 8) eps
        # ||S||_F, what bounds of supports allow for.
        d, k = self.dimension, self.scale.shape[1] // self.dimension
        if (d + k) ** 2 * (1 + math.sqrt(k)) > 32 * (d + 8) ** 2:
            raise ValueError(f"{k} columns are too many for {d} pixels: use FullNoise")

    def _scale_shape(self) -> tuple[int, ...]:
        return (_numbers(math.prod(self.scale.shape[1:]), self.dimension),)

    @classmethod
    def of(
        cls, sigma: Tensor, directions: Tensor, weights: Tensor, event_shape: tuple[int, ...]
    ) -> Self:
        """The noise with S S^T = s^2 I + U diag(w) U^T, rounded to single precision.

        With U diag(w)^(1/2) = Q P diag(l) R^T, from a QR and an SVD of k rows in float64, W is
        Q P diag(m)^(1/2), m = l^2 / ((s^2 + l^2)^(1/2) + s). What rounding alone may have made of
        directions that depend on each other is left out.

        Args:
            sigma: s, (B,), positive.
            directions: U, (B, d, k); columns of any lengths, which may depend on each other.
            weights: w, (B, k), not negative.
            event_shape: Shape of one image, d elements.

        Raises:
            ValueError: If shapes do not agree or values are out of range.
        """
        shapes = [tuple(one.shape) for one in (sigma, directions, weights)]
        d, (b, k) = math.prod(event_shape), weights.shape if weights.ndim == 2 else (0, 0)
        if shapes != [(b,), (b, d, k), (b, k)]:
            raise ValueError(
                f"sigma, directions and weights must be (B,), (B, d, k) and (B, k), d = {d}, got "
                f"{', '.join(map(str, shapes))}"
            )
        s, u, w = sigma.double(), directions.double(), weights.double()
        if not all(bool(one.isfinite().all()) for one in (s, u, w)):
            raise ValueError(
                "sigma, directions and weights must be finite, got NaN or infinity in one of them"
            )
        if not bool((s > 0).all()):
            raise ValueError(f"sigma must be positive, got {s.min().item()}")
        if not bool((w >= 0).all()):
            raise ValueError(f"weights must not be negative, got {w.min().item()}")
        basis, root = linalg.qr(u * w.sqrt().unsqueeze(1))
        left, lengths, _ = linalg.svd(root, full_matrices=False)
        lengths = torch.where(lengths > rounding(u.mT) * lengths[:, :1], lengths, 0.0)
        s = s.unsqueeze(1)
        added = lengths**2 / (torch.hypot(s, lengths) + s)
        columns = (basis @ left) * added.sqrt().unsqueeze(1)  # (B, d, k)
        return cls(torch.cat([s, columns.mT.flatten(1)], 1).float(), tuple(event_shape))

    @classmethod
    def concatenate(cls, parts: Sequence[Noise]) -> Self:
        """One noise of all the images of parts of low rank or isotropic, whose sigma is s.

        Columns of 0 are added where an image has fewer than another.
        """
        rows = [part.scale.view(len(part), -1) for part in parts]
        width = max(row.shape[1] for row in rows)
        padded = [pad(row, (0, width - row.shape[1])) for row in rows]
        return cls(torch.cat(padded), parts[0].event_shape)

    def pack(self) -> list[Packed]:
        d, packed = self.dimension, list[Packed]()
        for one in self.scale.detach().cpu():
            used = one[1:].view(-1, d).any(1).nonzero()
            columns = int(used[-1]) + 1 if len(used) else 0
            packed.append(Packed(self.kinds[0], one[: 1 + columns * d].numpy()))
        return packed

    @classmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "LowRankNoise":
        size = _numbers(one.values.size, math.prod(event_shape))
        return cls(one.numbers(size).view(1, -1), event_shape)

    @property
    def _parts(self) -> tuple[Tensor, Tensor]:
        """s, (B, 1, 1), and W^T, (B, k, d)."""
        s, rows = self.scale[:, :1], self.scale[:, 1:]
        return s.unsqueeze(2), rows.unflatten(1, (-1 if rows.shape[1] else 0, self.dimension))

    def colour(self, z: Tensor) -> Tensor:
        (s, rows), flat = self._parts, z.flatten(2)
        return torch.baddbmm(flat * s, flat @ rows.mT, rows).view_as(z)  # (B, n, k) @ (B, k, d)

    def adjoint(self, w: Tensor) -> Tensor:
        return self.colour(w)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """s (B, 1), and of W, in float64, singular values t (B, k), descending, and V (B, k, d).

        The rows of V are the left singular vectors.
        """
        s, rows = self.double()._parts
        _, lengths, frame = linalg.svd(rows, full_matrices=False)
        return s[:, 0], lengths, frame

    def _with_s(self, longer: Tensor) -> Tensor:
        """All axes, (B, d), from the k that are not s, (B, k) descending."""
        s = self.scale[:, :1].double()
        return torch.cat([s.expand(-1, self.dimension - longer.shape[1]), longer.flip(1)], 1)

    @property
    def axes(self) -> Tensor:
        s, lengths, _ = self._factors
        return self._with_s(s + lengths**2)

    @cached_property
    def axes_below(self) -> Tensor:
        """Lower bounds of the axes, (B, d); s itself is exact.

        A backward stable decomposition moves no t_i further than (d + 8) eps t_1 (Weyl).
        """
        s, lengths, _ = self._factors
        least = (lengths - rounding(self._parts[1]) * lengths[:, :1]).clamp_min(0)
        return self._with_s(torch.maximum((s + least**2) * (1 - _ROUNDED), s))

    def _gram(self) -> tuple[Tensor, Tensor, Tensor]:
        """s (B, 1), W^T (B, k, d) and W^T W, in float64."""
        s, rows = self.double()._parts
        return s[:, 0], rows, rows @ rows.mT

    def variances(self) -> Tensor:
        s, rows, gram = self._gram()
        return s**2 + 2 * s * (rows**2).sum(1) + ((gram @ rows) * rows).sum(1)

    @cached_property
    def frobenius(self) -> Tensor:
        # No entry of W^T W is off by more than (d + 8) eps of two lengths; see `variances`.
        (s, rows, gram), d = self._gram(), self.dimension
        squares = d * s[:, 0] ** 2 + 2 * s[:, 0] * (rows**2).sum((1, 2)) + (gram**2).sum((1, 2))
        return squares.sqrt() * (1 + (rows.shape[1] + 1) * rounding(rows))

    def covariance(self) -> Tensor:
        scale = self.matrix()
        return scale @ scale.mT

    def matrix(self) -> Tensor:
        """See `Noise.matrix`; off by no more than 2 eps |S| at each place, however many columns.

        Products of two numbers of single precision are exact; what sums lose is summed too.
        """
        s, rows = self.double()._parts
        total = s * torch.eye(self.dimension, dtype=s.dtype, device=s.device)
        lost = torch.zeros_like(total)
        for row in rows.unbind(1):
            added = row.unsqueeze(2) * row.unsqueeze(1)
            summed = total + added
            part = summed - total
            lost += (total - (summed - part)) + (added - part)
            total = summed
        return total + lost

    def mahalanobis(self, delta: Tensor) -> Tensor:
        s, lengths, frame = self._factors
        flat = self._flat64(delta).unsqueeze(2)
        along = frame @ flat  # (B, k, d) @ (B, d, 1)
        across = (flat - frame.mT @ along)[..., 0].norm(dim=1) / s[:, 0]
        return torch.hypot(across, (along[..., 0] / (s + lengths**2)).norm(dim=1))

    def inverse(self, row: int) -> Inverse:
        """X v = v / s - V^T q V v with q_i = 1 / s - 1 / (s + t_i^2).

        V and t are, up to u = (d + 8) eps of V, those of W + E with ||E|| <= u ||W||. What
        belongs to W + E has the factor I + F with ||F|| <= (2 u + u^2) ||W||^2 / s, and V and
        the products are off by at most (3 + k^(1/2)) u ||v|| / s. Four times d^(1/2) / s, which
        is at least ||S^-1||, in the place of ||X|| is more than either needs; and k / s is added
        for |X|.
        """
        (s, lengths, frame), d = (one[row] for one in self._factors), self.dimension
        share = (lengths**2 / (s * (s + lengths**2))).unsqueeze(1)

        def times(vectors: Tensor) -> Tensor:
            return vectors / s - frame.mT @ (share * (frame @ vectors))  # (d, k) @ (k, n)

        def absolute(vectors: Tensor) -> Tensor:
            return vectors / s + frame.mT.abs() @ (share * (frame.abs() @ vectors))

        norm = 4 * (d**0.5 + len(frame)) / s[0]  # that of |V|^T q |V| is at most k / s
        return Inverse(self.frobenius[row], norm, times, absolute)

    def lower(self) -> FullNoise:
        """The same noise with a dense scale, lower triangular."""
        lower = FullNoise(self.matrix(), self.event_shape).lower()
        return replace(lower, scale=lower.scale.to(self.scale.dtype))


def _numbers(found: int, d: int) -> int:
    """1 + k d for the k, 0 to d, that so many numbers have room for."""
    return 1 + d * min(max(found - 1, 0) // d, d)

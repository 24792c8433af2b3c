"""What every Gaussian noise offers, whatever the structure of its scale."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, linalg

from rddrs_dist.geometry.norm import rounding
from rddrs_dist.geometry.symmetric import lower_inverse

# Sizes computed in float64 are lowered by this share, more than their rounding errors add up to.
_MARGIN = 1e-12
# Below this what rounding leaves of a section says nothing.
_FELT = 0.5


@dataclass(frozen=True, eq=False)
class Packed:
    """The scale of one image as a plain array, to be stored and hashed, bit for bit."""

    kind: str  # which numbers these are: one of the `kinds` of a noise in `NOISES`
    values: NDArray[np.float32]  # the numbers, one-dimensional

    @property
    def sha256(self) -> str:
        """Hash of kind and numbers."""
        own = np.ascontiguousarray(self.values)
        return hashlib.sha256(f"{self.kind} {own.dtype.str} ".encode() + own.tobytes()).hexdigest()

    def numbers(self, size: int) -> Tensor:
        """The numbers as a tensor of its own; a ValueError if they are not as many as the size."""
        if self.values.size != size:
            raise ValueError(
                f"a scale of kind {self.kind!r} of such an image must have {size} numbers, got "
                f"{self.values.size}: it belongs to other images"
            )
        return torch.from_numpy(np.array(self.values))


class Extremes(NamedTuple):
    """What most regions need to know of the axes of B images, (B,) float64 each."""

    least: Tensor  # smallest axis, at most
    most: Tensor  # largest axis, at most or to within rounding errors
    bound: Tensor  # largest axis, at least or to within rounding errors
    logdet: Tensor  # log |det S|, at most or to within rounding errors


class Inverse(NamedTuple):
    """X, S^-1 of one image up to a rotation, and what rounding errors of it are measured by.

    Made of S triangular it is S^-1 to within a factor I + F from the left. In Frobenius norms
    ||F|| <= 2 u ||X|| ||S||, u = (d + 8) eps (Higham 2002, sections 3.5, 8.2, 14.2 and 19.3).
    """

    scale: Tensor  # Frobenius norm of S
    norm: Tensor  # that of X
    times: Callable[[Tensor], Tensor]  # X V, of V (d, k) float64
    # |X| V, or more at each place, for V of no negative number; None where |X| has to be made
    absolute: Callable[[Tensor], Tensor] | None = None

    def lengths_above(self, vectors: Tensor, around: float = 0.0) -> Tensor:
        """||S^-1 v||, (...) float64, never below the truth.

        Args:
            vectors: v, (..., d) float64.
            around: An l2 distance; the bound holds for all vectors as near to v.
        """
        flat = vectors.flatten(0, -2)
        error = rounding(flat)
        left = 1 - 4 * error * self.norm * self.scale
        moved = 2 * error * flat.norm(dim=1) + around
        found = self.times(flat.mT).norm(dim=0) * (1 + error) + self.norm * moved
        return torch.where(left > _FELT, found / left, torch.inf).unflatten(0, vectors.shape[:-1])


@dataclass(frozen=True, eq=False)
class Noise(ABC):
    """The noise eps = S z, z ~ N(0, I_d), of each of B images.

    The scale S is held in the precision that samples are drawn in; every size is computed in
    float64 from exactly those numbers. A structure is one class: what is asked about it are its
    methods, and its class is an entry of `NOISES`.

    Attributes:
        scale: S of each image; its shape is the structure's, with a leading axis of B images.
        event_shape: Shape of one image, d elements.
    """

    scale: Tensor
    event_shape: tuple[int, ...]

    kinds: ClassVar[tuple[str, ...]]  # the names under which scales of this structure are stored
    is_diagonal: ClassVar[bool] = False  # whether S acts on each element by itself

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
        """S z, (B, n, *event) as z is: the noise made from standard normal samples."""

    @abstractmethod
    def pack(self) -> list[Packed]:
        """The scale of each image, under one of `kinds`; B of them."""

    @classmethod
    @abstractmethod
    def unpack(cls, one: Packed, event_shape: tuple[int, ...]) -> "Noise":
        """The noise of one image that `pack` has packed, on the CPU.

        Raises:
            ValueError: If the numbers are too many or too few for the image.
        """

    @abstractmethod
    def mahalanobis(self, delta: Tensor) -> Tensor:
        """||S^-1 delta||, (B,) float64: the radius at which x + delta lies, delta (B, *event)."""

    @abstractmethod
    def adjoint(self, w: Tensor) -> Tensor:
        """S^T w, (B, n, *event) as w is, in the precision of the scale."""

    def support(self, direction: Tensor) -> Tensor:
        """||S^T w||, (B,) float64, the support function of {S u : ||u|| <= 1} at w (B, *event)."""
        flat = self._flat64(direction).view(-1, 1, *self.event_shape)
        return self.double().adjoint(flat).flatten(1).norm(dim=1)

    @abstractmethod
    def variances(self) -> Tensor:
        """Diagonal of S S^T, (B, d) float64: the variance of each element of the noise."""

    @abstractmethod
    def covariance(self) -> Tensor:
        """S S^T as a dense matrix, (B, d, d) float64; for tests and small d."""

    @property
    @abstractmethod
    def axes(self) -> Tensor:
        """Singular values of S, (B, d) float64, ascending: standard deviations along the axes."""

    @cached_property
    def axes_below(self) -> Tensor:
        """Lower bounds of the axes, (B, d): themselves where they are read off the scale."""
        return self.axes

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

    def repeated(self, count: int) -> Self:
        """The noise of one image for so many, with what is known of its axes."""
        if len(self) != 1:
            raise ValueError(f"wanted the noise of one image, got that of {len(self)}")
        made = replace(self, scale=self.scale.expand(count, *self.scale.shape[1:]))
        known = {"extremes": Extremes(*(one.expand(count) for one in self.extremes))}
        vars(made).update(known, is_lower=self.is_lower)
        return made

    def double(self) -> Self:
        """The same noise with its numbers held in float64."""
        return replace(self, scale=self.scale.double())

    @cached_property
    def is_lower(self) -> bool:
        """Whether S is lower triangular."""
        return self.is_diagonal

    @abstractmethod
    def lower(self) -> "Noise":
        """The same noise with a lower triangular scale of positive diagonal."""

    def whitening(self, row: int) -> Tensor:
        """A matrix A of the image of a row with ||A^T delta|| = ||S^-1 delta||.

        It is (d, d) float64, its longest columns first, or its diagonal (d,) where that is all.
        """
        own = self[row : row + 1]
        if self.is_diagonal:
            return own.variances()[0].rsqrt()
        return whitening(own.covariance()[0])

    def axes_of_pixels(self) -> Tensor:
        """Standard deviation of each element, (B, d) float64, of a diagonal noise."""
        return self._flat64(self.scale)

    @cached_property
    def frobenius(self) -> Tensor:
        """||S||_F, at least, (B,) float64."""
        return self.variances().sum(1).sqrt()

    def colour_of(self, owners: Tensor, vectors: Tensor) -> Tensor:
        """S u of many vectors, each with the scale of the image that owns it.

        Args:
            owners: Row of an image, (m,) int64.
            vectors: u, (m, d), float32 or float64; all is computed in its precision.
        """
        return self._of(owners, vectors, adjoint=False)

    def adjoint_of(self, owners: Tensor, vectors: Tensor) -> Tensor:
        """S^T w of many vectors; see `colour_of`."""
        return self._of(owners, vectors, adjoint=True)

    def _of(self, owners: Tensor, vectors: Tensor, adjoint: bool) -> Tensor:
        """Has each image act on its vectors, dense scales in one matrix product each."""
        if self.is_diagonal:
            own = replace(self, scale=self.scale[owners].to(vectors.dtype))
            batch = vectors.view(-1, 1, *self.event_shape)
            return (own.adjoint(batch) if adjoint else own.colour(batch)).flatten(1)
        found = torch.empty_like(vectors)
        order = owners.argsort(stable=True)
        counts = torch.bincount(owners, minlength=len(self)).tolist()
        for own, part in zip(self.each, order.split(counts), strict=True):
            if len(part):
                own = own.double() if vectors.dtype == torch.float64 else own
                batch = vectors[part].view(1, -1, *self.event_shape)
                found[part] = (own.adjoint(batch) if adjoint else own.colour(batch)).flatten(2)[0]
        return found

    @cached_property
    def each(self) -> list[Self]:
        """The noise of each image by itself, with what it has computed."""
        return [self[row : row + 1] for row in range(len(self))]

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
    def extremes(self) -> Extremes:
        """See `Extremes`."""
        logdet, most = self.axes_below.log().sum(-1), self.axes[:, -1]
        return Extremes(self.axes_below[:, 0], most, most, logdet)

    @property
    def logdet(self) -> Tensor:
        """log |det S|, (B,) float64, from lower bounds of the axes."""
        return self.extremes.logdet

    @property
    def min_axis(self) -> Tensor:
        """Smallest axis, (B,) float64; never above the true value."""
        return self.extremes.least

    @property
    def max_axis(self) -> Tensor:
        """Largest axis, (B,) float64, to within rounding errors."""
        return torch.maximum(self.extremes.most, self.mean_axis)  # equal axes

    @cached_property
    def mean_axis(self) -> Tensor:
        """exp(logdet / d), the geometric mean of the axes, (B,) float64; never above the truth."""
        below = (self.logdet / self.dimension).exp() * (1 - _MARGIN)
        return torch.maximum(below, self.min_axis)  # equal axes: no rounding error at all

    def section(self, basis: Tensor) -> Tensor:
        """Geometric mean of the axes of the section with a subspace, (B,) float64.

        The section of {S u : ||u|| <= 1} with the subspace of V is an ellipsoid of k dimensions,
        whose axes have the geometric mean exp(-log det(V^T (S S^T)^-1 V) / 2k). Never above the
        truth; where the subspace is everything, the mean axis to within rounding errors.

        Args:
            basis: V, (d, k) float64, orthonormal columns, on the device of the scale.
        """
        return self.sections(basis, (basis.shape[1],))[0]

    def sections(self, basis: Tensor, sizes: Sequence[int]) -> Tensor:
        """As `section`, for the subspaces of the first k columns, k in `sizes`: (len(sizes), B).

        With X of `inverse` and X V = Q R they are the means of |R_ii|^-1. A product with a factor
        I + F moves no logarithm of a mean by more than -log(1 - ||F||), an error E of X V by
        ||E|| mean(1 / s_i), s_i its singular values, none below 1 / max axis. Product and QR
        account for ||E|| <= u (||X|| ||V|| + ||X V||), u and F as in `Inverse`. What is returned
        is lower by twice the sum; and no section is below the smallest axis.
        """
        shape = (self.dimension, max(sizes, default=0))
        if min(sizes, default=0) < 1 or basis.ndim != 2 or basis.shape[0] != shape[0]:
            raise ValueError(
                f"a basis must be (d, k) = ({shape[0]}, k) with k of at least 1, got "
                f"{tuple(basis.shape)} and sizes {list(sizes)}"
            )
        found, basis, error = [], basis[:, : shape[1]], rounding(basis.mT)
        for row, widest in enumerate(self.extremes.bound):
            inverse = self.inverse(row)
            whitened = inverse.times(basis)
            root = linalg.qr(whitened, mode="r").R.diagonal().abs()
            lost = 2 * inverse.norm * inverse.scale
            lost += (inverse.norm * basis.norm() + whitened.norm()) * widest
            left = (1 - 2 * error * lost) * (1 - _MARGIN)
            means = torch.stack([(-root[:k].log().mean()).exp() for k in sizes])
            found.append(torch.where(left > _FELT, means * left, 0.0))
        return torch.maximum(torch.stack(found, 1), self.min_axis)

    @abstractmethod
    def inverse(self, row: int) -> Inverse:
        """S^-1 of the image of a row, up to a rotation; see `Inverse`."""

    def _flat64(self, images: Tensor) -> Tensor:
        """(B, *event) as (B, d) float64."""
        if tuple(images.shape) != (len(self), *self.event_shape):
            raise ValueError(
                f"wanted shape {(len(self), *self.event_shape)}, got {tuple(images.shape)}"
            )
        return images.flatten(1).double()


def whitening(covariance: Tensor) -> Tensor:
    """A with ||A^T delta|| = ||S^-1 delta||, from S S^T (..., d, d) float64.

    Few images are near along its first columns.
    """
    if covariance.is_cuda:  # where eigenvalues are dear and products cheap
        lower, failed = linalg.cholesky_ex(covariance)
        if not bool(failed.any()):
            return whitening_of_factor(lower)[0]
    variances, frame = linalg.eigh(covariance)
    return frame / above_rounding(variances).sqrt().unsqueeze(-2)


def whitening_of_factor(lower: Tensor) -> tuple[Tensor, Tensor]:
    """L^-T with its longest columns first, and what order these had, from L L^T = S S^T."""
    columns = lower_inverse(lower).mT
    order = columns.norm(dim=-2).argsort(descending=True)
    return columns.gather(-1, order.unsqueeze(-2).expand_as(columns)), order


def right_axes(scale: Tensor) -> tuple[Tensor, Tensor]:
    """Axes of S (..., d, d) float64, ascending, and F with S^T S = F diag(axes^2) F^T.

    S F f(axes) F^T has other axes and turns nothing; none is below what rounding tells from 0.
    """
    squares, frame = linalg.eigh(scale.mT @ scale)
    return above_rounding(squares).sqrt(), frame


def above_rounding(variances: Tensor) -> Tensor:
    """Eigenvalues (..., d) of a covariance, ascending, none below what rounding tells from 0."""
    eps = torch.finfo(variances.dtype).eps
    return torch.maximum(variances, variances[..., -1:] * eps * variances.shape[-1])

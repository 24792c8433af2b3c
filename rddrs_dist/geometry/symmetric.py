"""Functions of symmetric matrices, by eigenvalues and, for GPUs, by matrix products alone.

An eigendecomposition is slow on a GPU and waits for the host; products are neither.
"""

from collections.abc import Callable

import torch
from torch import Tensor, linalg

# Coefficients of x, x^3 and x^5: a slope of 3.4 at 0, and [0.7, 1.2] ever after. Jordan et al.
# 2024, Muon: an optimizer for hidden layers in neural networks.
_STRETCH = (3.4445, -4.7750, 2.0315)
# Each stretch brings eigenvalues a third as large to 1 as the one before: as many as what comes of
# it has use for, which ends as single precision.
_STRETCHES, _POLISHES = {torch.float32: 8, torch.float64: 12}, 5
_TINY = 1e-30
# More than rounding takes from the smallest eigenvalue of a Gram matrix, as a share of its trace.
_SHIFT = 1e-14


def sym(matrix: Tensor) -> Tensor:
    """Symmetric part of (..., d, d), (M + M^T) / 2."""
    return (matrix + matrix.mT) / 2


def eye(size: int, like: Tensor) -> Tensor:
    """The identity, (size, size), of a tensor's kind and device."""
    return torch.eye(size, dtype=like.dtype, device=like.device)


def trace(matrix: Tensor) -> Tensor:
    """(...) from (..., d, d)."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def lower_inverse(lower: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix L (..., d, d), lower triangular too."""
    one = eye(lower.shape[-1], lower).expand_as(lower)
    return linalg.solve_triangular(lower, one, upper=False)


def from_eigen(eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """U diag(l) U^T, (..., d, d), from l (..., d) and orthonormal columns U (..., d, d)."""
    return (eigenvectors * eigenvalues.unsqueeze(-2)) @ eigenvectors.mT  # (..., d, d)


def apply(function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    """A scalar function of the eigenvalues of a symmetric matrix (..., d, d), U f(l) U^T.

    Not for differentiation: the gradient of `eigh` is not finite where eigenvalues coincide.
    """
    eigenvalues, eigenvectors = linalg.eigh(matrix)
    return from_eigen(function(eigenvalues), eigenvectors)


def sign(matrix: Tensor) -> Tensor:
    """Replaces each eigenvalue of A (B, d, d), symmetric, by its sign, through odd polynomials.

    Newton-Schulz steps X <- (3 X - X^3) / 2, after steeper ones. Eigenvalues below 1e-4 of the
    norm, or 1e-6 in float64, end between -1 and 1. What is built from |A| = A sign(A) does not
    suffer: there they are next to nothing.
    """
    found = matrix / (linalg.matrix_norm(matrix)[:, None, None] + _TINY)
    first, third, fifth = _STRETCH
    for _ in range(_STRETCHES[matrix.dtype]):
        square = found @ found
        inner = torch.baddbmm(square, square, square, beta=third, alpha=fifth)
        found = torch.baddbmm(found, found, inner, beta=first)
    for _ in range(_POLISHES):
        found = torch.baddbmm(found, found, found @ found, beta=1.5, alpha=-0.5)
    return found


def raised(matrix: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues below a floor f (B, 1, 1) raised to it, max(C, f), and N, by how much they were.

    N = max(C, f) - C = (|C - f| - (C - f)) / 2 for C (B, d, d), symmetric, its eigenvalues not
    below -f / 2. The signs are those of (C - f) (C + f)^-1 = I - 2 f (C + f)^-1, which lies
    between -1 and 1: however large some eigenvalues are, those near the floor are told apart.
    """
    one = eye(matrix.shape[-1], matrix)
    inverse = lower_inverse(linalg.cholesky_ex(matrix + floor * one).L)
    signs = sign(one - 2 * floor * (inverse.mT @ inverse))
    above = matrix - floor * one
    negative = sym(above @ signs - above) / 2
    return matrix + negative, negative


def absolute(matrix: Tensor) -> Tensor:
    """Replaces each eigenvalue of a symmetric matrix (B, d, d) by its modulus."""
    return matrix @ sign(matrix)


def expm(matrix: Tensor, squarings: int = 0) -> Tensor:
    """Exponential by its Taylor series of degree 8, of (B, d, d) of a norm below 2^squarings.

    The error is below norm^9 / 9!, relative to an end of the same norm, for the norm of the matrix
    over 2^squarings, and doubles with every squaring.
    """
    part = matrix / 2**squarings
    one = found = eye(matrix.shape[-1], matrix).expand_as(part)
    for k in range(8, 0, -1):
        found = torch.baddbmm(one, part, found, alpha=1 / k)
    for _ in range(squarings):
        found = found @ found
    return found


def orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis of the span of columns.

    On a GPU, where Householder's QR takes longer than the products of a whole step, from Cholesky
    factors in float64, of which the second mends what the first leaves. What a column adds to the
    span may be as little as single precision can tell; one that adds nothing ends shorter than 1.

    Args:
        columns: (..., d, k), k <= d.

    References:
        Fukaya, Kannan, Nakatsukasa, Yamamoto, Yanagisawa 2020, Shifted Cholesky QR for computing
        the QR factorization of ill-conditioned matrices.
    """
    if columns.device.type == "cpu":
        return linalg.qr(columns).Q
    return cholesky_basis(columns)


def cholesky_basis(columns: Tensor) -> Tensor:
    """See `orthonormal`; for a device of any kind."""
    found = columns.double()
    one = eye(columns.shape[-1], found)
    for _ in range(2):
        gram = found.mT @ found  # (..., k, k)
        shift = _SHIFT * trace(gram)[..., None, None] + _TINY
        lower = linalg.cholesky_ex(gram + shift * one).L
        # The inverse of a small factor, and one product, instead of solving for all rows.
        found = found @ lower_inverse(lower).mT
    return found.to(columns.dtype)

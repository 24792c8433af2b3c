"""Symmetric matrices: symmetric part, functions of a matrix through its eigenvalues."""

from collections.abc import Callable

import torch
from torch import Tensor, linalg


def check_square(name: str, matrix: Tensor) -> None:
    """Refuses anything but a batch of square matrices.

    Raises:
        ValueError: If `matrix` is not of shape (..., d, d).
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"{name} must have shape (..., d, d), got {tuple(matrix.shape)}")


def sym(matrix: Tensor) -> Tensor:
    """Symmetric part, (M + M^T) / 2.

    Args:
        matrix: (..., d, d).
    """
    check_square("matrix", matrix)
    return (matrix + matrix.mT) / 2


def eye(size: int, like: Tensor) -> Tensor:
    """The identity, (size, size), of a tensor's kind and device."""
    return torch.eye(size, dtype=like.dtype, device=like.device)


def lower_inverse(lower: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix L (..., d, d), lower triangular too."""
    one = eye(lower.shape[-1], lower).expand_as(lower)
    return linalg.solve_triangular(lower, one, upper=False)


def from_eigen(eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """The symmetric matrix U diag(l) U^T.

    Args:
        eigenvalues: (..., d).
        eigenvectors: (..., d, d), orthonormal columns.
    """
    return (eigenvectors * eigenvalues.unsqueeze(-2)) @ eigenvectors.mT  # (..., d, d)


def apply(function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
    """A scalar function of a symmetric matrix, U f(l) U^T.

    Not for differentiation: the gradient of `eigh` is not finite where eigenvalues coincide.

    Args:
        function: Acts elementwise on eigenvalues (..., d).
        matrix: (..., d, d), symmetric; only its lower triangle is read.
    """
    check_square("matrix", matrix)
    eigenvalues, eigenvectors = linalg.eigh(matrix)
    return from_eigen(function(eigenvalues), eigenvectors)

"""Bounds of the largest and the smallest singular value, by matrix products alone.

A GPU takes as long for the singular values of one matrix as for hundreds of products.
"""

import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.symmetric import eye, lower_inverse

# The bounds are then apart by a share of log(d) / 2^36, and by rounding errors.
_SQUARINGS = 34
# Above this what an inverse leaves of the identity is no longer small.
_RESIDUAL = 0.5
_TINY = 1e-300


def norm_bounds(matrix: Tensor, squarings: int = _SQUARINGS) -> tuple[Tensor, Tensor]:
    """A lower and an upper bound of the largest singular value, (...) each.

    ||A||^2 = ||A^T A||, and so on: after k squarings the Frobenius norm, at most sqrt(d) as
    large as the one sought, gives it to within a share of log(d) / 2^(k + 2). Each product is off
    by no more than c d eps in the Frobenius norm (Higham 2002, section 3.5), which the bounds
    take in on the way back. Where axes are equal, norms of rows and columns may be nearer.

    Args:
        matrix: A, (..., d, d) float64.
        squarings: k; fewer take less time and leave the bounds further apart.
    """
    error = rounding(matrix)
    found, sizes = matrix, []
    for _ in range(squarings + 1):
        norm = linalg.matrix_norm(found).clamp_min(_TINY)
        sizes.append(norm)
        found = found / norm[..., None, None]
        found = found.mT @ found
    high = linalg.matrix_norm(found) + error
    low = (high - 2 * error) / matrix.shape[-1] ** 0.5
    for norm in reversed(sizes):
        # The square of what had a norm of one, and one product between them.
        high = (high + error).sqrt() * norm * (1 + error)
        low = (low - error).clamp_min(0).sqrt() * norm * (1 - error)
    rows, columns = (matrix.abs().sum(axis).amax(-1) for axis in (-1, -2))
    longest = matrix.norm(dim=-2).amax(-1)
    high = torch.minimum(high, (rows * columns).sqrt() * (1 + error))
    return torch.maximum(low, longest * (1 - error)), high


def least_bound(lower: Tensor) -> Tensor:
    """A lower bound of the smallest singular value of L (..., d, d) float64, lower triangular.

    With any X near L^-1, ||L^-1|| <= ||X|| / (1 - ||L X - I||); 0 where rounding leaves nothing.
    """
    inverse, error = lower_inverse(lower), rounding(lower)
    residual = linalg.matrix_norm(lower @ inverse - eye(lower.shape[-1], lower))
    residual = residual * (1 + error) + error * linalg.matrix_norm(lower.abs() @ inverse.abs())
    known = (1 - residual) / norm_bounds(inverse)[1]
    return torch.where(residual < _RESIDUAL, known, 0.0) * (1 - error)


def rounding(matrix: Tensor) -> float:
    """(d + 8) eps: what a product in float64 may be off by, as a share of its terms."""
    return (matrix.shape[-1] + 8) * torch.finfo(torch.float64).eps

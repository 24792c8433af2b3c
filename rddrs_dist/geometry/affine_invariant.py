"""Gradient steps under the affine-invariant metric on SPD matrices, <U, V>_P = tr(P^-1 U P^-1 V).

A step goes through a factor L of the point P = L L^T. In the frame of the factor, the tangent
vector V is L^-1 V L^-T, the metric is the Frobenius product and geodesics are matrix exponentials.

References:
    Pennec, Fillard, Ayache 2006, A Riemannian framework for tensor computing, section 3.
    Labarbarie, Hajri, Arnaudon 2022 (arXiv 2206.10235), section 3.2.
"""

import torch
from torch import Tensor

from rddrs_dist.geometry import products
from rddrs_dist.geometry.symmetric import apply, check_square, sym

# For velocities of a norm up to 2^8: the end of a longer step is beyond single precision.
_SQUARINGS = 8


def whiten(factor: Tensor, gradient: Tensor) -> Tensor:
    """The gradient step's velocity M = L^T G L in the frame of P = L L^T: L M L^T = P G P.

    Args:
        factor: L, (..., d, d), any square factor of the point.
        gradient: G, (..., d, d), the symmetric Euclidean gradient.
    """
    if gradient.shape != factor.shape:
        raise ValueError(
            f"gradient must have the factor's shape {tuple(factor.shape)}, "
            f"got {tuple(gradient.shape)}"
        )
    return sym(factor.mT @ gradient @ factor)


def step(factor: Tensor, velocity: Tensor, length: float) -> Tensor:
    """A factor of Exp_P(length * L M L^T), the end of a geodesic from P = L L^T.

    Exp_P(L M L^T) = L expm(M) L^T = A A^T with A = L expm(M / 2): no inverse and no logarithm is
    needed. log det P moves by exactly length * tr(M).

    Args:
        factor: L, (..., d, d), any square factor of the point.
        velocity: M, (..., d, d), symmetric: the tangent vector in the frame of the factor.
        length: Step along the geodesic, dimensionless.

    Returns:
        A, (..., d, d), with A A^T the new point.
    """
    check_square("factor", factor)
    if velocity.is_cuda:  # where an eigendecomposition takes twenty times as long as this
        return factor @ products.expm(length / 2 * velocity, _SQUARINGS)
    return factor @ apply(lambda w: torch.exp(length / 2 * w), velocity)

"""The step of an ascent in log volume that narrows axes along which a class probability falls."""

import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.symmetric import absolute, expm, eye, sym, trace
from rddrs_dist.methods.ascent import trailing
from rddrs_dist.smoothing.curvature import Curvature

_TINY = 1e-30


def narrowed(scale: Tensor, seen: Curvature, damping: float, shrinkage: float) -> Tensor:
    """S (B, d, d) with shorter axes along which F falls.

    In units of the mean modulus of all d eigenvalues of W, an eigenvalue -l gives a step of
    l / (1 + l) times the shrinkage, in the logarithm, a positive one none.
    """
    curve = damped(seen.hessian, seen.gradients, damping)
    modulus = absolute(curve)
    unit = trace(modulus) / scale.shape[-1] + _TINY
    fall = (modulus - curve) / trailing(2 * unit, curve)
    one = eye(curve.shape[-1], curve)
    factor = expm(-shrinkage * sym(linalg.solve_ex(fall + one, fall).result)) - one
    return scale + (scale @ seen.basis) @ factor @ seen.basis.mT  # (B, d, k) @ (B, k, d)


def damped(hessian: Tensor, gradients: Tensor, damping: float) -> Tensor:
    """An estimate of W, (B, k, k), without what lies across the range of the gradients.

    W acts in that range, its Monte-Carlo noise does not.
    """
    one = eye(gradients.shape[-1], gradients)
    ridge = trailing(damping * linalg.matrix_norm(gradients) + _TINY, gradients) * one
    soft = linalg.solve_ex(gradients + ridge, gradients).result  # 1 where the gradients are
    return sym(soft @ hessian @ soft.mT)


def narrowed_pixelwise(
    axes: Tensor, hessian: Tensor, gradients: Tensor, damping: float, shrinkage: float
) -> Tensor:
    """The same of a diagonal S, (B, d), from the diagonals of W and of the gradients' moments."""
    ridge = damping * gradients.norm(dim=1, keepdim=True) + _TINY
    curve = hessian * (gradients / (gradients + ridge)) ** 2
    fall = -curve.clamp(max=0) / (curve.abs().mean(1, keepdim=True) + _TINY)
    return axes * torch.exp(-shrinkage * fall / (1 + fall))

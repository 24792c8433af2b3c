"""The step of an ascent in log volume that narrows axes along which a class probability falls."""

import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.symmetric import absolute, expm, eye, sym, trace
from rddrs_dist.methods.ascent import trailing
from rddrs_dist.smoothing.curvature import Curvature

_TINY = 1e-30


def narrowed(
    scale: Tensor, seen: Curvature, damping: float, shrinkage: float
) -> tuple[Tensor, Tensor]:
    """S (B, d, d) with shorter axes along which F falls, and the gain in log det, (B,).

    In units of the mean modulus of all d eigenvalues of W, an eigenvalue -l gives a step of
    l / (1 + l) times the shrinkage, in the logarithm, a positive one none.
    """
    step = _fall(scale, seen, damping)
    one = eye(step.shape[-1], step)
    factor = expm(-shrinkage * step) - one
    reshaped = scale + (scale @ seen.basis) @ factor @ seen.basis.mT  # (B, d, k) @ (B, k, d)
    return reshaped, -shrinkage * trace(step)


def _fall(scale: Tensor, seen: Curvature, damping: float) -> Tensor:
    """l / (1 + l) for -l those eigenvalues of W in units of their mean modulus, (B, k, k)."""
    curve = damped(seen.hessian, seen.gradients, damping)
    modulus = absolute(curve)
    unit = trace(modulus) / scale.shape[-1] + _TINY
    fall = (modulus - curve) / trailing(2 * unit, curve)
    return sym(linalg.solve_ex(fall + eye(curve.shape[-1], curve), fall).result)


def narrowed_to(
    scale: Tensor, seen: Curvature, damping: float, shrinkage: float, floor: Tensor
) -> tuple[Tensor, Tensor]:
    """As `narrowed`, with no direction that becomes shorter than a floor (B,)."""
    fall = _fall(scale, seen, damping)
    values, frame = linalg.eigh(fall.nan_to_num())
    axes = seen.basis @ frame  # (B, d, k)
    along = scale @ axes
    room = trailing(floor, values) / along.norm(dim=1)
    factor = torch.maximum(torch.exp(-shrinkage * values), room).clamp(max=1)
    found = scale + (along * (factor - 1).unsqueeze(1)) @ axes.mT
    found = found + trailing(0 * fall.sum((1, 2)), found)  # what is not finite stays so
    return found, factor.log().sum(1)


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

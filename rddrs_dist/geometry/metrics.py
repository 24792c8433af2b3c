"""Gradient steps under metrics on SPD matrices: the affine-invariant one, and geomstats' own.

This is the one module that imports geomstats, and it does so on first use: with its pytorch
backend that import would set torch's default dtype to float64 for the whole process. The numpy
backend, used here, leaves torch alone.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from rddrs_dist.geometry.symmetric import apply, expm, sym

Metric = Literal["affine-invariant", "log-euclidean", "bures-wasserstein"]
# For velocities of a norm up to 2^8: the end of a longer step is beyond single precision.
_SQUARINGS = 8


def whiten(factor: Tensor, gradient: Tensor) -> Tensor:
    """The affine-invariant velocity M = L^T G L in the frame of P = L L^T: L M L^T = P G P.

    In that frame the tangent vector V is L^-1 V L^-T, the metric <U, V>_P = tr(P^-1 U P^-1 V) is
    the Frobenius product and geodesics are matrix exponentials.

    Args:
        factor: L, (B, d, d), any square factor of the point.
        gradient: G, (B, d, d), the symmetric Euclidean gradient.

    References:
        Pennec, Fillard, Ayache 2006, A Riemannian framework for tensor computing, section 3.
        Labarbarie, Hajri, Arnaudon 2022 (arXiv 2206.10235), section 3.2.
    """
    return sym(factor.mT @ gradient @ factor)


def factored_step(factor: Tensor, velocity: Tensor, length: float) -> Tensor:
    """A factor of Exp_P(length * L M L^T), the end of an affine-invariant geodesic from P = L L^T.

    Exp_P(L M L^T) = L expm(M) L^T = A A^T with A = L expm(M / 2), for any square factor L of the
    point: no inverse and no logarithm is needed. log det P moves by exactly length * tr(M).
    """
    if velocity.is_cuda:  # where an eigendecomposition takes twenty times as long as this
        return factor @ expm(length / 2 * velocity, _SQUARINGS)
    return factor @ apply(lambda w: torch.exp(length / 2 * w), velocity)


@cache
def space(metric: Metric, dimension: int) -> Any:
    """The SPD manifold of geomstats with one of its metrics."""
    os.environ["GEOMSTATS_BACKEND"] = "numpy"
    from geomstats.geometry import spd_matrices as spd

    if spd.gs.__name__ != "geomstats.numpy":
        raise ValueError(
            f"geomstats must run on its numpy backend, got {spd.gs.__name__}; "
            "unset GEOMSTATS_BACKEND, or import rddrs_dist.geometry.metrics first"
        )
    classes = {
        "affine-invariant": spd.SPDAffineMetric,
        "log-euclidean": spd.SPDLogEuclideanMetric,
        "bures-wasserstein": spd.SPDBuresWassersteinMetric,
    }
    manifold = spd.SPDMatrices(dimension, equip=False)
    manifold.equip_with_metric(classes[metric])
    return manifold


def _log_euclidean_gradient(manifold, point, gradient):
    """D(D(G)) with D the differential of exp at log P, which is self-adjoint."""
    logarithm = manifold.metric.diffeo
    once = logarithm.inverse_tangent(gradient, base_point=point)
    return logarithm.inverse_tangent(once, base_point=point)


_GRADIENTS: dict[str, Callable] = {
    "affine-invariant": lambda _, point, gradient: point @ gradient @ point,
    "log-euclidean": _log_euclidean_gradient,
    # geomstats' metric is <U, V>_P = tr(L U) / 2 with L P + P L = V.
    "bures-wasserstein": lambda _, point, gradient: 2 * (point @ gradient + gradient @ point),
}


def step(metric: Metric, point: Tensor, gradient: Tensor, length: float) -> Tensor:
    """Exp_P(length * grad) with the exponential and the gradient of one metric of geomstats.

    Args:
        metric: Name of the metric.
        point: P, (B, d, d), SPD.
        gradient: G, (B, d, d), the symmetric Euclidean gradient.
        length: Step along the geodesic, dimensionless.

    Returns:
        (B, d, d), the new point; it may be singular under Bures-Wasserstein, not complete.
    """
    manifold = space(metric, point.shape[-1])
    base, slope = (t.detach().double().cpu().numpy() for t in (point, gradient))
    velocity = _GRADIENTS[metric](manifold, base, slope)
    end = manifold.metric.exp(length * velocity, base)
    return torch.from_numpy(end).to(point)

"""Gradient steps under other metrics on SPD matrices, through geomstats.

This is the one module that imports geomstats, and it does so on first use: with its pytorch
backend that import would set torch's default dtype to float64 for the whole process. The numpy
backend, used here, leaves torch alone.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rddrs_dist.geometry.symmetric import check_square

Metric = Literal["affine-invariant", "log-euclidean", "bures-wasserstein"]


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


def _affine_gradient(_manifold, point, gradient):
    """P G P."""
    return point @ gradient @ point


def _log_euclidean_gradient(manifold, point, gradient):
    """D(D(G)) with D the differential of exp at log P, which is self-adjoint."""
    logarithm = manifold.metric.diffeo
    once = logarithm.inverse_tangent(gradient, base_point=point)
    return logarithm.inverse_tangent(once, base_point=point)


def _bures_gradient(_manifold, point, gradient):
    """2 (P G + G P): geomstats' metric is <U, V>_P = tr(L U) / 2 with L P + P L = V."""
    return 2 * (point @ gradient + gradient @ point)


_GRADIENTS: dict[str, Callable] = {
    "affine-invariant": _affine_gradient,
    "log-euclidean": _log_euclidean_gradient,
    "bures-wasserstein": _bures_gradient,
}


def step(metric: Metric, point: Tensor, gradient: Tensor, length: float) -> Tensor:
    """Exp_P(length * grad) with the exponential and the gradient of one metric.

    Args:
        metric: Name of the metric.
        point: P, (B, d, d), SPD.
        gradient: G, (B, d, d), the symmetric Euclidean gradient.
        length: Step along the geodesic, dimensionless.

    Returns:
        (B, d, d), the new point; it may be singular under Bures-Wasserstein, not complete.

    Raises:
        ValueError: If the metric is unknown or a shape is wrong.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    check_square("point", point)
    manifold = space(metric, point.shape[-1])
    base, slope = (t.detach().double().cpu().numpy() for t in (point, gradient))
    velocity = _GRADIENTS[metric](manifold, base, slope)
    end = manifold.metric.exp(length * velocity, base)
    return torch.from_numpy(end).to(point)

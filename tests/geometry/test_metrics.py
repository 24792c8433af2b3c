"""Steps under metrics on SPD matrices, with geomstats as the oracle."""

import subprocess
import sys
from typing import get_args

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.geometry import metrics
from tests.oracles import random_spd, random_symmetric

P, G, V = random_spd(3, 6, seed=0), random_symmetric(3, 6, seed=2), random_symmetric(3, 6, seed=3)
LOWER = linalg.cholesky(P)
FACTORS = {"lower": LOWER, "full": LOWER @ linalg.qr(random_symmetric(3, 6, seed=5)).Q}
factors = pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS.keys())


def factored(factor: Tensor, length: float, gradient: Tensor = G) -> Tensor:
    """Where an affine-invariant step along the gradient ends."""
    end = metrics.factored_step(factor, metrics.whiten(factor, gradient), length)
    return end @ end.mT


STEPS = {
    **{
        name: (name, lambda t, name=name: metrics.step(name, P, G, t))
        for name in get_args(metrics.Metric)
    },
    **{
        name: ("affine-invariant", lambda t, factor=factor: factored(factor, t))
        for name, factor in FACTORS.items()
    },
}


@pytest.mark.parametrize(("metric", "step"), STEPS.values(), ids=STEPS.keys())
def test_a_step_starts_along_the_riemannian_gradient(metric, step):
    """Its velocity W has <W, V>_P = tr(G V) for every V, so that tr(G P) grows by <W, W>_P."""
    velocity = (step(1e-6) - step(-1e-6)) / 2e-6
    for direction in (V, velocity):
        found = metrics.space(metric, 6).metric.inner_product(
            velocity.numpy(), direction.numpy(), P.numpy()
        )
        slope = (G * direction).sum((1, 2))
        torch.testing.assert_close(torch.tensor(found), slope, rtol=1e-6, atol=1e-6)


@factors
@pytest.mark.parametrize("length", [0.1, 1.0])
def test_a_factored_step_ends_where_geomstats_does(factor, length):
    found = factored(factor, length)
    reference = metrics.step("affine-invariant", P, G, length)
    torch.testing.assert_close(found, reference, rtol=1e-8, atol=1e-8)
    # A geodesic is as long as its velocity.
    far = length * linalg.matrix_norm(metrics.whiten(factor, G))
    distance = metrics.space("affine-invariant", 6).metric.dist(P.numpy(), found.numpy())
    torch.testing.assert_close(torch.tensor(distance), far)


def test_factored_steps_follow_a_change_of_coordinates():
    """P -> a P a^T takes G to a^-T G a^-1 and the end with it."""
    a = random_symmetric(3, 6, seed=4) + 3 * torch.eye(6)
    found = factored(a @ LOWER, 0.3, linalg.inv(a).mT @ G @ linalg.inv(a))
    torch.testing.assert_close(found, a @ factored(LOWER, 0.3) @ a.mT)


def test_log_det_moves_by_the_trace():
    moved = linalg.slogdet(factored(LOWER, 0.3)).logabsdet - linalg.slogdet(P).logabsdet
    for matrix in (metrics.whiten(LOWER, G), P @ G):
        torch.testing.assert_close(moved, 0.3 * matrix.diagonal(dim1=1, dim2=2).sum(1))


def test_the_science_imports_no_heavy_library_and_geomstats_leaves_the_default_dtype_alone():
    code = """if True:
        import sys, torch, rddrs_dist
        print([m for m in ("ray", "geomstats", "matplotlib") if m in sys.modules])
        from rddrs_dist.geometry import metrics
        metrics.space("log-euclidean", 2)
        print(torch.get_default_dtype())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "torch.float32"]

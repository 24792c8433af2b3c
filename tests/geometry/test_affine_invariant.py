"""Steps under the affine-invariant metric, with geomstats as the oracle."""

from typing import Any

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.geometry import affine_invariant as ai
from rddrs_dist.geometry import metrics
from tests.oracles import random_spd, random_symmetric

P, G, V = random_spd(3, 6, seed=0), random_symmetric(3, 6, seed=2), random_symmetric(3, 6, seed=3)
LOWER = linalg.cholesky(P)
FACTORS = [LOWER, LOWER @ linalg.qr(random_symmetric(3, 6, seed=5)).Q]
factors = pytest.mark.parametrize("factor", FACTORS, ids=["lower", "full"])


@pytest.fixture(scope="module")
def geomstats() -> Any:
    """The metric; its import takes a second."""
    return metrics.space("affine-invariant", 6).metric


def end_of_step(factor: Tensor, length: float, gradient: Tensor = G) -> Tensor:
    """Where a step along the gradient ends."""
    end = ai.step(factor, ai.whiten(factor, gradient), length)
    return end @ end.mT


@factors
@pytest.mark.parametrize("length", [0.1, 1.0])
def test_a_step_ends_where_geomstats_does_for_any_factor(geomstats, factor, length):
    """Exp_P(s P G P) = A A^T."""
    reference = torch.from_numpy(geomstats.exp((length * P @ G @ P).numpy(), P.numpy()))
    found = end_of_step(factor, length)
    torch.testing.assert_close(found, reference, rtol=1e-8, atol=1e-8)
    # A geodesic is as long as its velocity.
    far = length * linalg.matrix_norm(ai.whiten(factor, G))
    torch.testing.assert_close(torch.tensor(geomstats.dist(P.numpy(), found.numpy())), far)


@factors
def test_the_velocity_is_that_of_the_riemannian_gradient(geomstats, factor):
    """<L M L^T, V>_P = tr(G V) for every V."""
    velocity = factor @ ai.whiten(factor, G) @ factor.mT
    inner = geomstats.inner_product(velocity.numpy(), V.numpy(), P.numpy())
    torch.testing.assert_close(torch.tensor(inner), (G * V).sum((1, 2)))


def test_steps_follow_a_change_of_coordinates():
    """P -> a P a^T takes G to a^-T G a^-1 and the end with it."""
    a = random_symmetric(3, 6, seed=4) + 3 * torch.eye(6)
    gradient = linalg.inv(a).mT @ G @ linalg.inv(a)
    found = end_of_step(a @ LOWER, 0.3, gradient)
    torch.testing.assert_close(found, a @ end_of_step(LOWER, 0.3) @ a.mT)


def test_log_det_moves_by_the_trace():
    moved = linalg.slogdet(end_of_step(LOWER, 0.3)).logabsdet - linalg.slogdet(P).logabsdet
    for matrix in (ai.whiten(LOWER, G), P @ G):
        torch.testing.assert_close(moved, 0.3 * matrix.diagonal(dim1=1, dim2=2).sum(1))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="gradient must have the factor's shape"):
        ai.whiten(P, G[:, :3, :3])
    with pytest.raises(ValueError, match="factor must have shape"):
        ai.step(P[:, :3], G, 1.0)

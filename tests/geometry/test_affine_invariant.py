"""The affine-invariant metric: invariances, inverses, and geomstats as the reference."""

import pytest
import torch
from torch import linalg

from rddrs_dist.geometry import affine_invariant as ai
from rddrs_dist.geometry import metrics
from tests.oracles import random_spd, random_symmetric

P, Q = random_spd(3, 6, seed=0), random_spd(3, 6, seed=1)
U, V = random_symmetric(3, 6, seed=2), random_symmetric(3, 6, seed=3)


def test_log_inverts_exp():
    torch.testing.assert_close(ai.log(P, ai.exp(P, V)), V)
    torch.testing.assert_close(ai.exp(P, ai.log(P, Q)), Q)


def test_distance_is_the_norm_of_the_logarithm():
    tangent = ai.log(P, Q)
    torch.testing.assert_close(ai.distance(P, Q) ** 2, ai.inner(P, tangent, tangent))


def test_distance_is_invariant_under_congruence_and_inversion():
    a = random_symmetric(3, 6, seed=4) + 3 * torch.eye(6)
    congruent = ai.distance(a @ P @ a.mT, a @ Q @ a.mT)
    inverted = ai.distance(linalg.inv(P), linalg.inv(Q))
    torch.testing.assert_close(congruent, ai.distance(P, Q))
    torch.testing.assert_close(inverted, ai.distance(P, Q))


def test_riemannian_gradient_represents_the_slope():
    torch.testing.assert_close(ai.inner(P, ai.egrad2rgrad(P, U), V), (U * V).sum((1, 2)))


@pytest.mark.parametrize("length", [0.1, 1.0])
def test_factored_step_is_the_exponential_of_geomstats(length):
    """Exp_P(s P G P) = A A^T, for any factor of P, to 1e-8."""
    rotation = linalg.qr(random_symmetric(3, 6, seed=5)).Q
    for factor in (linalg.cholesky(P), linalg.cholesky(P) @ rotation):
        end = ai.step(factor, ai.whiten(factor, U), length)
        reference = metrics.space("affine-invariant", 6).metric.exp(
            (length * ai.egrad2rgrad(P, U)).numpy(), P.numpy()
        )
        torch.testing.assert_close(end @ end.mT, torch.from_numpy(reference), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(
            end @ end.mT, ai.exp(P, length * ai.egrad2rgrad(P, U)), rtol=1e-8, atol=1e-8
        )


def test_log_det_moves_by_the_trace():
    factor = linalg.cholesky(P)
    velocity = ai.whiten(factor, U)
    end = ai.step(factor, velocity, 0.3)
    moved = linalg.slogdet(end @ end.mT).logabsdet - linalg.slogdet(P).logabsdet
    torch.testing.assert_close(moved, 0.3 * velocity.diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(moved, 0.3 * (P @ U).diagonal(dim1=1, dim2=2).sum(1))


def test_gradient_must_have_the_shape_of_the_factor():
    with pytest.raises(ValueError, match="gradient must have the factor's shape"):
        ai.whiten(P, U[:, :3, :3])

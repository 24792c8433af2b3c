"""The scale of RDDRS by matrix products, as on a GPU, against its eigendecomposition."""

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.methods.rddrs import _Scale
from tests.oracles import random_spd

D = 30
FLOOR = torch.tensor([[0.25], [0.4]], dtype=torch.float64)


def matrices(smallest: float, largest: float) -> Tensor:
    """SPD matrices (2, D, D) with eigenvalues in a range."""
    frame = linalg.qr(random_spd(2, D, 1)).Q
    return (frame * torch.linspace(smallest, largest, D, dtype=torch.float64)) @ frame.mT


@pytest.mark.parametrize(("smallest", "largest"), [(0.01, 3.0), (0.3999, 0.4001), (0.5, 9.0)])
def test_products_find_what_eigenvectors_do(smallest, largest):
    matrix = matrices(smallest, largest)
    wanted, found = _Scale.floored(matrix, FLOOR), _Scale._by_products(matrix, FLOOR)
    torch.testing.assert_close(found.matrix, wanted.matrix, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.factor @ found.factor.mT, wanted.matrix, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-9, atol=0)
    assert (linalg.eigvalsh(found.matrix)[:, :1] >= FLOOR * (1 - 1e-9)).all()


@pytest.mark.parametrize("largest", [0.39, 3.0])
def test_the_eigenvector_of_the_floor_is_one(largest):
    """L^T u / |L^T u| = a gives u = L a / |L a| times a length, and C u = K u."""
    found = _Scale._by_products(matrices(0.01, largest), FLOOR)
    torch.testing.assert_close(found.smallest, FLOOR[:, 0])
    direction = linalg.solve(found.factor.mT, found.along.unsqueeze(-1))
    torch.testing.assert_close(found.matrix @ direction, FLOOR.unsqueeze(-1) * direction)


def test_without_a_floor_the_smallest_eigenvalue_is_met_roughly():
    matrix = matrices(0.5, 9.0)
    found = _Scale._by_products(matrix, FLOOR)
    assert (found.smallest >= 0.5).all() and (found.smallest < 2).all()
    torch.testing.assert_close(found.along.norm(dim=1), torch.ones(2, dtype=torch.float64))

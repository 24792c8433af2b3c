"""Functions of symmetric matrices."""

import pytest
import torch

from rddrs_dist.geometry import symmetric
from tests.oracles import random_spd, random_symmetric


def test_functions_act_on_eigenvalues():
    matrix, spd = random_symmetric(4, 7, seed=0), random_spd(3, 5, seed=1)
    exponential = symmetric.apply(torch.exp, matrix)
    torch.testing.assert_close(exponential, torch.linalg.matrix_exp(matrix))
    root = symmetric.apply(torch.sqrt, spd)
    torch.testing.assert_close(root @ root, spd)


def test_the_inverse_of_a_triangle_is_one():
    lower = torch.linalg.cholesky(random_spd(3, 5, seed=1))
    found = symmetric.lower_inverse(lower)
    torch.testing.assert_close(found, torch.linalg.inv(lower))
    assert not found.triu(1).any()


def test_sym_is_the_symmetric_part():
    matrix = torch.arange(9.0).view(3, 3)
    torch.testing.assert_close(symmetric.sym(matrix), (matrix + matrix.T) / 2)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_only_square_matrices(shape):
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., d, d\), got"):
        symmetric.sym(torch.zeros(shape))

"""Functions of symmetric matrices."""

import pytest
import torch

from rddrs_dist.geometry import symmetric
from tests.oracles import random_spd, random_symmetric


def test_expm_agrees_with_torch_and_logm_inverts_it():
    matrix = random_symmetric(4, 7, seed=0)
    exponential = symmetric.expm(matrix)
    torch.testing.assert_close(exponential, torch.linalg.matrix_exp(matrix))
    torch.testing.assert_close(symmetric.logm(exponential), matrix)


def test_apply_acts_on_eigenvalues():
    spd = random_spd(3, 5, seed=1)
    root = symmetric.apply(torch.sqrt, spd)
    torch.testing.assert_close(root @ root, spd)


def test_sym_is_the_symmetric_part():
    matrix = torch.arange(9.0).view(3, 3)
    torch.testing.assert_close(symmetric.sym(matrix), (matrix + matrix.T) / 2)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_only_square_matrices(shape):
    with pytest.raises(ValueError, match=r"must have shape \(\.\.\., d, d\), got"):
        symmetric.sym(torch.zeros(shape))

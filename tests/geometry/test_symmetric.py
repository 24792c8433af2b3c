"""Functions of symmetric matrices, those by products against eigendecompositions in float64."""

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.geometry import symmetric
from rddrs_dist.geometry.symmetric import apply
from tests.oracles import normal, random_spd, random_symmetric, spread

FRAME = linalg.qr(random_symmetric(1, 40, 2)).Q


def with_values(*parts: Tensor) -> tuple[Tensor, Tensor]:
    """A symmetric matrix (1, 40, 40) with these eigenvalues, and them."""
    values = torch.cat(parts).double()
    return (FRAME * values) @ FRAME.mT, values


def test_functions_act_on_eigenvalues():
    matrix, spd = random_symmetric(4, 7, seed=0), random_spd(3, 5, seed=1)
    torch.testing.assert_close(apply(torch.exp, matrix), linalg.matrix_exp(matrix))
    root = apply(torch.sqrt, spd)
    torch.testing.assert_close(root @ root, spd)


@pytest.mark.parametrize("size", [1, 2, 7, 60])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 3e-6)])
def test_modulus_is_that_of_eigh(size, dtype, error):
    matrix = random_symmetric(3, size, 1)
    expected = apply(torch.abs, matrix)
    lost = linalg.matrix_norm(symmetric.absolute(matrix.to(dtype)).double() - expected)
    assert float(lost.max()) < error * float(linalg.matrix_norm(expected).max())


@pytest.mark.parametrize("smallest", [0.0, 1e-12, 1e-7, 1e-5, 1e-3])
def test_one_sided_clip_is_that_of_eigh_however_small_eigenvalues_are(smallest):
    """(|A| - A) / 2 is the negative part: what is unresolved near 0 is as small as that."""
    ends, middle = torch.linspace(-1, 1, 40), smallest * torch.linspace(-1, 1, 10)
    matrix, _ = with_values(ends[:15], middle, ends[25:])
    expected = apply(lambda w: (-w).clamp_min(0), matrix)
    found = (symmetric.absolute(matrix) - matrix) / 2
    assert float((found - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("least", [2e-6, 0.1])
@pytest.mark.parametrize("side", [1, -1])
def test_signs_are_those_of_eigenvalues_however_small_in_double_precision(least, side):
    values = torch.linspace(least, 5 * least, 20), side * torch.linspace(1, least, 20)
    matrix, values = with_values(*values)
    expected = (FRAME * values.sign()) @ FRAME.mT
    torch.testing.assert_close(symmetric.sign(matrix), expected, atol=1e-5, rtol=0)


def test_nothing_has_no_sign_and_no_basis():
    assert not symmetric.sign(torch.zeros(1, 4, 4)).any()
    found = symmetric.cholesky_basis(torch.zeros(1, 9, 3))
    assert found.isfinite().all() and not found.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("norm", "squarings", "error"),
    [(1e-3, 0, 3e-7), (0.3, 0, 5e-6), (1.0, 0, 1e-5), (0.3, 8, 1e-11), (3, 8, 1e-11)]
    + [(30.0, 8, 1e-11)],
)
def test_exponential_is_that_of_eigh(norm, squarings, error, dtype):
    """Squarings reach larger norms; the error is a share of the norm of the exponential."""
    matrix = random_symmetric(3, 30, 4)
    matrix = norm * matrix / linalg.matrix_norm(matrix, 2)[:, None, None]
    expected = apply(torch.exp, matrix)
    found = symmetric.expm(matrix.to(dtype), squarings).double()
    rounding = 0 if dtype == torch.float64 else 3e-7 * 2**squarings
    lost = linalg.matrix_norm(found - expected, 2) / linalg.matrix_norm(expected, 2)
    assert (lost < error + rounding).all()


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-6])
def test_basis_from_cholesky_factors_is_that_of_householder(smallest):
    frame, mix = linalg.qr(normal(2, 50, 12, seed=0)).Q, linalg.qr(normal(2, 12, 12, seed=1)).Q
    columns = ((frame * spread(1, smallest, 12)) @ mix).float()
    assert torch.equal(symmetric.orthonormal(columns), linalg.qr(columns).Q)  # on a CPU
    found = symmetric.cholesky_basis(columns).double()
    one = torch.eye(12, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(found.mT @ found, one, atol=1e-5, rtol=0)
    span = linalg.qr(columns.double()).Q
    torch.testing.assert_close(span @ (span.mT @ found), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("largest", [0.1, 1.0, 1e4, 1e9])
def test_a_floor_is_kept_however_large_other_eigenvalues_are(largest):
    matrix, values = with_values(torch.linspace(0.01, 0.6, 39), torch.tensor([largest]))
    floor = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    found, negative = symmetric.raised(matrix, floor)
    exact = (FRAME * values.clamp_min(0.3)) @ FRAME.mT
    error = 1e-7 + 1e-14 * largest
    torch.testing.assert_close(found, exact, atol=error, rtol=0)
    torch.testing.assert_close(negative, exact - matrix, atol=error, rtol=0)

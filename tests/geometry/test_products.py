"""Functions by matrix products alone, against eigendecompositions in float64."""

import pytest
import torch
from torch import linalg

from rddrs_dist.geometry import products
from rddrs_dist.geometry.symmetric import apply
from tests.oracles import normal, random_symmetric, spread


@pytest.mark.parametrize("size", [1, 2, 7, 60])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 3e-6)])
def test_modulus_is_that_of_eigh(size, dtype, error):
    matrix = random_symmetric(3, size, 1)
    expected = apply(torch.abs, matrix)
    found = products.absolute(matrix.to(dtype)).double()
    assert float(linalg.matrix_norm(found - expected).max()) < error * float(
        linalg.matrix_norm(expected).max()
    )


@pytest.mark.parametrize("smallest", [0.0, 1e-12, 1e-7, 1e-5, 1e-3])
def test_one_sided_clip_is_that_of_eigh_however_small_eigenvalues_are(smallest):
    """(|A| - A) / 2 is the negative part: what is unresolved near 0 is as small as that."""
    size = 40
    frame = linalg.qr(random_symmetric(1, size, 2)).Q
    values = torch.linspace(-1, 1, size, dtype=torch.float64)
    values[size // 2 - 5 : size // 2 + 5] = smallest * torch.linspace(-1, 1, 10)
    matrix = (frame * values) @ frame.mT
    expected = apply(lambda w: (-w).clamp_min(0), matrix)
    found = (products.absolute(matrix) - matrix) / 2
    assert float((found - expected).abs().max()) < 1e-5


def test_sign_of_definite_matrices_is_the_identity():
    spd = random_symmetric(2, 12, 3)
    spd = spd @ spd + 0.1 * torch.eye(12, dtype=torch.float64)
    one = torch.eye(12, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(products.sign(spd), one)
    torch.testing.assert_close(products.sign(-spd), -one)


def test_nothing_has_no_sign_and_no_basis():
    assert not products.sign(torch.zeros(1, 4, 4)).any()
    found = products.cholesky_basis(torch.zeros(1, 9, 3))
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
    found = products.expm(matrix.to(dtype), squarings).double()
    rounding = 0 if dtype == torch.float64 else 3e-7 * 2**squarings
    lost = linalg.matrix_norm(found - expected, 2) / linalg.matrix_norm(expected, 2)
    assert (lost < error + rounding).all()


def test_log_det_of_the_exponential_is_the_trace():
    matrix = 0.05 * random_symmetric(3, 20, 5)
    found = linalg.slogdet(products.expm(matrix)).logabsdet
    torch.testing.assert_close(found, matrix.diagonal(dim1=1, dim2=2).sum(1), atol=1e-6, rtol=1e-6)


def test_rectangles_are_refused():
    for function in (products.sign, products.expm):
        with pytest.raises(ValueError, match=r"shape \(\.\.\., d, d\)"):
            function(torch.zeros(2, 3))


def test_double_precision_resolves_small_eigenvalues():
    frame = linalg.qr(random_symmetric(1, 40, 2)).Q
    values = torch.cat([torch.linspace(2e-6, 1e-5, 20), torch.linspace(-1, -2e-6, 20)]).double()
    found = products.sign((frame * values) @ frame.mT)
    expected = (frame * values.sign()) @ frame.mT
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-6])
def test_basis_from_cholesky_factors_is_that_of_householder(smallest):
    frame, mix = linalg.qr(normal(2, 50, 12, seed=0)).Q, linalg.qr(normal(2, 12, 12, seed=1)).Q
    columns = (frame * spread(1, smallest, 12)) @ mix
    found = products.cholesky_basis(columns.float()).double()
    one = torch.eye(12, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(found.mT @ found, one, atol=1e-5, rtol=0)
    span = linalg.qr(columns.float().double()).Q
    torch.testing.assert_close(span @ (span.mT @ found), found, atol=1e-5, rtol=0)


def test_on_a_cpu_the_basis_is_householders():
    columns = torch.rand(2, 9, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(products.orthonormal(columns), linalg.qr(columns).Q)


@pytest.mark.parametrize("largest", [0.1, 1.0, 1e4, 1e9])
def test_a_floor_is_kept_however_large_other_eigenvalues_are(largest):
    frame = linalg.qr(random_symmetric(1, 40, 2)).Q
    values = torch.cat([torch.linspace(0.01, 0.6, 39), torch.tensor([largest])]).double()
    matrix, floor = (frame * values) @ frame.mT, torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    found, negative = products.raised(matrix, floor)
    exact = (frame * values.clamp_min(0.3)) @ frame.mT
    error = 1e-7 + 1e-14 * largest
    torch.testing.assert_close(found, exact, atol=error, rtol=0)
    torch.testing.assert_close(negative, exact - matrix, atol=error, rtol=0)

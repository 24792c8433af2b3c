"""Bounds of singular values: on the right side of the truth, and near to it."""

import math

import mpmath
import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.norm import least_bound, norm_bounds

D = 12


def spread(smallest: float, size: int = D) -> Tensor:
    """(3, size, size), singular values from a smallest one to 10."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, 3, size, size, generator=generator, dtype=torch.float64)
    first, second = linalg.qr(draw).Q
    return (first * torch.logspace(math.log10(smallest), 1, size, dtype=torch.float64)) @ second


def exact(matrix: Tensor) -> list[mpmath.mpf]:
    """Singular values, ascending, to 50 digits."""
    with mpmath.workdps(50):
        return sorted(mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False))


@pytest.mark.parametrize("smallest", [9.999, 1.0, 1e-3, 1e-6])
def test_the_largest_lies_between_its_bounds(smallest):
    matrices = spread(smallest)
    for matrix, low, high in zip(matrices, *norm_bounds(matrices), strict=True):
        truth = exact(matrix)[-1]
        assert low.item() <= truth <= high.item()
        assert float(high - low) < 1e-10 * truth


@pytest.mark.parametrize("smallest", [9.999, 1.0, 1e-3, 1e-6])
def test_the_smallest_is_bounded_from_below_and_near(smallest):
    lower = linalg.cholesky(spread(smallest) @ spread(smallest).mT)
    for matrix, bound in zip(lower, least_bound(lower), strict=True):
        truth = exact(matrix)[0]
        assert bound.item() <= truth
        # What the squares that the factor was made of have lost is no matter here.
        assert bound.item() > truth * (1 - max(1e-9, 1e-14 / smallest))


@pytest.mark.parametrize("size", [1, 50, 784])
def test_equal_singular_values_lose_next_to_nothing(size):
    matrix = 0.3 * torch.eye(size, dtype=torch.float64)
    low, high = norm_bounds(matrix)
    assert low <= 0.3 <= high and high - low < 1e-12
    assert 0.3 - 1e-11 < least_bound(matrix) <= 0.3


def test_fewer_squarings_leave_bounds_further_apart():
    matrices = spread(1.0, 40)
    truth = linalg.matrix_norm(matrices, 2)
    gaps = []
    for squarings in (2, 5, 10):
        low, high = norm_bounds(matrices, squarings)
        assert (low <= truth).all() and (truth <= high).all()
        gaps.append(float((high / low).max()))
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1.002


def test_nothing_and_the_singular_have_no_smallest_value():
    zero = torch.zeros(2, 4, 4, dtype=torch.float64)
    low, high = norm_bounds(zero)
    assert not low.any() and not high.any()
    assert not least_bound(zero).any()
    graded = torch.diag(torch.tensor([1e18, 1.0, 1e-18], dtype=torch.float64))
    assert 0 <= least_bound(graded) <= 1e-18

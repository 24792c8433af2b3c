"""Bounds of singular values: on the right side of the truth, and near to it."""

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.norm import least_bound, norm_bounds
from tests.oracles import singular_values, spread, with_axes

each_smallest = pytest.mark.parametrize("smallest", [9.999, 1.0, 1e-3, 1e-6])


def matrices(smallest: float, size: int = 12) -> Tensor:
    """(2, size, size), singular values from a smallest one to 10."""
    return with_axes(spread(smallest, 10, size), 2, seed=0)


@each_smallest
def test_the_largest_lies_between_its_bounds(smallest):
    some = matrices(smallest)
    for matrix, low, high in zip(some, *norm_bounds(some), strict=True):
        truth = singular_values(matrix)[-1]
        assert low.item() <= truth <= high.item()
        assert float(high - low) < 1e-10 * truth


@each_smallest
def test_the_smallest_is_bounded_from_below_and_near(smallest):
    lower = linalg.cholesky(matrices(smallest) @ matrices(smallest).mT)
    for matrix, bound in zip(lower, least_bound(lower), strict=True):
        truth = singular_values(matrix)[0]
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
    some = matrices(1.0, 40)
    truth = linalg.matrix_norm(some, 2)
    gaps = []
    for squarings in (2, 5, 10):
        low, high = norm_bounds(some, squarings)
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

"""Rules that make regions smaller: every pair ends up on two sides of its hyperplane."""

from dataclasses import replace

import numpy as np
import pytest

from rddrs_dist.disjoint import Contacts, bounds, in_order, order_free

from .test_contact import D, regions, searched


def conflicts(seed: int) -> tuple[Contacts, np.ndarray]:
    """The conflicts of random regions, and their radii."""
    own = regions("full", seed)
    found = searched(own)
    return found[~(found.factor(own.radius) > 1)], own.radius


def pair(gap: float, left: float = 1.0, right: float = 1.0) -> Contacts:
    """One pair, regions 0 and 1."""
    sizes = (np.array([size]) for size in (gap, left, right))
    numbers = (np.array([0]), np.array([1]))
    return Contacts(*numbers, *sizes, np.zeros((1, D), np.float32), np.ones(1, np.int64))


@pytest.mark.parametrize("rule", [order_free, in_order])
@pytest.mark.parametrize("seed", range(3))
def test_no_pair_is_left_without_a_hyperplane(rule, seed: int):
    found, radius = conflicts(seed)
    left = rule(radius, found)
    assert len(found) > 3
    assert (found.factor(radius) <= 1).all()
    gap = found.gap - left[found.first] * found.left - left[found.second] * found.right
    blocked = found.gap - left[found.first] * found.left < 0  # by an earlier region alone
    assert (gap[~blocked] > 0).all()
    assert (np.minimum(left[found.first], left[found.second])[blocked] == 0).all()
    assert (left <= radius).all() and (left < radius).any() and (left == radius).any()


def test_regions_without_conflicts_keep_their_size():
    radius, none = np.array([1.0, 2.0]), Contacts.none(D)
    assert order_free(radius, none).tolist() == [1.0, 2.0]
    assert in_order(radius, none).tolist() == [1.0, 2.0]
    assert not list(bounds(radius, none))


def test_the_order_free_rule_does_not_depend_on_the_order():
    found, radius = conflicts(0)
    turned = replace(
        found, first=found.second, second=found.first, left=found.right, right=found.left
    )[::-1]
    assert (order_free(radius, turned) == order_free(radius, found)).all()


def test_in_order_the_first_keeps_all_and_the_second_what_is_left():
    """Two unit balls, three apart along the normal, with radii 2: 4 is 1 too much."""
    assert in_order(np.array([2.0, 2.0]), pair(3.0)) == pytest.approx([2.0, 1.0], rel=1e-5)
    assert order_free(np.array([2.0, 2.0]), pair(3.0)) == pytest.approx([1.5, 1.5], rel=1e-5)
    assert in_order(np.array([4.0, 2.0]), pair(3.0)).tolist() == [4.0, 0.0]


def test_in_order_nothing_is_left_beside_a_region_that_reaches_to_the_hyperplane():
    """gap - r_i ||S_i^T w|| is what rounding has left of nothing."""
    reach = 0.1 * 3  # above 0.3
    assert in_order(np.array([0.3, 1.0]), pair(reach)).tolist() == [0.3, 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_those_of_the_conflicts_of_a_region(seed: int):
    found, radius = conflicts(seed)
    mu, known = found.factor(radius) * (1 - 1e-6), list(bounds(radius, found))
    assert [k for k, _, _ in known] == np.union1d(found.first, found.second).tolist()
    for k, chosen, limits in known:
        assert chosen.tolist() == np.flatnonzero((found.first == k) | (found.second == k)).tolist()
        wanted = mu * np.where(found.first == k, found.left, found.right)
        assert limits.tolist() == wanted[chosen].tolist()

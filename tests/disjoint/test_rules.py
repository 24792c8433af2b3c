"""Rules that make regions smaller: every pair ends up on two sides of its plane."""

import numpy as np
import pytest
import torch

from rddrs_dist.disjoint import (
    Bounds,
    Conflicts,
    in_order,
    mean_inverse,
    narrowed,
    order_free,
    touch,
)
from rddrs_dist.noise import FullNoise

from .test_contact import EVENT, D, regions


def conflicts(seed: int) -> tuple[Conflicts, np.ndarray]:
    """The conflicts of random regions, and their radii."""
    found, _, radius = with_normals(seed)
    return found, radius


def with_normals(seed: int) -> tuple[Conflicts, np.ndarray, np.ndarray]:
    """Conflicts, their normals and the radii of regions."""
    own = regions("full", seed)
    touched = touch(own, own, mean_inverse([own]), same=True)
    left = touched[~(touched.mu(own.radius, own.radius) > 1)]
    found = (left.rows, left.columns, left.gap, left.left, left.right)
    return (
        Conflicts(*(one.numpy() for one in found)),
        left.normal.double().numpy(),
        own.radius.numpy(),
    )


@pytest.mark.parametrize("rule", [order_free, in_order])
@pytest.mark.parametrize("seed", range(3))
def test_no_pair_is_left_without_a_plane(rule, seed: int):
    found, radius = conflicts(seed)
    sound = rule(radius, found)
    assert len(found.first) > 3
    assert (found.mu(radius) <= 1).all()
    gap = found.gap - sound[found.first] * found.left - sound[found.second] * found.right
    blocked = found.gap - sound[found.first] * found.left < 0  # by an earlier region alone
    assert (gap[~blocked] > 0).all()
    assert (np.minimum(sound[found.first], sound[found.second])[blocked] == 0).all()
    assert (sound <= radius).all() and (sound < radius).any() and (sound == radius).any()


def test_regions_without_conflicts_keep_their_size():
    radius = np.array([1.0, 2.0])
    assert order_free(radius, Conflicts.none()).tolist() == [1.0, 2.0]
    assert in_order(radius, Conflicts.none()).tolist() == [1.0, 2.0]


def test_the_order_free_rule_does_not_depend_on_the_order():
    found, radius = conflicts(0)
    turned = Conflicts(
        found.second[::-1], found.first[::-1], found.gap[::-1],
        found.right[::-1], found.left[::-1],
    )  # fmt: skip
    assert (order_free(radius, turned) == order_free(radius, found)).all()


def test_in_order_the_first_keeps_all_and_the_second_what_is_left():
    """Two unit balls, three apart in a plane's normal, with radii 2: 4 is 1 too much."""
    one, gap = np.ones(1), np.array([3.0])
    pair = Conflicts(np.array([0]), np.array([1]), gap, one, one)
    assert in_order(np.array([2.0, 2.0]), pair) == pytest.approx([2.0, 1.0], rel=1e-5)
    assert order_free(np.array([2.0, 2.0]), pair) == pytest.approx([1.5, 1.5], rel=1e-5)
    assert in_order(np.array([4.0, 2.0]), pair).tolist() == [4.0, 0.0]


def narrowed_regions(seed: int) -> dict[int, tuple[torch.Tensor, float]]:
    """Scale and radius of each region that had to be narrowed."""
    found, normals, radius = with_normals(seed)
    own, made, bounds = regions("full", seed), {}, Bounds(radius, found)
    for region in bounds.regions.tolist():
        chosen, limits = bounds.of(region)
        noise = own.noise[region : region + 1]
        w, b = torch.from_numpy(normals[chosen]), torch.from_numpy(limits)
        inner, share = narrowed(noise, float(noise.min_axis), w, b)
        made[region] = inner.scale[0].double(), share * radius[region]
    return made


@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_those_of_the_conflicts_of_a_region(seed: int):
    found, radius = conflicts(seed)
    bounds, mu = Bounds(radius, found), found.mu(radius) * (1 - 1e-6)
    assert bounds.regions.tolist() == np.union1d(found.first, found.second).tolist()
    for region in range(len(radius)):
        chosen, limits = bounds.of(region)
        left, right = found.first == region, found.second == region
        assert chosen.tolist() == np.flatnonzero(left | right).tolist()
        wanted = mu * np.where(left, found.left, found.right)
        assert limits.tolist() == wanted[chosen].tolist()


def test_bounds_without_conflicts_are_of_no_region():
    bounds = Bounds(np.ones(3), Conflicts.none())
    assert not len(bounds.regions) and not len(bounds.of(1)[0])


def test_in_order_nothing_is_left_beside_a_region_that_reaches_to_the_plane():
    """gap - r_i ||S_i^T w|| is what rounding has left of nothing."""
    one = np.ones(1)
    reach = np.array([0.1]) * 3  # above 0.3
    pair = Conflicts(np.array([0]), np.array([1]), reach, one, one)
    assert in_order(np.array([0.3, 1.0]), pair).tolist() == [0.3, 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_a_narrowed_region_stays_inside(seed: int):
    own = regions("full", seed)
    for region, (scale, radius) in narrowed_regions(seed).items():
        inside = torch.linalg.solve(own.noise.scale[region].double(), scale)
        stretch = float(torch.linalg.matrix_norm(inside, 2)) * radius / float(own.radius[region])
        assert 0.9 < stretch <= 1


def test_two_narrowed_regions_have_a_plane_between_them():
    found, normals, _ = with_normals(1)
    own, made = regions("full", 1), narrowed_regions(1)
    for i, j, normal in zip(found.first, found.second, normals, strict=True):
        w = torch.from_numpy(normal)
        reach = sum(made[k][1] * float((made[k][0].mT @ w).norm()) for k in (i, j))
        assert float(w @ (own.points[j] - own.points[i])) > reach


def unit_ball_beside(bounds: list[float]) -> FullNoise:
    """The unit ball, narrowed in one direction."""
    w = torch.eye(D, dtype=torch.float64)[:1].repeat(len(bounds), 1)
    ball = FullNoise(torch.eye(D)[None], EVENT)
    noise, share = narrowed(ball, 1.0, w, torch.tensor(bounds, dtype=torch.float64))
    assert share == pytest.approx(1, abs=1e-6)
    return noise


def test_one_plane_costs_exactly_its_share_of_the_volume():
    assert unit_ball_beside([0.5]).axes[0].numpy() == pytest.approx([0.5] + [1.0] * (D - 1))


def test_of_two_planes_with_one_normal_the_nearer_one_counts():
    assert float(unit_ball_beside([0.9, 0.5]).logdet.exp()) == pytest.approx(0.5, rel=1e-6)

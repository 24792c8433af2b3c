"""Rules that make regions smaller: every pair ends up on two sides of its plane."""

import numpy as np
import pytest
import torch

from rddrs_dist.soundness import Conflicts, in_order, mean_inverse, narrowed, order_free, touch

from .test_contact import D, regions


def conflicts(seed: int) -> tuple[Conflicts, np.ndarray]:
    """The conflicts of random regions, and their radii."""
    own = regions("full", seed)
    touched = touch(own, own, mean_inverse([own]), same=True)
    left = touched[~(touched.mu(own.radius, own.radius) > 1)]
    found = (left.rows, left.columns, left.gap, left.left, left.right, left.normal)
    return Conflicts(*(one.numpy() for one in found)), own.radius.numpy()


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
    assert order_free(radius, Conflicts.none(3)).tolist() == [1.0, 2.0]
    assert in_order(radius, Conflicts.none(3)).tolist() == [1.0, 2.0]


def test_the_order_free_rule_does_not_depend_on_the_order():
    found, radius = conflicts(0)
    turned = Conflicts(
        found.second[::-1], found.first[::-1], found.gap[::-1],
        found.right[::-1], found.left[::-1], found.normal[::-1],
    )  # fmt: skip
    assert (order_free(radius, turned) == order_free(radius, found)).all()


def test_in_order_the_first_keeps_all_and_the_second_what_is_left():
    """Two unit balls, three apart in a plane's normal, with radii 2: 4 is 1 too much."""
    one, gap = np.ones(1), np.array([3.0])
    pair = Conflicts(np.array([0]), np.array([1]), gap, one, one, np.ones((1, 1), np.float32))
    assert in_order(np.array([2.0, 2.0]), pair) == pytest.approx([2.0, 1.0], rel=1e-5)
    assert order_free(np.array([2.0, 2.0]), pair) == pytest.approx([1.5, 1.5], rel=1e-5)
    assert in_order(np.array([4.0, 2.0]), pair).tolist() == [4.0, 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_a_narrowed_region_keeps_to_its_planes_and_stays_inside(seed: int):
    found, radius = conflicts(seed)
    own = regions("full", seed)
    for region in np.union1d(found.first, found.second):
        normals, bounds = found.planes(radius, int(region))
        scale = own.noise.scale[region].double()
        w = torch.from_numpy(normals).double()
        made = narrowed(scale, w, torch.from_numpy(bounds))
        assert ((w @ made).norm(dim=1).numpy() < bounds).all()
        inside = torch.linalg.solve(scale, made)
        assert float(torch.linalg.matrix_norm(inside, 2)) < 1


def test_two_narrowed_regions_have_a_plane_between_them():
    found, radius = conflicts(1)
    own = regions("full", 1)
    made = {}
    for region in np.union1d(found.first, found.second):
        normals, bounds = found.planes(radius, int(region))
        scale = own.noise.scale[region].double()
        w, b = torch.from_numpy(normals).double(), torch.from_numpy(bounds)
        made[int(region)] = narrowed(scale, w, b)
    for i, j, normal in zip(found.first, found.second, found.normal, strict=True):
        w = torch.from_numpy(normal).double()
        reach = sum(radius[k] * float((made[int(k)].mT @ w).norm()) for k in (i, j))
        assert float(w @ (own.points[j] - own.points[i])) > reach


def test_one_plane_costs_exactly_its_share_of_the_volume():
    """The unit ball, narrowed to a half in one direction."""
    made = narrowed(
        torch.eye(D, dtype=torch.float64),
        torch.eye(D, dtype=torch.float64)[:1],
        torch.tensor([0.5], dtype=torch.float64),
    )
    axes = torch.linalg.svdvals(made)
    assert axes.numpy() == pytest.approx([1.0] * (D - 1) + [0.5], rel=1e-6)


def test_of_two_planes_with_one_normal_the_nearer_one_counts():
    w = torch.eye(D, dtype=torch.float64)[:1].repeat(2, 1)
    made = narrowed(torch.eye(D, dtype=torch.float64), w, torch.tensor([0.9, 0.5]).double())
    assert float(torch.linalg.det(made)) == pytest.approx(0.5, rel=1e-6)

"""Regions made smaller: inside the certified one and on their side of every hyperplane."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from rddrs_dist.disjoint import Contacts, bounds, in_order, narrowed, order_free
from rddrs_dist.noise import DiagonalNoise, FullNoise, Noise
from tests.disjoint.problems import region

from .test_contact import regions, searched

EXTENDED = np.longdouble
D = 48


def lower(axes: torch.Tensor, seed: int) -> FullNoise:
    """A lower triangular scale in single precision with about the given axes."""
    generator = torch.Generator().manual_seed(seed)
    d = len(axes)
    frame = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    scale = FullNoise((frame * axes.double())[None], (d,)).lower().scale
    return FullNoise(scale.float(), (d,))


def made_of(noise: Noise, w: torch.Tensor, bounds: torch.Tensor) -> tuple[FullNoise, float] | None:
    """Scale and radius of the region of radius 1 that was narrowed."""
    whole = region(torch.zeros(1, *noise.event_shape), 3, 1.0, noise)
    made = narrowed(whole, float(noise.min_axis), w, bounds)
    if made is None:
        return None
    assert made.centre is whole.centre and made.prediction is whole.prediction
    return made.noise, float(made.radius[0])


def hyperplanes(
    noise: Noise, share: float, count: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normals along narrow directions, and bounds as a share of what the region reaches."""
    generator = torch.Generator().manual_seed(seed)
    scale = noise.matrix()[0]
    v = torch.randn(count, len(scale), generator=generator, dtype=torch.float64)
    w = torch.linalg.solve(scale.mT, torch.linalg.solve(scale, v.mT)).mT
    w = (w / w.norm(dim=1, keepdim=True)).float().double()
    return w, (w @ scale).norm(dim=1) * share


def exact(noise: Noise) -> np.ndarray:
    """S in extended precision."""
    return noise.matrix()[0].numpy().astype(EXTENDED)


def stretch(outer: np.ndarray, inner: np.ndarray) -> float:
    """||S^-1 S'|| for a lower triangular S, in extended precision."""
    ratio = np.zeros_like(inner)
    for row in range(len(outer)):
        ratio[row] = (inner[row] - outer[row, :row] @ ratio[:row]) / outer[row, row]
    square = ratio.T @ ratio
    vector = np.linalg.eigh(square.astype(float))[1][:, -1].astype(EXTENDED)
    for _ in range(50):
        vector = square @ vector
        vector /= np.sqrt(vector @ vector)
    image = ratio @ vector
    return np.sqrt(image @ image)


@pytest.mark.parametrize("share", [0.5, 1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("condition", [10.0, 1e4, 1e6, 1e8, 1e9])
def test_what_is_claimed_holds_in_extended_precision(condition: float, share: float):
    noise = lower(0.5 * torch.logspace(0, np.log10(condition), D, dtype=torch.float64), 1)
    w, bounds = hyperplanes(noise, share, 5, 3)
    found = made_of(noise, w, bounds)
    # Single precision may leave nothing of a region that is both long and narrow.
    assert found is not None or (condition > 1e5 and share < 1e-4) or condition > 1e7
    if found is not None:
        made, kept = found
        inner = exact(made)
        assert 0 < kept <= 1
        assert kept * stretch(exact(noise), inner) <= 1
        reach = np.sqrt(np.square(inner.T @ w.numpy().astype(EXTENDED).T).sum(0))
        assert (kept * reach <= bounds.numpy().astype(EXTENDED)).all()
        assert made.scale.dtype == torch.float32 and not made.scale.triu(1).any()


@pytest.mark.parametrize("count", [5, 2 * D])
def test_little_is_lost_of_a_region_of_usual_shape(count: int):
    """Fewer hyperplanes than dimensions, and more, which takes another way."""
    noise = lower(torch.linspace(0.5, 5, D), 2)
    w, bounds = hyperplanes(noise, 0.9, count, 4)
    made, kept = made_of(noise, w, bounds)
    reach = kept * (w @ made.matrix()[0]).norm(dim=1) / bounds
    assert 1 - 1e-5 < float(reach.max()) <= 1
    assert kept > 1 - 2e-4
    lost = float((noise.logdet - made.logdet)[0])
    assert 0 < lost < count * np.log(1 / 0.9) + 1e-3


def test_both_ways_to_find_the_weights_agree():
    """A hyperplane that is there again and again changes nothing, but there are more than axes."""
    noise = lower(torch.linspace(0.5, 5, D), 2)
    w, bounds = hyperplanes(noise, 0.5, 5, 4)
    few, many = (made_of(noise, w.repeat(times, 1), bounds.repeat(times)) for times in (1, D))
    assert float(few[0].logdet) == pytest.approx(float(many[0].logdet), abs=1e-3)


@pytest.mark.parametrize("dense", [True, False])
def test_a_scale_need_not_be_triangular(dense: bool):
    axes = torch.linspace(0.5, 2, D)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1))).Q
    noise = (
        FullNoise((axes.diag() @ turn)[None], (D,)) if dense else DiagonalNoise(axes[None], (D,))
    )
    w, bounds = hyperplanes(noise, 0.5, 3, 4)
    made, kept = made_of(noise, w, bounds)
    inside = torch.linalg.solve(noise.matrix()[0], kept * made.matrix()[0])
    assert 0.999 < float(torch.linalg.matrix_norm(inside, 2)) <= 1
    assert ((w @ made.matrix()[0]).norm(dim=1) * kept <= bounds).all()


@pytest.mark.parametrize("limits", [[0.5], [0.9, 0.5]])
def test_the_nearest_of_hyperplanes_with_one_normal_costs_its_share_of_the_volume(limits):
    w = torch.eye(D, dtype=torch.float64)[:1].repeat(len(limits), 1)
    ball = FullNoise(torch.eye(D)[None], (D,))
    made, kept = made_of(ball, w, torch.tensor(limits, dtype=torch.float64))
    assert kept == pytest.approx(1, abs=1e-6)
    assert made.axes[0].numpy() == pytest.approx([0.5] + [1.0] * (D - 1))


def test_without_hyperplanes_the_region_is_itself():
    noise = lower(torch.linspace(0.5, 2, D), 5)
    made, kept = made_of(noise, torch.empty(0, D).double(), torch.empty(0))
    assert torch.equal(made.scale, noise.scale) and 1 - 1e-8 < kept < 1


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), 1e-160])
def test_where_no_region_can_be_told_from_none_nothing_is_claimed(bound: float):
    noise = lower(torch.linspace(0.5, 2, D), 5)
    w = torch.eye(D, dtype=torch.float64)[:2]
    assert made_of(noise, w, torch.tensor([bound, 1.0], dtype=torch.float64)) is None
    # Nor inside a scale that may be singular.
    whole = region(torch.zeros(1, D), 3, 1.0, noise)
    assert narrowed(whole, 0.0, *hyperplanes(noise, 0.5, 3, 4)) is None


@pytest.mark.parametrize("radius", [0.3, 1.0, 3.7])
def test_a_radius_is_rounded_downward(radius: float):
    noise = lower(torch.linspace(0.5, 2, D), 5)
    whole = region(torch.zeros(1, D), 3, radius, noise)
    w, bounds = hyperplanes(noise, 0.5, 3, 4)
    _, share = made_of(noise, w, bounds)
    made = narrowed(whole, float(noise.min_axis), w, bounds)
    assert Fraction(float(made.radius[0])) < Fraction(radius) * Fraction(np.nextafter(share, 1))


def conflicts(seed: int) -> tuple[Contacts, np.ndarray]:
    """The conflicts of random regions, and their radii."""
    own = regions("full", seed)
    found = searched(own)
    return found[~(found.factor(own.radius) > 1)], own.radius


def pair(gap: float) -> Contacts:
    """One pair of unit balls, regions 0 and 1."""
    sizes = (np.array([size]) for size in (gap, 1.0, 1.0))
    numbers = (np.array([0]), np.array([1]))
    return Contacts(*numbers, *sizes, np.zeros((1, 6), np.float32), np.ones(1, np.int64))


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
    # Where the first reaches to the hyperplane, gap - r_i ||S_i^T w|| is what rounding has left.
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

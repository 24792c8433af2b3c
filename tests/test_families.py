"""How far families of changed images stay inside regions, against exact answers."""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from rddrs_dist.families import FAMILIES, Family, inside
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from tests.oracles import noises, normal, spread, with_axes

EVENT, D = (1, 5, 6), 30
IMAGES = torch.rand(3, *EVENT, generator=torch.Generator().manual_seed(1))
NAMED = {family.name: family for family in FAMILIES}


def zigzag(*heights: float) -> Family:
    """All pixels at once, through given heights, straight between them."""
    knots = [0.0, *heights]

    def change(images: Tensor, t: float) -> list[Tensor]:
        return [images + float(np.interp(t, np.arange(len(knots)), knots))]

    return Family("zigzag", "", float(len(heights)), len(heights), change, straight=True)


def ball(scale: float, images: Tensor = IMAGES) -> Noise:
    return IsotropicNoise.constant(scale, images)


def held(name: str, noise: Noise, radius: list[float]) -> np.ndarray:
    return inside(noise, np.array(radius), IMAGES, [NAMED[name]])[0]


def test_straight_families_end_where_a_ball_does():
    radius = np.array([0.3, 1.0, 2.5])
    found = inside(ball(0.25), radius, IMAGES, [NAMED["brightness"], NAMED["contrast"]])
    away = (IMAGES.double() - IMAGES.double().mean((1, 2, 3), keepdim=True)).flatten(1).norm(dim=1)
    exact = [0.25 * radius / math.sqrt(D), 100 * 0.25 * radius / away.numpy()]
    assert (found < exact).all()
    np.testing.assert_allclose(found, exact, rtol=1e-8)


def worst(noise: Noise, family: Family, at: list[float]) -> np.ndarray:
    """||S^-1 (x_t - x)|| in the worst of the ways, by dense solves, (B, len(at))."""
    moved = (family.variants(IMAGES, at) - IMAGES[:, None, None]).flatten(3)
    columns = moved.flatten(1, 2).mT.numpy()
    lengths = np.linalg.norm(np.linalg.solve(noise.matrix().numpy(), columns), axis=1)
    return lengths.reshape(moved.shape[:3]).max(1)


def test_shifts_end_where_a_fine_grid_does():
    at = np.linspace(0, 4, 401)[1:]
    for noise in noises(IMAGES).values():
        lengths = worst(noise, NAMED["shift"], at.tolist())
        for radius in (0.4, 3.0, 5.0, 7.0):
            outside = lengths >= radius
            ends = np.where(outside.any(1), at[outside.argmax(1)], 4.0)
            found = held("shift", noise, [radius] * 3)
            assert (ends - 0.0101 <= found).all() and (found <= ends).all()


@pytest.mark.parametrize("name", ["rotation", "scaling", "blur"])
def test_others_end_at_the_last_step_before_the_first_outside(name):
    family, radius = NAMED[name], [0.5, 1.0, 2.0]
    at = [family.at(k) for k in range(1, family.steps + 1)]
    for noise in noises(IMAGES).values():
        outside = worst(noise, family, at) >= np.array(radius)[:, None]
        ends = np.where(outside.any(1), [[0.0, *at][k] for k in outside.argmax(1)], family.limit)
        assert (held(name, noise, radius) == ends).all() and (ends > 0).all()


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
def test_no_end_is_above_the_truth(condition):
    """The truth in 50 digits, of the stored float32 numbers."""
    full = FullNoise(with_axes(spread(0.05, 0.05 * condition, D), 3, seed=3).float(), EVENT)
    diagonal = DiagonalNoise(full.axes.float().view(3, *EVENT), EVENT)
    for noise in (full, full.lower(), diagonal):
        found = held("brightness", noise, [0.7] * 3)
        with mpmath.workdps(50):
            for row, t in enumerate(found):
                matrix = mpmath.matrix(noise.matrix()[row].tolist())
                one = mpmath.norm(mpmath.lu_solve(matrix, mpmath.ones(D, 1)))
                assert (1 - mpmath.mpf(1e-9) * condition) * 0.7 <= one * mpmath.mpf(t) < 0.7


def test_a_region_that_is_left_and_entered_again_ends_where_it_is_left():
    loop = Family("loop", "", 1.0, 100, lambda images, t: [images + math.sin(math.pi * t)])
    noise, radius = ball(1.0), np.full(3, 0.5 * math.sqrt(D))
    found = inside(noise, radius, IMAGES, [loop, zigzag(0.2, 0.8, 0.0, -0.1), zigzag(0.4, -0.4)])
    assert (found[0] == 0.16).all()  # sin(pi / 6) is 0.5, and there is no step at 1/6
    np.testing.assert_allclose(found[1], 1.5, rtol=1e-9)
    assert (found[1] < 1.5).all()
    assert (found[2] == 2.0).all()


def test_the_worst_way_counts():
    def change(images: Tensor, t: float) -> list[Tensor]:
        return [images + t, images - 4 * t, images + 2 * t]

    straight, steps = (Family("", "", 1.0, n, change, straight=n == 1) for n in (1, 100))
    found = inside(ball(1.0), np.full(3, math.sqrt(D)), IMAGES, [straight, steps])
    np.testing.assert_allclose(found[0], 0.25, rtol=1e-9)
    assert (found[1] == 0.24).all()  # at 0.25 it is at the border, and not inside


def test_nothing_is_held_at_radius_0_and_no_more_than_the_limit():
    found = inside(ball(1.0), np.array([0.0, 1e-300, 1e9]), IMAGES)
    assert (found[:, :2] == 0).all()
    assert found[:, 2].tolist() == [family.limit for family in FAMILIES]


def test_a_scale_that_rounding_leaves_nothing_of_holds_nothing():
    axes = torch.ones(3, D)
    axes[:, 0] = 1e-18
    rotated = (torch.linalg.qr(normal(D, D, seed=1)).Q @ torch.diag_embed(axes.double())).float()
    assert (inside(FullNoise(rotated, EVENT), np.ones(3), IMAGES) == 0).all()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("event", [(1, 1, 2), (3, 4, 7), (1, 8, 8)])
def test_families_start_at_the_image_and_are_as_they_say(family, event):
    images = torch.rand(2, *event, generator=torch.Generator().manual_seed(0))
    at = [family.limit * 1e-9, family.limit / 2, family.limit]
    found = family.variants(images, at)
    assert found.shape[0] == 2 and found.shape[2:] == (3, *event)
    assert found.dtype == torch.float64 and bool(found.isfinite().all())
    torch.testing.assert_close(
        found[:, :, 0], images.double()[:, None].expand_as(found[:, :, 0]), atol=1e-6, rtol=0
    )
    if family.straight:  # on each of its pieces
        for low, high in pairwise(range(family.steps + 1)):
            low, high = max(family.at(low), 1e-12), family.at(high)
            ends = family.variants(images, [low, 0.3 * low + 0.7 * high, high])
            between = 0.3 * ends[:, :, 0] + 0.7 * ends[:, :, 2]
            torch.testing.assert_close(ends[:, :, 1], between, atol=1e-11, rtol=0)


def test_whole_shifts_move_pixels_and_black_comes_in():
    image = IMAGES[:1].double()
    right, left, down, up = NAMED["shift"].variants(image, [1.0])[0, :, 0, 0]
    for found, rows, columns in ((right, 0, 1), (left, 0, -1), (down, 1, 0), (up, -1, 0)):
        wanted = image[0, 0].roll((rows, columns), (0, 1))
        wanted[{1: slice(0, 1), -1: slice(-1, None), 0: slice(0, 0)}[rows]] = 0
        wanted[:, {1: slice(0, 1), -1: slice(-1, None), 0: slice(0, 0)}[columns]] = 0
        torch.testing.assert_close(found, wanted, atol=1e-13, rtol=0)


def test_rotations_go_both_ways_and_scalings_keep_the_centre():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 3] = 1
    one, other = NAMED["rotation"].variants(image, [30.0])[0, :, 0, 0]
    torch.testing.assert_close(one, other.flip(0))
    assert not torch.allclose(one, other)
    centre = torch.zeros(1, 1, 5, 5)
    centre[..., 2, 2] = 1
    for found in NAMED["scaling"].variants(centre, [20.0])[0, :, 0, 0]:
        assert found.argmax() == 12


@pytest.mark.parametrize("t", [0.0, -1.0, 46.0, math.nan])
def test_a_parameter_beyond_a_family_is_refused(t):
    with pytest.raises(ValueError, match=r"rotation must be above 0 and at most 45 degrees, got"):
        NAMED["rotation"].variants(IMAGES, [t])


def test_what_does_not_fit_together_is_refused():
    for noise, images in ((ball(1.0), IMAGES[:2]), (ball(1.0, IMAGES[..., 1:]), IMAGES)):
        with pytest.raises(ValueError, match=r"noise, radius and images \(B, C, H, W\) must fit"):
            inside(noise, np.ones(3), images)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\), got \(3, 30\)"):
        NAMED["blur"].variants(IMAGES.flatten(1), [1.0])

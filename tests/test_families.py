"""How far families of changed images stay inside regions, against exact answers."""

import math
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from rddrs_dist.families import FAMILIES, Family, inside
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from tests.oracles import noises, normal, spread, with_axes

EVENT, D = (1, 5, 6), 30
IMAGES = torch.rand(3, *EVENT, generator=torch.Generator().manual_seed(1))
COLOURS = torch.rand(2, 3, 7, 4, generator=torch.Generator().manual_seed(2))
LARGE = torch.rand(1, 1, 24, 20, generator=torch.Generator().manual_seed(3))
NAMED = {family.name: family for family in FAMILIES}
CURVED = [family.name for family in FAMILIES if family.departure]


def ball(scale: float, images: Tensor = IMAGES) -> Noise:
    return IsotropicNoise.constant(scale, images)


def held(name: str, noise: Noise, radius: list[float]) -> np.ndarray:
    return inside(noise, np.array(radius), IMAGES, [NAMED[name]])[0]


def made(change, departure=None) -> Family:
    return Family("made", "made", "", 1.0, change, departure=departure)


def raised(images: Tensor, heights: Tensor) -> Tensor:
    """All pixels of an image at once, by heights (ways, n)."""
    return images[:, None, None] + heights[..., None, None, None]


def affine(images: Tensor, angle=0.0, shift=(0.0, 0.0), scale=1.0, shear=0.0) -> Tensor:
    how = InterpolationMode.BILINEAR
    return torchvision.affine(images, angle, [*shift], scale, [shear, 0.0], interpolation=how)


def by_torchvision(name: str, images: Tensor, t: float) -> list[Tensor]:
    """The images of each way, in torchvision's own words where it has some."""
    away = images - images.mean((1, 2, 3), keepdim=True)
    size = [2 * min(6, side - 1) + 1 for side in (images.shape[3], images.shape[2])]
    shifts = [(x * t, y * t) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    return {
        "rotation": lambda: [affine(images, angle=sign * t) for sign in (1, -1)],
        "shift": lambda: [affine(images, shift=way) for way in shifts],
        "scaling": lambda: [affine(images, scale=1 + sign * t / 100) for sign in (1, -1)],
        "shear": lambda: [affine(images, shear=sign * t) for sign in (1, -1)],
        "brightness": lambda: [images + t, images - t],
        "contrast": lambda: [images + t / 100 * away, images - t / 100 * away],
        "blur": lambda: [torchvision.gaussian_blur(images, size, [t, t])],
    }[name]()


def lengths(noise: Noise, images: Tensor, changed: Tensor) -> np.ndarray:
    """||S^-1 (x' - x)|| by dense solves, (B, m), of images (B, m, C, H, W)."""
    moved = (changed - images.unsqueeze(1)).flatten(2).mT.numpy()
    return np.linalg.norm(np.linalg.solve(noise.matrix().numpy(), moved), axis=1)


@cache
def sample(name: str, colours: bool) -> tuple[np.ndarray, Tensor, Tensor]:
    """Random t (m,), images, and each changed in one random way by torchvision (B, m, C, H, W)."""
    images, family = (COLOURS if colours else IMAGES).double(), NAMED[name]
    draw = np.random.default_rng(0)
    t = family.limit * draw.uniform(size=1000) * 10 ** draw.uniform(-2, 0, 1000)
    changed = []
    for one in t:
        if name == "shift":
            x, y = one * draw.choice([-1, 1]), draw.uniform(-one, one)
            changed.append(affine(images, shift=(x, y) if draw.integers(2) else (y, x)))
        else:
            ways = by_torchvision(name, images, float(one))
            changed.append(ways[draw.integers(len(ways))])
    return t, images, torch.stack(changed, 1)


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("name", NAMED)
def test_all_smaller_changes_are_inside(name, colours):
    t, images, changed = sample(name, colours)
    looked = 0
    for noise in noises(images.float()).values():
        far = lengths(noise, images, changed)
        for radius in (0.5, 2.0, 6.0):
            found = inside(noise, np.full(len(images), radius), images, [NAMED[name]])[0]
            smaller = t <= found[:, None]
            assert (far[smaller] < radius).all()
            looked += smaller.sum()
    assert looked > 1000


@pytest.mark.parametrize("name", NAMED)
def test_little_more_is_outside(name):
    family = NAMED[name]
    for noise in noises(IMAGES).values():
        for radius in (0.5, 2.0, 6.0):
            for row, found in enumerate(held(name, noise, [radius] * 3)):
                if found < family.limit:
                    most = min(found + max(0.002 * found, 1e-4 * family.limit), family.limit)
                    image = IMAGES[row : row + 1].double()
                    at = np.linspace(found, most, 41)[1:].tolist()
                    changed = family.variants(image, at).flatten(1, 2)
                    far = lengths(noise[row : row + 1], image, changed)
                    assert (far >= radius).any() and found > 0


def test_straight_families_end_where_a_ball_does():
    radius = np.array([0.3, 1.0, 2.5])
    found = inside(ball(0.25), radius, IMAGES, [NAMED["brightness"], NAMED["contrast"]])
    away = (IMAGES.double() - IMAGES.double().mean((1, 2, 3), keepdim=True)).flatten(1).norm(dim=1)
    exact = [0.25 * radius / math.sqrt(D), 100 * 0.25 * radius / away.numpy()]
    assert (found < exact).all()
    np.testing.assert_allclose(found, exact, rtol=2e-8)


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
                assert (1 - mpmath.mpf(2e-9) * (condition + 10)) * 0.7 <= one * mpmath.mpf(t) < 0.7


@pytest.mark.parametrize("images", [IMAGES, COLOURS, COLOURS.mT])
@pytest.mark.parametrize("name", NAMED)
def test_images_are_those_of_torchvision(name, images):
    family, images = NAMED[name], images.double()
    at = (family.limit * np.array([1e-9, 0.013, 0.25, 0.5, 0.77, 1.0])).tolist()
    found = family.variants(images, at)
    wanted = [torch.stack(by_torchvision(name, images, t), 1) for t in at]
    torch.testing.assert_close(found, torch.stack(wanted, 2), atol=1e-12, rtol=0)


@pytest.mark.parametrize("share", [0.2, 0.01, 1e-4])
@pytest.mark.parametrize("images", [IMAGES, COLOURS, 10 * COLOURS.mT - 5, LARGE])
@pytest.mark.parametrize("name", CURVED)
def test_nothing_on_a_piece_departs_by_more_than_is_said(name, images, share):
    family, image = NAMED[name], images[:1].double()
    draw = torch.Generator().manual_seed(0)
    start = torch.rand(40, generator=draw, dtype=torch.float64) * (1 - share)
    start[0] = 0.0
    a, b = family.limit * start, family.limit * (start + share)
    assert family.departure is not None
    said = family.departure(image, a, b)
    ends = [family.change(image, one)[0] for one in (a, b)]
    seen = torch.zeros_like(said)
    for between in torch.rand(25, generator=draw, dtype=torch.float64):
        straight = (1 - between) * ends[0] + between * ends[1]
        seen = seen.maximum((family.change(image, a + between * (b - a))[0] - straight).abs())
    assert bool((seen <= said + 1e-12).all())
    if share < 0.2:  # not so far that nothing is proven: less than images move over the piece
        moved = (ends[1] - ends[0]).flatten(2).norm(dim=2)
        assert (said.flatten(2).norm(dim=2) < moved + 1e-12).double().mean().item() > 0.9


@pytest.mark.parametrize("long", [0.0, 100.0])
def test_a_change_that_comes_and_goes_between_two_looks_is_seen(long):
    """Pixels go up and down by turns, while the noise is long where all go up."""
    signs = (-1.0) ** torch.arange(D, dtype=torch.float64).view(EVENT)
    scale = torch.eye(D) + long * torch.ones(D, D) / D
    noise = FullNoise(scale.expand(3, D, D), EVENT)

    def change(images: Tensor, t: Tensor) -> Tensor:
        heights = (1 - (t - 0.7071).abs() / 1e-3).clamp_min(0)
        return images[:, None, None] + heights.view(1, -1, 1, 1, 1) * signs

    def departure(image: Tensor, a: Tensor, b: Tensor) -> Tensor:
        reached = (b > 0.7061) & (a < 0.7081)
        off = torch.where(reached, (b - a) / 2e-3, 0.0).clamp_max(1)
        return torch.zeros_like(image) + off.view(1, -1, 1, 1, 1)

    found = inside(noise, np.full(3, 0.5 * math.sqrt(D)), IMAGES, [made(change, departure)])
    assert (found < 0.7066).all() and (found > 0.7055).all()


def test_a_region_that_is_left_and_entered_again_ends_where_it_is_left():
    def change(images: Tensor, t: Tensor) -> Tensor:
        return raised(images, (math.pi * t).sin()[None])

    def departure(image: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.zeros_like(image) + (math.pi * (b - a)).square().view(1, -1, 1, 1, 1) / 8

    found = inside(ball(1.0), np.full(3, 0.5 * math.sqrt(D)), IMAGES, [made(change, departure)])
    assert (found < 1 / 6).all()  # sin(pi / 6) is 0.5
    np.testing.assert_allclose(found, 1 / 6, rtol=1e-3)


def test_the_worst_way_counts():
    def change(images: Tensor, t: Tensor) -> Tensor:
        return raised(images, torch.stack([t, -4 * t, 2 * t]))

    def departure(image: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.zeros(3, len(a), *image.shape[1:], dtype=torch.float64)

    families = [made(change), made(change, departure)]
    found = inside(ball(1.0), np.full(3, math.sqrt(D)), IMAGES, families)
    assert (found < 0.25).all()
    np.testing.assert_allclose(found[0], 0.25, rtol=2e-8)
    np.testing.assert_allclose(found[1], 0.25, rtol=1e-3)


def test_nothing_is_held_at_radius_0_and_no_more_than_the_limit():
    found = inside(ball(1.0), np.array([0.0, 1e-300, 1e9]), IMAGES)
    assert (found[:, :2] == 0).all()
    assert found[:, 2].tolist() == [family.limit for family in FAMILIES]


def test_a_scale_that_rounding_leaves_nothing_of_holds_nothing():
    axes = torch.ones(3, D)
    axes[:, 0] = 1e-18
    rotated = (torch.linalg.qr(normal(D, D, seed=1)).Q @ torch.diag_embed(axes.double())).float()
    assert (inside(FullNoise(rotated, EVENT), np.ones(3), IMAGES) == 0).all()


def test_what_does_not_change_an_image_is_held_up_to_the_limit():
    grey = torch.full((1, 1, 6, 6), 0.5)
    found = dict(zip(NAMED, inside(ball(1e-3, grey), np.ones(1), grey)[:, 0], strict=True))
    assert found["blur"] == 2.0 and found["contrast"] == 100.0
    # Black comes in at the corners and borders.
    assert all(0 < found[name] < 0.1 for name in ("rotation", "shift", "scaling", "shear"))
    pixel = torch.rand(1, 1, 1, 1)
    found = dict(zip(NAMED, inside(ball(1e-3, pixel), np.ones(1), pixel)[:, 0], strict=True))
    assert found["rotation"] == 45.0 and found["scaling"] == 50.0 and found["shear"] == 45.0


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("event", [(1, 1, 2), (3, 4, 7), (1, 8, 8)])
def test_families_start_at_the_image(family, event):
    images = torch.rand(2, *event, generator=torch.Generator().manual_seed(0))
    found = family.variants(images, [family.limit * 1e-9, family.limit / 2, family.limit])
    assert found.shape[0] == 2 and found.shape[2:] == (3, *event)
    assert found.dtype == torch.float64 and bool(found.isfinite().all())
    start = images.double()[:, None].expand_as(found[:, :, 0])
    torch.testing.assert_close(found[:, :, 0], start, atol=1e-6, rtol=0)
    start = family.change(images.double(), torch.zeros(1, dtype=torch.float64))[:, :, 0]
    torch.testing.assert_close(
        start, images.double()[:, None].expand_as(start), atol=1e-13, rtol=0
    )


@pytest.mark.parametrize("name", [name for name in NAMED if name not in CURVED])
def test_smaller_changes_are_in_the_hull(name):
    """No linear function is larger at any of them."""
    t, images, changed = sample(name, colours=False)
    for most in NAMED[name].limit * np.array([0.1, 0.25, 0.6, 1.0]):
        hull = torch.cat([images.unsqueeze(1), NAMED[name].hull(images, most)], 1).flatten(2)
        functions = normal(D, 100, seed=4)
        highest = (hull @ functions).amax(1, keepdim=True)  # (B, m, d) @ (d, 100)
        assert bool((changed[:, t <= most].flatten(2) @ functions <= highest + 1e-12).all())


def test_hulls_have_no_more_images_than_they_need():
    images = COLOURS
    sizes = {t: NAMED["shift"].hull(images, t).shape[1] for t in (0.3, 1.0, 1.5, 4.0)}
    assert sizes == {0.3: 8, 1.0: 8, 1.5: 24, 4.0: 80}
    for name in ("brightness", "contrast"):
        wanted = NAMED[name].variants(images, [0.3])[:, :, 0]
        torch.testing.assert_close(NAMED[name].hull(images, 0.3), wanted)
    wanted = NAMED["rotation"].variants(images, [1.0, 2.0, 3.0]).flatten(1, 2)
    torch.testing.assert_close(NAMED["rotation"].hull(images, 3.0, steps=3), wanted)
    assert NAMED["blur"].hull(images, 1.0).shape == (2, 6, 3, 7, 4)


def test_whole_shifts_move_pixels_and_black_comes_in():
    image = IMAGES[:1].double()
    found = NAMED["shift"].variants(image, [1.0])[0, :, 0, 0]
    shifts = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y]
    framed = torch.nn.functional.pad(image[0, 0], (1, 1, 1, 1))
    for one, (x, y) in zip(found, shifts, strict=True):
        wanted = framed.roll((y, x), (0, 1))[1:-1, 1:-1]
        torch.testing.assert_close(one, wanted, atol=1e-13, rtol=0)


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
    for ask in (
        lambda: NAMED["rotation"].variants(IMAGES, [t]),
        lambda: NAMED["rotation"].hull(IMAGES, t),
    ):
        with pytest.raises(
            ValueError, match=r"rotation must be above 0 and at most 45 degrees, got"
        ):
            ask()
    with pytest.raises(ValueError, match=r"shift must be above 0 and at most 4 pixels, got"):
        NAMED["shift"].hull(IMAGES, t)


def test_what_does_not_fit_together_is_refused():
    for noise, images in ((ball(1.0), IMAGES[:2]), (ball(1.0, IMAGES[..., 1:]), IMAGES)):
        with pytest.raises(ValueError, match=r"noise, radius and images \(B, C, H, W\) must fit"):
            inside(noise, np.ones(3), images)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\), got \(3, 30\)"):
        NAMED["blur"].variants(IMAGES.flatten(1), [1.0])

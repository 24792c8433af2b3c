"""Sizes of fitted regions: the cap, the limits, the multiple, and an SVD that fails."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, linalg, nn

from rddrs_dist import RDDRSTR, Context, Neighbours, Streams
from rddrs_dist.methods import region_size
from rddrs_dist.methods.region_size import capped_by_eigenvalues, capped_by_products
from tests.oracles import Linear, random_spd, spread, with_axes

EVENT, D = (1, 2, 3), 6
IMAGES = torch.zeros(2, *EVENT)
CLASSES = torch.tensor([0, 1])
SCALE = random_spd(2, D, 3).float() * 2
METHOD = RDDRSTR(blindness=1.0, compare_samples=4000, neighbour_margin=1.0)
COARSE = METHOD.coarse_multiples
ONE = torch.eye(D).expand(2, -1, -1)
FIRST = torch.zeros(2, dtype=torch.int64)
CONTEXT = Context(0.25, Streams.of(0, range(2)))


def bounded(
    scale: Tensor,
    radius: list[float],
    neighbours: Neighbours | None = None,
    margin: float = 1.0,
    farthest: float = 10.0,
) -> tuple[Tensor, NDArray[np.float64]]:
    at = np.array(radius)
    return region_size.bounded(scale, IMAGES, CLASSES, neighbours, at, margin, farthest)


def test_long_axes_are_cut_at_the_radius_of_their_image_and_short_ones_stay():
    caps = math.sqrt(D) / torch.tensor([[1.5], [3.0]])
    cut, limits = bounded(SCALE, [1.5, 3.0])
    expected = torch.minimum(linalg.svdvals(SCALE), caps)
    assert (linalg.svdvals(SCALE) > caps).any(1).all()
    torch.testing.assert_close(linalg.svdvals(cut), expected)
    # A rotation from the right is no change of the noise, and none is made.
    product = linalg.solve(SCALE, cut)
    torch.testing.assert_close(product, product.mT, atol=1e-5, rtol=1e-5)
    assert limits == pytest.approx(math.sqrt(D) / expected[:, 0].numpy())


def test_equal_axes_are_no_trouble():
    """Many axes at the cap: an SVD in single precision may not converge there."""
    cut, limits = bounded(100 * ONE, [1.5, 1.5])
    torch.testing.assert_close(cut, math.sqrt(D) / 1.5 * ONE)
    assert limits == pytest.approx([1.5, 1.5])


def test_other_labels_are_kept_out_of_the_region_and_its_margin_and_limit_the_radius():
    point = torch.tensor([0.3, 0.0, 0.0, 0.0, 0.0, 0.0]).view(1, *EVENT)
    small = 0.3 * SCALE  # all axes inside the domain
    free, wide = bounded(small, [1.0, 1.0], margin=2.0)
    before = linalg.solve(free[0].double(), point.flatten().double()).norm()
    assert float(before) < 2.0
    known = Neighbours(point, torch.tensor([1]))  # another label for the first image alone
    kept, limits = bounded(small, [1.0, 1.0], known, margin=2.0)
    after = linalg.solve(kept[0].double(), point.flatten().double()).norm()
    assert 2.0 < float(after) < 2.01
    assert limits[0] == pytest.approx(float(after) / 2, rel=1e-6) and limits[0] < wide[0]
    assert torch.equal(kept[1], free[1]) and limits[1] == wide[1]


def test_a_twin_with_another_label_is_passed_over():
    """A training image equal to the test image can be kept out by nothing."""
    twin = Neighbours(IMAGES[:1], torch.tensor([1]))
    (kept, limits), (free, wide) = (bounded(SCALE, [1.0, 1.0], known) for known in (twin, None))
    assert torch.equal(kept, free) and limits.tolist() == wide.tolist()


def test_no_region_goes_farther_than_training_images_are_looked_for():
    far = Neighbours(torch.full((1, *EVENT), 1e3), torch.tensor([2]))
    free, limits = (
        bounded(0.1 * ONE, [1.0, 2.0], known, farthest=1.5)[1] for known in (None, far)
    )
    assert (free > 20).all() and limits.tolist() == [1.5, 3.0]


class Homogeneous(nn.Module):
    """Class 0 where |u_0| is a third of |u_1| at least: as often at any size of noise."""

    radius = NormalDist().inv_cdf(2 / math.pi * math.atan(3))

    def forward(self, images: Tensor) -> Tensor:
        first, second = images.flatten(1)[:, :2].abs().T
        return torch.stack([3 * first, second], 1)


def likely(radii: list[NDArray[np.float64]], limits: list[float]) -> NDArray[np.float64]:
    return region_size.likely_multiple(COARSE, radii, np.array(limits))


def falling(slope: float) -> list[NDArray[np.float64]]:
    """Radii of 1 at a multiple of 1, in proportion to k^slope."""
    return [np.full(1, value) for value in np.array(COARSE) ** slope]


@pytest.mark.parametrize("factor", [0.1, 0.6, 1.7, 3.2, 25.0, 90.0])
def test_the_likely_multiple_is_the_smallest_that_reaches_the_limit(factor):
    (found,) = likely(falling(0), [factor])
    assert found == pytest.approx(np.clip(factor, COARSE[0], COARSE[-1]), rel=0.03)
    # Where the radius falls fast, the smallest of all.
    assert likely(falling(-2), [factor]) == pytest.approx(COARSE[0], rel=0.03)


def test_in_a_valley_the_likely_multiple_is_at_its_higher_side():
    """k r(k) rises to 1 at 1, falls, and rises again to 1.5 at the end."""
    heights = np.interp(np.log(COARSE), np.log([0.5, 1, 4, 32]), [0.5, 1, 0.2, 1.5])
    found = [np.full(2, height / k) for height, k in zip(heights, COARSE, strict=True)]
    first, second = likely(found, [0.9, 2.0])
    assert 0.8 < first < 1 and second == pytest.approx(32)


def sized(limits: float, method: RDDRSTR = METHOD) -> region_size.Sized:
    """Two images, a scale of I, and class 0."""
    return region_size.best_multiple(
        Homogeneous(), IMAGES, ONE, np.full(2, limits), FIRST, CONTEXT, method
    )


def test_where_the_second_look_is_worse_the_first_has_the_word():
    found = sized(1.2 * Homogeneous.radius, replace(METHOD, fine_multiples=(0.1,)))
    assert linalg.matrix_norm(found.scale, 2).tolist() == pytest.approx([2.0, 2.0])
    assert found.limit * 2 == pytest.approx(1.2 * Homogeneous.radius, rel=2e-4)


@pytest.mark.parametrize("limit", [0.7, 3.0, 20.0])
def test_the_multiple_is_the_smallest_with_which_the_limit_is_surely_reached(limit):
    found = sized(limit)
    room = Homogeneous.radius / found.limit
    assert ((room > 1) & (room < 1.25)).all()
    # k S and the limit over k: the region is that of S with its limit, and never more.
    reach = linalg.matrix_norm(found.scale.double(), 2).numpy() * found.limit
    assert (reach < limit).all() and reach == pytest.approx(limit, rel=2e-4)


def fitted(
    model: nn.Module, scale: Tensor, radius: float, images: Tensor = IMAGES
) -> region_size.Sized:
    """With semi-axes cut at the domain for this radius, at least."""
    method = replace(METHOD, target=NormalDist().cdf(METHOD.domain_share * radius))
    return region_size.sized_region(model, images, scale, FIRST, CONTEXT, method)


def test_noise_that_nothing_holds_is_that_of_rs_without_a_limit():
    class Narrow(nn.Module):
        """Class 0 where all pixels are within one."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([torch.ones(len(images)), images.flatten(1).abs().amax(1)], 1)

    found = fitted(Narrow(), 50 * ONE, 0.05)
    assert linalg.matrix_norm(found.scale, 2).tolist() == pytest.approx([0.25, 0.25])
    assert found.limit.tolist() == [math.inf] * 2


def test_where_a_rounder_region_does_not_hold_the_sure_one_is_taken():
    """Before a plane k r(k) is the same at all k: a rounder region only has shorter axes."""
    distance, towards = 0.5, torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
    scale = torch.diag(torch.tensor([5.0] * 5 + [distance / 1.8])).expand(2, -1, -1)
    found = fitted(Linear(towards), scale, 1.0, IMAGES + distance * towards.view(EVENT))
    semi_axes = linalg.svdvals(found.scale.double()).numpy() * found.radius[:, None]
    assert (semi_axes[:, :5] > 0.85 * math.sqrt(D)).all()
    assert (semi_axes[:, 5] > 0.85 * distance).all() and (semi_axes[:, 5] < distance).all()


@pytest.mark.parametrize("size", [0.2, 1.0, 5.0])
def test_a_region_fills_the_domain_whatever_the_size_of_the_fit(size):
    found = fitted(Homogeneous(), size * ONE, 0.5)
    assert (found.limit < Homogeneous.radius).all()
    semi_axes = found.limit * linalg.matrix_norm(found.scale.double(), 2).numpy()
    assert (semi_axes <= math.sqrt(D)).all() and semi_axes == pytest.approx(math.sqrt(D), rel=2e-4)


MANY = 40
CAPS = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)


def scales(widest: float) -> Tensor:
    """(3, MANY, MANY) with axes from 0.01 to a widest one, many of them equal."""
    return with_axes(spread(1e-2, 1, MANY).clamp_max(0.7) / 0.7 * widest, 3, seed=0)


@pytest.mark.parametrize("widest", [0.3, 3.0, 20.0])
def test_products_cut_what_eigenvalues_cut(widest):
    first, second = (
        capped_by_eigenvalues(scales(widest), CAPS),
        capped_by_products(scales(widest), CAPS),
    )
    one = torch.eye(MANY, dtype=torch.float64).expand(3, -1, -1)
    for cut in (first, second):
        torch.testing.assert_close(cut.turn @ cut.whitening.mT @ cut.scale, one, atol=1e-8, rtol=0)
        torch.testing.assert_close(cut.turn @ cut.turn.mT, one)
        norm = linalg.matrix_norm(cut.scale, 2)
        torch.testing.assert_close(norm, cut.widest, rtol=1e-4, atol=0)
        assert (cut.widest <= CAPS).all()
        # Few are near along the first columns: these are the narrowest axes, or near to them.
        lengths = cut.whitening.norm(dim=1)
        assert (lengths[:, :-1] >= lengths[:, 1:] * (1 - 1e-9)).all()
    covariances = [cut.scale @ cut.scale.mT for cut in (first, second)]
    torch.testing.assert_close(covariances[1], covariances[0], rtol=1e-5, atol=1e-5)
    assert not second.scale.triu(1).any()


def test_a_scale_too_flat_for_its_square_is_capped_by_eigenvalues_and_no_other():
    flat = with_axes(spread(1, 1e-20, MANY), 3, seed=1)
    mixed = torch.cat([scales(3.0)[:1], flat[1:]])
    found, alone = capped_by_products(mixed, CAPS), capped_by_products(mixed[:1], CAPS[:1])
    wanted = capped_by_eigenvalues(mixed[1:], CAPS[1:])
    for part, own, other in zip(found, alone, wanted, strict=True):
        torch.testing.assert_close(part[:1], own)
        assert torch.equal(part[1:], other)

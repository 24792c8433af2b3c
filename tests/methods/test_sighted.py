"""RDDRS-TR with open eyes: what it holds at the image, at other images, and around the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from rddrs_dist import Budget, Context, IsotropicNoise, Neighbours, Streams, certify
from rddrs_dist.methods import RDDRSTR, Fit
from rddrs_dist.methods.sighted import kept_between, others_of
from rddrs_dist.methods.trust_region import narrowed, narrowed_to
from rddrs_dist.sight import blind_samples, fitted
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.batching import UNBOUNDED
from rddrs_dist.smoothing.curvature import Curvature
from tests.oracles import Linear, random_symmetric, with_axes

EVENT, D = (1, 2, 4), 8
W = torch.zeros(D)
W[0] = 1.0
MODEL = Linear(W, temperature=0.02)
# Class 0 is a half space; the images are inside by these distances, all of class 1 outside by 0.2.
DISTANCE = np.array([0.6, 0.15])
AWAY = 0.2
IMAGES = (torch.from_numpy(DISTANCE).float()[:, None] * W).view(2, *EVENT)
STREAMS = Streams.of(0, [0, 1])
METHOD = RDDRSTR(sighted_steps=20)


def training(count: int = 400) -> Neighbours:
    """Images of class 1 at one distance from the boundary, and as many of class 0."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(2 * count, D, generator=generator)
    flat[:, 0] = torch.where(torch.arange(2 * count) % 4 < 2, -AWAY, 0.4)
    labels = (torch.arange(2 * count) % 4 < 2).long()
    return Neighbours(flat.view(-1, *EVENT), labels)


CONTEXT = Context(0.1, STREAMS, neighbours=training())


def blindness(fit: Fit) -> np.ndarray:
    """Exactly, from the standard deviation across the boundary."""
    across = fit.noise.covariance()[:, 0, 0].sqrt().numpy()
    return norm.sf(AWAY / across)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return METHOD.fit(MODEL, IMAGES, CONTEXT)


def test_it_sees_and_the_method_of_0_7_0_does_not(fit):
    assert (blindness(fit) < METHOD.blindness).all()
    old = replace(METHOD, blindness=1.0).fit(MODEL, IMAGES, CONTEXT)
    assert blindness(old)[0] > 2 * METHOD.blindness
    found = certify(MODEL, IMAGES, fit, Budget(n=1000), STREAMS).region
    blind, drawn = blind_samples(MODEL, fit.noise, found.prediction, training(), 2000, STREAMS)
    assert drawn.tolist() == [2000, 2000] and (blind / drawn < METHOD.blindness).all()


def test_its_region_holds_the_best_ball_and_is_larger(fit):
    budget = Budget(n=20_000)
    found = certify(MODEL, IMAGES, fit, budget, STREAMS).region
    reach = found.support(W.expand(2, D).view(2, *EVENT))
    assert (reach <= DISTANCE).all()  # the boundary is where it is
    for sigma in (0.02, 0.04, 0.06, 0.08, 0.1):
        ball = Fit.of(IsotropicNoise.constant(sigma, IMAGES))
        round_ = certify(MODEL, IMAGES, ball, budget, STREAMS).region
        assert (found.l2_radius >= 0.9 * round_.l2_radius).all()
        assert (found.proxy_radius > 1.3 * round_.proxy_radius).all()


def test_a_smaller_blindness_gives_smaller_regions(fit):
    tight = replace(METHOD, blindness=0.002).fit(MODEL, IMAGES, CONTEXT)
    assert blindness(tight)[0] < 0.002
    across = [one.noise.covariance()[0, 0, 0] for one in (tight, fit)]
    assert across[0] < 0.8 * across[1]


def test_it_repeats_itself_and_does_not_depend_on_company(fit):
    again = METHOD.fit(MODEL, IMAGES, CONTEXT)
    assert torch.equal(again.noise.scale, fit.noise.scale)
    alone = METHOD.fit(MODEL, IMAGES[1:], CONTEXT[1:]).noise.scale
    torch.testing.assert_close(alone, fit.noise.scale[1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("neighbours", [None, Neighbours(IMAGES, torch.tensor([0, 0]))])
def test_without_images_of_other_labels_the_ball_is_held_alone(neighbours):
    context = replace(CONTEXT, neighbours=neighbours)
    assert others_of(torch.tensor([0, 0]), context) is None
    fit = METHOD.fit(MODEL, IMAGES, context)
    found = certify(MODEL, IMAGES, fit, Budget(n=10_000), STREAMS).region
    assert (found.proxy_radius > found.l2_radius).all() and found.prediction.tolist() == [0, 0]


def test_an_image_that_nothing_holds_keeps_a_round_noise():
    images = torch.zeros(1, *EVENT)
    fit = METHOD.fit(MODEL, images, CONTEXT[:1])
    axes = fit.noise.axes[0]
    torch.testing.assert_close(axes, axes[:1].expand(D), rtol=1e-5, atol=0)
    assert 0 < float(axes[0]) < 0.1


def test_a_constant_network_is_blind_and_gets_a_noise_all_the_same():
    constant = Linear(torch.zeros(D), b=-1.0)
    fit = METHOD.fit(constant, IMAGES, CONTEXT)
    known, streams = training(), STREAMS
    blind, drawn = blind_samples(constant, fit.noise, np.zeros(2, int), known, 100, streams)
    assert (blind == drawn).all() and bool(torch.isfinite(fit.noise.scale).all())


def test_others_have_another_label_and_never_measure():
    labels = torch.arange(12) // 2 % 3
    images = torch.arange(12.0).view(12, 1, 1, 1).expand(12, *EVENT)
    context = replace(CONTEXT, neighbours=Neighbours(images, labels))
    others = others_of(torch.tensor([0, 2]), context)
    assert others is not None
    around = others.images[others.chosen(Stage.FIT, 5, 200)][..., 0, 0, 0].long()
    assert around.shape == (2, 200)
    half = fitted(12)
    for own, label in zip(around, (0, 2), strict=True):
        assert set(own.tolist()) == set(half[labels[half] != label].tolist())


def test_blindness_of_others_is_the_closed_form():
    others = others_of(torch.tensor([0, 0]), CONTEXT)
    assert others is not None
    wide, given = IsotropicNoise.constant(0.2, IMAGES), (20_000, Stage.COMPARE, 4, UNBOUNDED)
    found = others.blind(MODEL, wide, *given, IMAGES[:1]) / 20_000
    np.testing.assert_allclose(found, norm.sf(1.0), atol=4 * (0.16 * 0.84 / 20_000) ** 0.5)


def test_axes_are_kept_between_floor_and_cap_and_directions_stay():
    axes = torch.tensor([0.01, 0.1, 0.1, 0.1, 0.5, 1.0, 3.0, 9.0], dtype=torch.float64)
    scale = with_axes(axes, 2, 0)
    floor = torch.tensor([0.1, 0.2], dtype=torch.float64)
    one, half = kept_between(scale, (1.0, 0.5), floor, 4.0)
    for (kept, logdet), factor in ((one, 1.0), (half, 0.5)):
        expected = torch.maximum(factor * axes, floor[:, None]).clamp(max=4.0)
        found = torch.linalg.svdvals(kept).flip(-1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(logdet, expected.log().sum(1))
    before, after = (own.mT @ own for own in (scale, one[0]))
    torch.testing.assert_close(before @ after, after @ before)  # the same eigenvectors


def test_narrowing_stops_at_the_floor():
    scale, basis = torch.eye(D, dtype=torch.float64)[None], torch.eye(D, dtype=torch.float64)[None]
    seen = Curvature(basis, random_symmetric(1, D, 3), 1e6 * basis)
    free, _ = narrowed(scale, seen, 0.003, 0.35)
    none = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(narrowed_to(scale, seen, 0.003, 0.35, none)[0], free)
    held, lost = narrowed_to(scale, seen, 0.003, 0.35, none + 0.9)
    axes = torch.linalg.svdvals(free).flip(-1).clamp(0.9, 1)
    torch.testing.assert_close(lost, axes.log().sum(1))
    torch.testing.assert_close(torch.linalg.svdvals(held).flip(-1), axes)
    assert float(torch.linalg.svdvals(free).min()) < 0.9

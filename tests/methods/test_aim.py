"""Aimed noise: its weights against a convex solver, its search against exact answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm

from rddrs_dist import Aim, Budget, Context, Neighbours, Streams, certify
from rddrs_dist.families import FAMILIES, inside
from rddrs_dist.methods import Status
from rddrs_dist.methods.aim import aimed_weights
from tests.oracles import Linear, normal

EVENT, D = (1, 6, 6), 36
W = torch.zeros(D)
W[7], W[8] = 1.0, -1.0
MODEL = Linear(W, temperature=0.02)
# The margins of two images of class 0, in pixels from the boundary.
IMAGES = torch.rand(2, *EVENT, generator=torch.Generator().manual_seed(3)) * 0.4
IMAGES.view(2, D)[:, 7] = torch.tensor([1.0, 0.7])
IMAGES.view(2, D)[:, 8] = torch.tensor([0.0, 0.3])
STREAMS = Streams.of(0, [0, 1])
SIGMA = 0.1
CONTEXT = Context(SIGMA, STREAMS, n=10_000, alpha=0.01)
BRIGHT = Aim(brightness=0.2, samples=400, sight_samples=400)


def training(away: float) -> Neighbours:
    """Images of class 1 at a distance from the boundary, and as many of class 0."""
    flat = torch.rand(400, D, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(400) % 4 < 2).long()
    flat[:, 8] = flat[:, 7] + torch.where(labels == 1, away, -1.0) * 2**0.5
    return Neighbours(flat.view(-1, *EVENT), labels)


@pytest.mark.parametrize(("k", "s", "radius"), [(1, 0.3, 2.0), (5, 0.3, 2.0), (9, 0.05, 3.5)])
def test_weights_are_those_of_the_nearest_noise(k: int, s: float, radius: float):
    """The same convex problem in X = C^-1, of few dimensions, by another solver."""
    d, secants = 4, normal(k, 4, seed=k)
    weights = aimed_weights(secants, s, radius)
    assert (weights >= 0).all()
    covariance = s**2 * torch.eye(d).double() + (secants.mT * weights) @ secants
    lengths = torch.einsum("ki,ij,kj->k", secants, covariance.inverse(), secants).sqrt()
    assert lengths.max() <= radius * (1 + 1e-3)
    lower = np.tril_indices(d)

    def root(values: np.ndarray) -> np.ndarray:
        found = np.zeros((d, d))
        found[lower] = values
        return found

    def entropy(values: np.ndarray) -> float:
        own = root(values)
        return s**2 * float((own**2).sum()) - 2 * float(np.log(np.abs(np.diag(own))).sum())

    def room(values: np.ndarray) -> np.ndarray:
        return radius**2 - ((secants.numpy() @ root(values)) ** 2).sum(1)

    start = np.linalg.cholesky(covariance.inverse().numpy() * 0.5)[lower]
    best = minimize(entropy, start, method="SLSQP", constraints={"type": "ineq", "fun": room},
                    options={"maxiter": 2000, "ftol": 1e-12})  # fmt: skip
    own = s**2 * covariance.inverse().trace() + torch.logdet(covariance)
    assert float(own) == pytest.approx(best.fun, abs=2e-3)


def test_zero_and_repeated_secants_change_nothing():
    secants = normal(3, 6, seed=1)
    more = torch.cat([secants, -secants, torch.zeros(2, 6).double()])
    few, many = aimed_weights(secants, 0.2, 2.0), aimed_weights(more, 0.2, 2.0)
    assert (many[6:] == 0).all()
    torch.testing.assert_close(many[:3] + many[3:6], few, rtol=1e-2, atol=1e-3)


def test_short_secants_are_held_by_the_noise_as_it_is():
    assert (aimed_weights(0.1 * normal(4, 6, seed=1), 0.5, 3.0) == 0).all()


def test_a_noise_holds_what_it_was_made_for_and_no_axis_is_below_s():
    method = Aim(rotation=20.0, shift=0.5, brightness=0.1)
    taus, radii = np.array([1.0, 0.4]), np.array([2.0, 3.0])
    noise = method.noise(IMAGES, 0.2, taus, radii * (1 - method.slack))
    assert (
        noise.scale.shape[1] < 1 + D * D and (noise.min_axis == torch.tensor(0.2).double()).all()
    )
    held = method.multiple(inside(noise, radii, IMAGES))
    assert (held >= taus).all() and held[1] < 0.8


def test_what_the_gradient_of_a_linear_network_does_not_see_is_held_for_nothing():
    """Brightness changes both pixels alike: the network does not notice, p stays what it was."""
    fit = BRIGHT.fit(MODEL, IMAGES, CONTEXT)
    assert list(fit.status) == [Status.CONVERGED] * 2 and (fit.objective == 1).all()
    found = certify(MODEL, IMAGES, fit, Budget(n=10_000, alpha=0.01), STREAMS).region
    held = inside(fit.noise, found.radius, IMAGES)
    assert (BRIGHT.multiple(held) == 1).all()
    across = (fit.noise.covariance() @ W.double() @ W.double()).sqrt().numpy()
    margin = MODEL.margin(IMAGES).numpy()
    np.testing.assert_allclose(across, SIGMA * 2**0.5, rtol=1e-5)
    assert (found.radius <= margin / across).all()


def test_s_is_halved_where_it_is_what_stands_in_the_way():
    """A wide s is blind whatever the reach; half of it sees."""
    context = replace(CONTEXT, sigma=0.45, neighbours=training(0.6))
    wide, both = (
        replace(BRIGHT, multiples=multiples).fit(MODEL, IMAGES, context)
        for multiples in ((1.0,), (1.0, 0.5))
    )
    assert list(wide.status) == [Status.BLIND] * 2
    assert list(both.status) == [Status.CONVERGED] * 2 and (both.objective == 1).all()
    assert both.noise.scale[:, 0].tolist() == pytest.approx([0.225] * 2)


@pytest.mark.parametrize("away", [0.3, 0.6])
def test_sight_ends_the_reach(away: float):
    """A contrast of the images moves others across the boundary; exactly how often is known."""
    method = Aim(contrast=100.0, samples=2000, sight_samples=2000)
    known = training(away)
    fit = method.fit(MODEL, IMAGES, replace(CONTEXT, neighbours=known))
    across = (fit.noise.covariance() @ W.double() @ W.double()).sqrt().numpy()
    blindness = norm.sf(away * 2**0.5 / across)
    assert (blindness < 1.3 * method.aimed_share * method.blindness).all()
    free = method.fit(MODEL, IMAGES, CONTEXT)
    assert (fit.objective <= 1.02 * free.objective).all()
    if away == 0.3:
        assert fit.objective[0] < 0.9 * free.objective[0]
        assert blindness[0] > 0.3 * method.aimed_share * method.blindness


def test_a_network_that_sees_nothing_says_so():
    """Training images of the other label lie on the boundary."""
    fit = BRIGHT.fit(MODEL, IMAGES, replace(CONTEXT, neighbours=training(0.0)))
    assert list(fit.status) == [Status.BLIND] * 2


def test_images_do_not_depend_on_their_company():
    whole = BRIGHT.fit(MODEL, IMAGES, CONTEXT)
    alone = BRIGHT.fit(MODEL, IMAGES[1:], CONTEXT[1:])
    own, width = whole.noise.scale[1], alone.noise.scale.shape[1]
    assert torch.equal(own[:width], alone.noise.scale[0]) and not own[width:].any()


def test_nothing_named_is_a_rotation_and_what_cannot_be_is_refused():
    assert {one.name: a for one, a in Aim().amounts.items()} == {"rotation": 10.0}
    assert {one.name: a for one, a in Aim(shift=1.0).amounts.items()} == {"shift": 1.0}
    for bad in (-1.0, 180.0, float("nan")):
        with pytest.raises(ValueError, match=r"aim.rotation must be 0, or up to 45 degrees"):
            Aim(rotation=bad)
    with pytest.raises(ValueError, match=r"aim.multiples must descend"):
        Aim(multiples=(0.5, 1.0))


def test_the_multiple_is_the_least_share_and_never_above_it():
    method = Aim(rotation=10.0, shift=0.3)
    held = np.zeros((len(FAMILIES), 3))
    names = [one.name for one in FAMILIES]
    held[names.index("rotation")] = [12.0, 3.0, 10.0]
    held[names.index("shift")] = [0.1, 0.3, 0.3]
    found = method.multiple(held)
    assert found[2] == 1.0 and found[1] < 0.3
    np.testing.assert_allclose(found, [1 / 3, 0.3, 1.0], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_image_can_be_asked_about(value: float):
    """Contrast changes nothing of it, rotation its corners alone."""
    images = torch.full((1, *EVENT), value)
    method = replace(BRIGHT, rotation=10.0, contrast=20.0)
    fit = method.fit(MODEL, images, CONTEXT[:1])
    assert fit.noise.scale.isfinite().all()


def test_training_noise_moves_images_along_what_is_named():
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([BRIGHT.training_noise(IMAGES, generator) for _ in range(2000)])
    assert found.shape == (2000, *IMAGES.shape) and found.dtype == IMAGES.dtype
    flat = found.flatten(2)
    torch.testing.assert_close(flat, flat[..., :1].expand_as(flat))
    # tau is uniform, so that its mean square is 1/3.
    assert float(flat[..., 0].std()) == pytest.approx(0.2 / 3 / 3**0.5, rel=0.1)

"""RDDRS-TR: its climb to a known optimum, its bounds and its margin."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, linalg, nn

from rddrs_dist import ABSTAIN, Budget, IsotropicNoise, Neighbours, Region, Streams, certify
from rddrs_dist.methods import RDDRSTR, Context, Fit, Status
from rddrs_dist.methods.trust_region import narrowed
from rddrs_dist.region import diameter
from rddrs_dist.smoothing.curvature import Curvature
from tests.oracles import Linear, random_symmetric, rotation_matrix

EVENT, D = (1, 2, 4), 8
W = torch.tensor([2.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.5])
MODEL = Linear(W, temperature=0.02)
IMAGES = torch.stack([0.3 * W / W.norm(), -0.6 * W / W.norm()]).view(2, *EVENT)
DISTANCE = np.array([0.3, 0.6])
CONTEXT = Context(0.1, Streams.of(0, [0, 1]))
METHOD = RDDRSTR(blindness=1.0)
# The best region that keeps to the domain: its diameter across w, the boundary along w.
OPTIMUM = (math.sqrt(D) ** (D - 1) * DISTANCE) ** (1 / D)


def graded(fit: Fit, images: Tensor = IMAGES, n: int = 20_000, model: nn.Module = MODEL) -> Region:
    """What is certified of a fit."""
    return certify(model, images, fit, Budget(n=n), Streams.of(0, range(len(images)))).region


@pytest.fixture(scope="module")
def fit() -> Fit:
    return METHOD.fit(MODEL, IMAGES, CONTEXT)


def test_it_climbs_to_the_known_optimum(fit):
    found = graded(fit)
    assert (found.proxy_radius <= OPTIMUM).all() and (found.radius <= fit.limit).all()
    # A tenth is kept as a margin, the rest is the confidence bound.
    assert (found.proxy_radius > 0.75 * OPTIMUM).all()
    assert fit.status == [Status.CONVERGED] * 2


def test_every_few_steps_are_a_gain():
    proxies = [
        replace(METHOD, steps=steps, patience=99).fit(MODEL, IMAGES, CONTEXT).objective
        for steps in (1, 4, 7, 10)
    ]
    assert (np.diff(proxies, axis=0) > 0.1).all()
    assert (np.exp(proxies[-1]) > 2 * np.exp(proxies[0])).all()


def test_no_axis_leaves_the_domain(fit):
    found = graded(fit, n=200_000)
    assert (found.radius * found.max_axis <= diameter(found.dimension)).all()


def test_other_labels_are_kept_out(fit):
    """Points that the free region would hold end outside, and the certificate still holds."""
    across = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]).view(EVENT)
    points = torch.stack([IMAGES[0] + 0.5 * across, IMAGES[0] - 0.7 * across, IMAGES[1]])
    known = Neighbours(points, torch.tensor([1, 1, 0]))
    held = METHOD.fit(MODEL, IMAGES, replace(CONTEXT, neighbours=known))
    free, found = graded(fit), graded(held)
    assert known.inside(free) == [2, 1]
    assert known.inside(found) == [0, 1]  # the twin of an image can be kept out by nothing
    assert free.prediction.tolist() == found.prediction.tolist() == [0, 1]
    # Only the direction of the points was given up.
    assert found.proxy_radius[0] > 0.6 * OPTIMUM[0]


def test_an_image_that_nothing_holds_falls_back_to_sigma():
    """On the boundary no noise has a majority; what is left is the noise of the network."""
    images = torch.zeros(1, *EVENT)
    context = Context(0.1, Streams.of(0, [0]))
    fit = replace(METHOD, steps=3).fit(MODEL, images, context)
    torch.testing.assert_close(fit.noise.scale[0], 0.1 * torch.eye(D))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_growth_stops_at_the_cap_and_at_the_target(share):
    """An axis grows by e^a far below the cap, by nothing at it, and never beyond."""
    cap = METHOD._cap(torch.eye(D))
    scale = torch.diag(torch.full((D,), share * cap)).unsqueeze(0)
    grown, widest, _ = METHOD._grow(scale, torch.tensor([share * cap]), torch.tensor([2.0]))
    assert float(grown[0, 0, 0]) <= cap * (1 + 1e-6)
    rate = METHOD.growth
    held = 0.0 if share < 0.3 else 1 - math.exp(-rate)
    expected = cap * share * math.exp(rate) * (1 - held * share**2)
    for found in (grown[0, 0, 0], widest[0]):
        assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    same, widest, gain = METHOD._grow(scale, torch.tensor([share * cap]), torch.zeros(1))
    torch.testing.assert_close(same, scale)
    assert widest.tolist() == pytest.approx([share * cap]) and gain.tolist() == [0.0]


def test_log_det_follows_from_traces():
    """Growth and narrowing say by how much they moved log det, without a decomposition."""
    cap = METHOD._cap(torch.eye(D))
    axes = cap * torch.linspace(0.05, 1, D)
    turn = rotation_matrix(D, 0)
    scale = (turn * axes @ turn.mT).unsqueeze(0).double()
    excess = torch.tensor([2.0], dtype=torch.float64)
    grown, _, gain = METHOD._grow(scale, axes[-1:].double(), excess)
    before, after = (linalg.slogdet(s).logabsdet for s in (scale, grown))
    torch.testing.assert_close(gain, after - before, atol=2e-3, rtol=0)
    bend = random_symmetric(1, D, 3)
    basis = torch.eye(D, dtype=torch.float64).unsqueeze(0)
    seen = Curvature(basis, bend, basis)
    shorter, loss = narrowed(scale, seen, METHOD.damping, METHOD.shrinkage)
    torch.testing.assert_close(loss, linalg.slogdet(shorter).logabsdet - before, atol=1e-6, rtol=0)
    assert float(loss) < 0


def test_only_directions_in_which_p_falls_are_narrowed():
    frame = rotation_matrix(D, 1).double().unsqueeze(0)
    values = torch.tensor([-3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 8.0], dtype=torch.float64)
    one = torch.eye(D, dtype=torch.float64).unsqueeze(0)
    seen = Curvature(one, (frame * values) @ frame.mT, one * 1e9)
    shorter, _ = narrowed(one, seen, METHOD.damping, METHOD.shrinkage)
    factors = (frame.mT @ shorter @ frame)[0].diagonal()
    # Damping with equal gradients in all directions scales all alike, and the unit takes it out.
    fall = (-values).clamp_min(0) / values.abs().mean()
    expected = torch.exp(-METHOD.shrinkage * fall / (1 + fall))
    torch.testing.assert_close(factors, expected, atol=1e-5, rtol=1e-5)


class Stripes(nn.Module):
    """Class 0 in a narrow slab around 0 along the first pixel, then 1 on one side, 2 on the other.

    With much noise 1 and 2 share the samples and neither has the majority; with little, 0 has it.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 3)."""
        along = images.flatten(1)[:, 0] / self.width
        return 20 * torch.stack([torch.full_like(along, 0.5), along - 0.5, -along - 0.5], 1)


def test_where_no_class_has_the_majority_the_widest_is_climbed_for():
    images = torch.zeros(1, *EVENT)
    model, context = Stripes(0.1), Context(0.5, Streams.of(0, [0]))
    at_sigma = Fit.of(IsotropicNoise.constant(0.5, images))
    assert graded(at_sigma, images, 5000, model).prediction == [ABSTAIN]
    found = graded(METHOD.fit(model, images, context), images, model=model)
    assert found.prediction == [0]
    assert found.proxy_radius > 1  # the slab lets seven of eight axes grow to the domain


def test_a_majority_at_sigma_is_kept_even_where_another_class_has_more_room():
    images = torch.zeros(1, *EVENT)
    images[0, 0, 0, 0] = 0.3  # outside a slab of half width 0.05, a little on the side of class 1
    fit = METHOD.fit(Stripes(0.1), images, Context(0.3, Streams.of(0, [0])))
    assert graded(fit, images, 5000, Stripes(0.1)).prediction == [1]

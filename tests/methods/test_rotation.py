"""Rotating data and network together: RDDRS follows exactly, ANCER cannot."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rddrs_dist import RDDRS, RDDRSTR, Ancer, Budget, Context, IsotropicNoise, Streams, certify
from tests.oracles import Linear, Rotated, rotate, rotation_matrix

EVENT, D = (1, 1, 4), 4
MODEL = Linear(torch.tensor([2.0, 0.0, 0.0, 0.0]), temperature=0.05)
IMAGES = torch.tensor([0.9, 0.1, 0.2, 0.3]).view(1, *EVENT)
Q = rotation_matrix(D, seed=4)
BUDGET = Budget(n=20_000)
FULL = RDDRS(step_lengths=(0.1,), steps=20, gradient_samples=2000)


@dataclass(frozen=True)
class RotatedStreams(Streams):
    """The same samples in rotated coordinates."""

    def normal(self, *key) -> Tensor:
        return rotate(super().normal(*key), Q)


def _context(streams: type[Streams]) -> Context:
    start = IsotropicNoise.constant(0.2, IMAGES)
    return Context(0.2, streams.of(0, [0]), sigma_star=start)


@pytest.mark.parametrize("method", [FULL, RDDRSTR(steps=16)], ids=["rddrs", "rddrs_tr"])
def test_rddrs_gives_the_rotated_region(method):
    """With rotated samples the whole computation turns: C -> Q C Q^T, and every size stays."""
    plain = method.fit(MODEL, IMAGES, _context(Streams))
    turned = method.fit(Rotated(MODEL, Q), rotate(IMAGES, Q), _context(RotatedStreams))
    expected = Q.double() @ plain.noise.covariance() @ Q.double().T
    torch.testing.assert_close(turned.noise.covariance(), expected, rtol=2e-3, atol=2e-3)
    first = certify(MODEL, IMAGES, plain.noise, BUDGET, _context(Streams).streams)
    second = certify(
        Rotated(MODEL, Q),
        rotate(IMAGES, Q),
        turned.noise,
        BUDGET,
        _context(RotatedStreams).streams,
    )
    assert first.proxy_radius[0] > 0.5
    assert second.proxy_radius[0] == pytest.approx(first.proxy_radius[0], rel=0.02)


def test_rddrs_does_not_care_about_the_axes_but_ancer_does():
    """The paper's motivation, with independent samples: one method is flat, the other is not."""
    sizes = {}
    for method in (
        RDDRS(step_lengths=(0.1,), steps=20, gradient_samples=2000),
        RDDRSTR(),
        Ancer(learning_rates=(0.04,)),
    ):
        for turned in (False, True):
            model = Rotated(MODEL, Q) if turned else MODEL
            images = rotate(IMAGES, Q) if turned else IMAGES
            fit = method.fit(model, images, _context(Streams))
            streams = _context(Streams).streams
            certificate = certify(model, images, fit.noise, BUDGET, streams, limit=fit.limit)
            sizes[method.name, turned] = certificate.proxy_radius[0]
    assert sizes["rddrs", True] == pytest.approx(sizes["rddrs", False], rel=0.1)
    assert sizes["rddrs_tr", True] == pytest.approx(sizes["rddrs_tr", False], rel=0.1)
    assert sizes["ancer", True] < 0.8 * sizes["ancer", False]

"""Rotating data and network together: RDDRS follows exactly, ANCER cannot."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rddrs_dist import (
    RDDRS,
    RDDRSTR,
    Ancer,
    Budget,
    Context,
    IsotropicNoise,
    Method,
    Region,
    Streams,
    certify,
)
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


def fitted(method: Method, turned: bool, streams: type[Streams] = Streams) -> Region:
    """The certified region of the image, or of the image turned in the turned network."""
    model = Rotated(MODEL, Q) if turned else MODEL
    images = rotate(IMAGES, Q) if turned else IMAGES
    start, own = IsotropicNoise.constant(0.2, images), streams.of(0, [0])
    fit = method.fit(model, images, Context(0.2, own, sigma_star=start))
    return certify(model, images, fit, BUDGET, own).region


@pytest.mark.parametrize("method", [FULL, RDDRSTR(steps=16)], ids=["rddrs", "rddrs_tr"])
def test_rddrs_gives_the_rotated_region(method):
    """With rotated samples the whole computation turns: C -> Q C Q^T, and every size stays."""
    plain, turned = fitted(method, False), fitted(method, True, RotatedStreams)
    expected = Q.double() @ plain.noise.covariance() @ Q.double().T
    torch.testing.assert_close(turned.noise.covariance(), expected, rtol=2e-3, atol=2e-3)
    assert plain.proxy_radius[0] > 0.5
    assert turned.proxy_radius[0] == pytest.approx(plain.proxy_radius[0], rel=0.02)


def test_rddrs_does_not_care_about_the_axes_but_ancer_does():
    """The paper's motivation, with independent samples: one method is flat, the other is not."""
    for method in (FULL, RDDRSTR(), Ancer(learning_rates=(0.04,))):
        plain, turned = (fitted(method, way).proxy_radius[0] for way in (False, True))
        if method.name == "ancer":
            assert turned < 0.8 * plain
        else:
            assert turned == pytest.approx(plain, rel=0.1)

"""The curvature of a class probability against one-dimensional quadrature."""

import numpy as np
import pytest
import torch

from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing import Streams
from rddrs_dist.smoothing.curvature import curvature
from tests.oracles import Linear

EVENT, D = (1, 1, 3), 3
W = torch.tensor([1.5, -0.5, 0.25])
MODEL = Linear(W, b=0.2, temperature=0.4)
IMAGES = torch.tensor([[0.6, 0.3, 0.9], [0.2, 0.8, 0.1]]).view(2, *EVENT)
SCALE = torch.tensor([[0.4, 0.1, 0.0], [-0.1, 0.6, 0.2], [0.05, 0.0, 0.3]])
NOISE = FullNoise(torch.stack([SCALE, 0.5 * SCALE.T]), EVENT)
CLASSES = torch.tensor([0, 1])


def _softmax_means(row: int) -> tuple[float, float, float]:
    """E F, E F'' and E F'^2 of the class's probability along the margin's standard deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    spread = float((NOISE.scale[row].T @ W).norm())
    u = (float(MODEL.margin(IMAGES)[row]) + spread * nodes) / MODEL.temperature
    f = 1 / (1 + np.exp(-u if CLASSES[row] == 0 else u))
    slope = f * (1 - f) / MODEL.temperature
    bend = f * (1 - f) * (1 - 2 * f) / MODEL.temperature**2
    return tuple(float((weights * values).sum()) for values in (f, bend, slope**2))


@pytest.mark.parametrize("row", [0, 1])
def test_estimates_agree_with_quadrature(row):
    seen = curvature(MODEL, IMAGES, NOISE, CLASSES, 200_000, Streams.of(0, [0, 1]), 0)
    p, bend, square = _softmax_means(row)
    normal = NOISE.scale[row].T @ W
    outer = torch.outer(normal, normal)
    assert float(seen.p[row]) == pytest.approx(p, abs=3e-3)
    torch.testing.assert_close(seen.hessian[row], bend * outer, atol=5e-3, rtol=0)
    torch.testing.assert_close(seen.gradients[row], square * outer, atol=3e-3, rtol=0)


def test_it_is_the_slope_of_the_probability():
    """S -> S expm(M / 2) moves p by <M, W> / 2: against a difference quotient, same samples."""
    streams, step = Streams.of(0, [0, 1]), 1e-2
    direction = torch.tensor([[0.3, 0.1, 0.0], [0.1, -0.2, 0.4], [0.0, 0.4, 0.1]])
    seen = curvature(MODEL, IMAGES, NOISE, CLASSES, 100_000, streams, 0)
    ends = [
        FullNoise(NOISE.scale @ torch.linalg.matrix_exp(sign * step * direction / 2), EVENT)
        for sign in (1, -1)
    ]
    high, low = (curvature(MODEL, IMAGES, end, CLASSES, 100_000, streams, 0).p for end in ends)
    slope = (seen.hessian * direction).sum((1, 2)) / 2
    torch.testing.assert_close((high - low) / (2 * step), slope, atol=3e-3, rtol=0)


def test_a_pair_cancels_a_constant_gradient():
    """Where the softmax is linear in x its Hessian is zero, and so is the estimate, exactly."""

    class Affine(torch.nn.Module):
        def forward(self, images):
            share = (0.5 + 1e-3 * images.flatten(1) @ W).clamp(0.01, 0.99)
            return torch.stack([share, 1 - share], 1).log()

    seen = curvature(Affine().eval(), IMAGES, NOISE, CLASSES, 200, Streams.of(0, [0, 1]), 0)
    assert float(seen.hessian.abs().max()) < 1e-8
    assert float(seen.gradients.abs().max()) > 1e-8

"""The curvature of a class probability against one-dimensional quadrature."""

import numpy as np
import pytest
import torch

from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing import Streams
from rddrs_dist.smoothing.curvature import Curvature, Slopes, Tempering, curvature, slopes
from tests.oracles import Linear, rotation_matrix

EVENT, D = (1, 1, 3), 3
W = torch.tensor([1.5, -0.5, 0.25])
MODEL = Linear(W, b=0.2, temperature=0.4)
IMAGES = torch.tensor([[0.6, 0.3, 0.9], [0.2, 0.8, 0.1]]).view(2, *EVENT)
SCALE = torch.tensor([[0.4, 0.1, 0.0], [-0.1, 0.6, 0.2], [0.05, 0.0, 0.3]])
NOISE = FullNoise(torch.stack([SCALE, 0.5 * SCALE.T]), EVENT)
CLASSES = torch.tensor([0, 1])
STREAMS = Streams.of(0, [0, 1])
ALL = Tempering(temperature=0.8, near=1.0)


def _draw(n: int, tempering: Tempering = ALL, model=MODEL, noise=NOISE, step=0) -> Slopes:
    return slopes(model, IMAGES[:, None], noise, CLASSES[:, None], n, tempering, STREAMS, step)


def _see(seen: Slopes, noise=NOISE, past: Curvature | None = None, memory: float = 0.0):
    """W and G, (B, d, d), from a basis of all directions."""
    probes = torch.randn(2, D, D, generator=torch.Generator().manual_seed(0))
    past = past or Curvature.blank(IMAGES, D)
    found = curvature(seen, noise.scale, past, memory, probes)
    turn = found.basis
    return turn @ found.hessian @ turn.mT, turn @ found.gradients @ turn.mT


def _tempered_means(row: int, temperature: float) -> tuple[float, float]:
    """E F'' and E F'^2 along the boundary's normal, F the softmax tempered by the spread."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    spread = float((NOISE.scale[row].T @ W).norm())
    width = temperature * spread
    u = (float(MODEL.margin(IMAGES)[row]) + spread * nodes) / width
    f = 1 / (1 + np.exp(-u if CLASSES[row] == 0 else u))
    slope = f * (1 - f) / width
    bend = f * (1 - f) * (1 - 2 * f) / width**2
    return float((weights * bend).sum()), float((weights * slope**2).sum())


@pytest.mark.parametrize("row", [0, 1])
def test_estimates_agree_with_quadrature(row):
    seen = _draw(200_000)
    hessian, gradients = _see(seen)
    spread = float((NOISE.scale[row].T @ W).norm())
    sign = 1 if CLASSES[row] == 0 else -1
    p = torch.special.ndtr(sign * MODEL.margin(IMAGES)[row] / spread)
    # The logits' temperature drops out: the softmax sees the margin in units of its own spread.
    bend, square = _tempered_means(row, ALL.temperature)
    outer = torch.outer(NOISE.scale[row].T @ W, NOISE.scale[row].T @ W)
    assert float(seen.p[row]) == pytest.approx(float(p), abs=3e-3)
    torch.testing.assert_close(hessian[row], bend * outer, atol=5e-3, rtol=0)
    torch.testing.assert_close(gradients[row], square * outer, atol=3e-3, rtol=0)


def test_the_sharpness_of_the_network_does_not_matter():
    sharp = Linear(W, b=0.2, temperature=0.4e-3)
    for one, other in zip(_see(_draw(2000)), _see(_draw(2000, model=sharp)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_samples_far_from_the_boundary_have_next_to_no_gradient():
    """At a low temperature half of the samples tell what all of them do."""
    some, every = (_draw(4000, Tempering(0.1, near)) for near in (0.5, 1.0))
    assert some.z.shape == (2, 2000, *EVENT[:0], D)
    assert torch.equal(some.p, every.p)
    for one, other in zip(_see(some), _see(every), strict=True):
        torch.testing.assert_close(one, other, atol=2e-2, rtol=2e-2)


def test_the_past_is_carried_from_basis_to_basis():
    """Two draws with half the weight each are the mean of both, in whatever basis they come."""
    first, second = _draw(2000), _draw(2000, step=1)
    turn = rotation_matrix(D, 3).expand(2, -1, -1)
    w, g = _see(first)
    past = Curvature(turn, turn.mT @ w @ turn, turn.mT @ g @ turn)
    found = _see(second, past=past, memory=0.5)
    expected = [(a + b) / 2 for a, b in zip((w, g), _see(second), strict=True)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_few_directions_hold_the_gradients_of_a_flat_boundary():
    """One direction is all that a linear network has, and one is found."""
    seen = _draw(2000)
    probes = torch.randn(2, 1, D, generator=torch.Generator().manual_seed(1))
    narrow = curvature(seen, NOISE.scale, Curvature.blank(IMAGES, 1), 0.0, probes)
    normal = torch.nn.functional.normalize(NOISE.scale.mT @ W, dim=1)
    cosines = (narrow.basis[..., 0] * normal).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(2), atol=1e-4, rtol=0)
    _, gradients = _see(seen)
    strength = gradients.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(narrow.gradients[:, 0, 0], strength, atol=1e-4, rtol=1e-3)


def test_a_network_without_a_boundary_has_no_curvature():
    class Constant(torch.nn.Module):
        def forward(self, images):
            return 0 * images.flatten(1)[:, :2] + torch.tensor([3.0, 1.0])

    seen = _draw(64, model=Constant().eval())
    assert seen.p.tolist() == [1.0, 0.0]
    assert torch.isfinite(seen.gradients).all() and not seen.gradients.any()

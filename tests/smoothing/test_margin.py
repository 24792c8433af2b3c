"""The soft margin and its gradients, against finite differences and autograd."""

import torch
from torch import nn

from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.margin import coarse, gap_gradient, normal_density, soft_gap, top_two
from rddrs_dist.smoothing.precision import rounded
from tests.oracles import random_spd, random_symmetric

EVENT = (1, 2, 3)
STREAMS = Streams.of(0, [1, 2])
IMAGES = torch.rand(2, *EVENT, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _network(seed: int) -> nn.Module:
    """A small smooth network with three classes, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)
        return nn.Sequential(*layers).double().requires_grad_(False)


MODEL = _network(1)


def test_gap_gradient_is_the_slope_of_the_weighted_probabilities():
    """d/dt sum_k a_k p_k(C + t V) = <E, V> for symmetric V, whatever the blocks."""
    n, step = 3000, 2
    scale, direction = random_spd(2, 6, seed=1), random_symmetric(2, 6, seed=2)
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0]], dtype=torch.float64)
    gradient = gap_gradient(MODEL, IMAGES, FullNoise(scale, EVENT), weights, n, STREAMS, step)
    blocks = enumerate((1024, 1024, 952))
    z = torch.cat([STREAMS.normal(Stage.FIT, step, b, size, IMAGES) for b, size in blocks], 1)

    def value(t: float) -> torch.Tensor:
        eps = FullNoise(scale + t * direction, EVENT).colour(z)
        p = MODEL((IMAGES.unsqueeze(1) + eps).flatten(0, 1)).softmax(-1).view(2, n, 3).mean(1)
        return (weights * p).sum(1)

    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum((1, 2)), slope, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(gradient, gradient.mT)


def test_soft_gap_is_differentiable_and_right():
    z = STREAMS.normal(Stage.FIT, 0, 0, 300, IMAGES)
    sigma = torch.tensor([0.3, 0.6], dtype=torch.float64)

    def gap(s: torch.Tensor) -> torch.Tensor:
        return soft_gap(MODEL, IMAGES, s.view(2, 1, 1, 1, 1) * z, 1e-3)

    assert torch.autograd.gradcheck(gap, sigma.requires_grad_())


def test_clamped_probabilities_stop_the_gradient():
    p = torch.tensor([[0.9999, 0.0001], [0.7, 0.3]], requires_grad=True)
    top, classes = top_two(p, 0.001)
    top.sum().backward()
    torch.testing.assert_close(top[0].detach(), torch.tensor([0.999, 0.001]))
    assert classes.tolist() == [[0, 1], [0, 1]]
    assert p.grad is not None
    assert p.grad.tolist() == [[0, 0], [1, 1]]


def test_normal_density():
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor([0.0, 1.5])).exp()
    torch.testing.assert_close(normal_density(torch.tensor([0.0, 1.5])), expected)


def test_coarse_noise_is_exact_to_single_precision():
    """Whatever its widest axis: each product, and none of the sums, is one that TF32 knows."""
    scale = random_spd(2, 6, seed=1).float()
    scale[0] *= 1e4
    noise, z = FullNoise(scale, EVENT), STREAMS.normal(Stage.FIT, 0, 0, 50, IMAGES.float())
    short, eps = coarse(noise)(z)
    assert torch.equal(short, rounded(z))
    wanted = noise.double().colour(short.double())
    widest = noise.max_axis.view(-1, 1, 1, 1, 1)
    assert ((eps - wanted).abs() < 2**-20 * widest).all()

"""One contract for every noise: agreement with its dense covariance."""

import math

import pytest
import torch
from torch import linalg

from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from tests.oracles import random_spd

EVENT = (1, 2, 3)
D = math.prod(EVENT)
GENERATOR = torch.Generator().manual_seed(0)


def _full() -> FullNoise:
    """Not symmetric, on purpose."""
    rotation = linalg.qr(random_spd(2, D, seed=1)).Q
    return FullNoise((linalg.cholesky(random_spd(2, D, seed=0)) @ rotation).float(), EVENT)


NOISES: dict[str, Noise] = {
    "isotropic": IsotropicNoise(torch.tensor([0.3, 1.7]), EVENT),
    "diagonal": DiagonalNoise(torch.rand(2, *EVENT, generator=GENERATOR) + 0.1, EVENT),
    "full": _full(),
}
pytestmark = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())


def test_samples_have_the_covariance(noise):
    n = 200_000
    z = torch.randn(2, n, *EVENT, generator=torch.Generator().manual_seed(1))
    samples = noise.colour(z).flatten(2).double()  # (B, n, d)
    covariance = samples.mT @ samples / n
    scale = noise.covariance().diagonal(dim1=1, dim2=2).sqrt()
    error = (covariance - noise.covariance()) / (scale.unsqueeze(1) * scale.unsqueeze(2))
    assert samples.mean(1).abs().max() < 5 * scale.max() / n**0.5
    assert error.abs().max() < 5 * 2**0.5 / n**0.5  # five standard deviations


def test_logdet_and_mean_axis(noise):
    logdet = linalg.slogdet(noise.covariance()).logabsdet / 2
    torch.testing.assert_close(noise.logdet, logdet, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(noise.mean_axis, (logdet / D).exp(), rtol=1e-9, atol=0)


def test_axes_are_the_roots_of_the_eigenvalues(noise):
    axes = linalg.eigvalsh(noise.covariance()).sqrt()
    torch.testing.assert_close(noise.axes, axes, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(noise.min_axis, axes[:, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(noise.max_axis, axes[:, -1], rtol=1e-9, atol=1e-9)


def test_mahalanobis_is_the_norm_in_the_inverse_covariance(noise):
    delta = torch.randn(2, *EVENT, generator=torch.Generator().manual_seed(2))
    flat = delta.flatten(1).double().unsqueeze(-1)
    squared = (flat.mT @ linalg.solve(noise.covariance(), flat)).flatten()
    torch.testing.assert_close(noise.mahalanobis(delta), squared.sqrt())


def test_support_is_the_norm_in_the_covariance(noise):
    w = torch.randn(2, *EVENT, generator=torch.Generator().manual_seed(3))
    flat = w.flatten(1).double().unsqueeze(-1)
    squared = (flat.mT @ noise.covariance() @ flat).flatten()
    torch.testing.assert_close(noise.support(w), squared.sqrt())


def test_parts_put_together_are_the_whole(noise):
    parts = [noise[0:1], noise[1:2]]
    whole = type(noise).concatenate(parts)
    assert len(parts[0]) == 1
    torch.testing.assert_close(whole.scale, noise.scale, rtol=0, atol=0)


def test_wrong_shapes_and_values_are_refused(noise):
    with pytest.raises(ValueError, match="wanted shape"):
        noise.mahalanobis(torch.zeros(3, *EVENT))
    with pytest.raises(ValueError, match="must be finite"):
        type(noise)(noise.scale * torch.nan, EVENT)
    with pytest.raises(ValueError, match="must have shape"):
        type(noise)(noise.scale.unsqueeze(-1), EVENT)

"""A full scale and its triangular form."""

import pytest
import torch

from rddrs_dist.noise import FullNoise
from tests.oracles import random_spd, rotation_matrix


@pytest.mark.parametrize("dimension", [1, 6, 130, 300])
def test_a_lower_scale_is_the_same_noise(dimension):
    """More and fewer columns than are multiplied at once; zeros above the diagonal are skipped."""
    event = (1, 1, dimension)
    scale = random_spd(2, dimension, 1).float() @ rotation_matrix(dimension, 2)
    dense = FullNoise(scale, event)
    lower = dense.lower()
    assert not lower.scale.triu(1).any()
    assert bool((lower.scale.diagonal(dim1=1, dim2=2) > 0).all())
    torch.testing.assert_close(lower.covariance(), dense.covariance(), atol=1e-5, rtol=1e-5)
    z = torch.randn(2, 3, *event, generator=torch.Generator().manual_seed(0))
    for noise in (dense, lower):
        expected = (noise.scale.double() @ z.flatten(2).double().mT).mT.view_as(z)
        torch.testing.assert_close(noise.colour(z).double(), expected, atol=1e-5, rtol=1e-5)

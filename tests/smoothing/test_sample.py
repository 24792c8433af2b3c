"""Counts and probabilities against closed forms."""

import pytest
import torch
from scipy.stats import binomtest, norm

from rddrs_dist.noise import FullNoise, IsotropicNoise
from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.sample import class_counts, soft_probabilities
from tests.oracles import Linear

EVENT = (1, 2, 2)
MODEL = Linear(torch.tensor([1.0, -2.0, 0.5, 1.0]), b=0.1)
IMAGES = torch.tensor([[0.5, 0.1, 0.2, 0.3], [0.2, 0.4, 0.1, 0.6]]).view(2, *EVENT)
STREAMS = Streams.of(3, [10, 20])
NOISE = IsotropicNoise(torch.tensor([0.5, 1.0]), EVENT)
SCALE = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("noise", [NOISE, FullNoise(SCALE, EVENT)])
def test_counts_follow_the_exact_probability(noise):
    """P(w.(x + S z) > b) = Phi((w.x - b) / ||S^T w||)."""
    n = 20_000
    counts = class_counts(MODEL, IMAGES, noise, n, STREAMS, Stage.ESTIMATE)
    exact = norm.cdf(MODEL.margin(IMAGES) / noise.support(MODEL.w.expand(2, 4).view(2, *EVENT)))
    assert torch.equal(counts.sum(1), torch.tensor([n, n]))
    for count, p in zip(counts[:, 0].tolist(), exact, strict=True):
        assert binomtest(count, n, p).pvalue > 1e-4


def test_soft_probabilities_average_the_softmax():
    p = soft_probabilities(MODEL, IMAGES, NOISE, 1000, STREAMS, step=4)
    z = STREAMS.normal(Stage.FIT, 4, 0, 1000, IMAGES)
    logits = MODEL((IMAGES.unsqueeze(1) + NOISE.colour(z)).flatten(0, 1))
    torch.testing.assert_close(p, logits.softmax(-1).view(2, 1000, 2).mean(1))


def test_a_sample_whose_logits_are_not_finite_counts_for_no_class():
    noise = IsotropicNoise(torch.tensor([0.5, 1e38]), EVENT)
    model = Linear(torch.full((4,), 10.0))
    counts = class_counts(model, IMAGES, noise, 1000, STREAMS, Stage.SELECT)
    z = STREAMS.normal(Stage.SELECT, 0, 0, 1000, IMAGES)
    samples = IMAGES.unsqueeze(1) + noise.colour(z)
    finite = model(samples.flatten(0, 1)).isfinite().all(1).view(2, 1000).sum(1)
    assert counts[0].sum() == 1000 and 0 <= counts[1].sum() == finite[1] < 1000
    p = soft_probabilities(model, IMAGES, noise, 1000, STREAMS, step=0)
    assert p[0].isfinite().all() and p[1].isnan().any()

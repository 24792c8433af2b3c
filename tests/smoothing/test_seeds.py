"""Streams: the same numbers for the same key, whoever asks, and independent ones otherwise."""

import pytest
import torch
from scipy import stats

from rddrs_dist.smoothing import Stage, Streams

IMAGES = torch.zeros(3, 1, 4, 4)


def test_draws_do_not_depend_on_company_or_order():
    together = Streams.of(7, [2, 5, 9]).normal(Stage.FIT, 3, 1, 10, IMAGES)
    alone = Streams.of(7, [5]).normal(Stage.FIT, 3, 1, 10, IMAGES[:1])
    backward = Streams.of(7, [9, 5, 2])[1:2].normal(Stage.FIT, 3, 1, 10, IMAGES[:1])
    assert torch.equal(together[1:2], alone)
    assert torch.equal(backward, alone)


@pytest.mark.parametrize(
    "other",
    [(8, 5, Stage.FIT, 3, 1), (7, 6, Stage.FIT, 3, 1), (7, 5, Stage.SELECT, 3, 1)]
    + [(7, 5, Stage.FIT, 4, 1), (7, 5, Stage.FIT, 3, 2), (7, 5, Stage.ESTIMATE, 3, 1)],
)
def test_every_part_of_the_key_counts(other):
    n = 10_000
    keys = [(7, 5, Stage.FIT, 3, 1), other]
    first, second = (
        Streams.of(seed, [index]).normal(stage, step, block, n, IMAGES[:1]).flatten()
        for seed, index, stage, step, block in keys
    )
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1]
    assert abs(correlation.item()) < 5 / len(first) ** 0.5


def test_samples_are_standard_normal():
    z = Streams.of(0, [0]).normal(Stage.ESTIMATE, 0, 0, 20_000, IMAGES[:1]).flatten()
    assert stats.kstest(z.double().numpy(), "norm").pvalue > 1e-4


def test_tails_reach_beyond_those_of_a_24_bit_box_muller():
    """2e8 samples would be needed to see 5.8; 4e6 must at least reach 4.7."""
    z = Streams.of(0, [0]).normal(Stage.ESTIMATE, 0, 0, 250_000, IMAGES[:1])
    assert z.abs().max() > 4.7


def test_streams_and_images_must_match():
    with pytest.raises(ValueError, match="wanted 2 images, one per stream, got 3"):
        Streams.of(0, [1, 2]).normal(Stage.FIT, 0, 0, 1, IMAGES)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_negative_keys_are_refused(seed, index):
    with pytest.raises(ValueError, match="must be non-negative"):
        Streams.of(seed, [index])

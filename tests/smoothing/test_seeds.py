"""Streams: the same numbers for the same key, whoever asks, and independent ones otherwise."""

import math
import sys

import numpy as np
import pytest
import torch

from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.seeds import box_muller

IMAGES = torch.zeros(3, 1, 4, 4)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
def test_draws_do_not_depend_on_company_or_order(device):
    images = IMAGES.to(device)
    together = Streams.of(7, [2, 5, 9]).normal(Stage.FIT, 3, 1, 10, images)
    alone = Streams.of(7, [5]).normal(Stage.FIT, 3, 1, 10, images[:1])
    backward = Streams.of(7, [9, 5, 2])[1:2].normal(Stage.FIT, 3, 1, 10, images[:1])
    assert torch.equal(together[1:2], alone)
    assert torch.equal(backward, alone)
    assert not (Streams.of(7, [5]).normal(Stage.FIT, 3, 2, 10, images[:1]) == alone).any()


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


def test_box_muller_is_exact_to_the_ends_of_its_integers():
    """The farthest sample lies at 6.76; one of 24-bit uniforms would lie at 5.77."""
    ends = torch.tensor([-(2**31), 1 - 2**31, -1, 0, 2**31 - 1], dtype=torch.int32)
    lengths, angles = torch.cartesian_prod(ends, ends).unbind(1)
    found = box_muller(lengths, angles, torch.empty(2, len(lengths))).double()
    radius = torch.sqrt(-2 * torch.log((lengths.double() + (2**31 + 0.5)) / 2**32))
    angle = math.pi * angles.double() / 2**31
    exact = torch.stack([radius * angle.cos(), radius * angle.sin()])
    torch.testing.assert_close(found, exact, atol=2e-6, rtol=0)
    assert radius.max().item() == pytest.approx(6.763706)


def test_samples_are_made_of_the_raw_output_of_sfc64():
    """Which no version of numpy changes."""
    sequence = np.random.SeedSequence(7, spawn_key=(5, int(Stage.SELECT), 3, 1))
    raw = np.random.SFC64(sequence).random_raw(80).view(np.int32)
    lengths, angles = torch.from_numpy(raw).view(2, 80)
    wanted = box_muller(lengths, angles, torch.empty(2, 80)).view(1, 10, 1, 4, 4)
    assert torch.equal(Streams.of(7, [5]).normal(Stage.SELECT, 3, 1, 10, IMAGES[:1]), wanted)


def test_an_odd_number_of_samples_is_as_good_as_an_even_one():
    odd = Streams.of(0, [0]).normal(Stage.ESTIMATE, 0, 0, 3, torch.zeros(1, 5))
    assert odd.shape == (1, 3, 5) and len(odd.unique()) == 15


def test_negative_keys_and_other_numbers_of_images_are_refused():
    for seed, index in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="must be non-negative"):
            Streams.of(seed, [index])
    with pytest.raises(ValueError, match="wanted 2 images, one per stream, got 3"):
        Streams.of(0, [1, 2]).normal(Stage.FIT, 0, 0, 1, IMAGES)


def test_a_gpu_without_triton_is_told_what_is_missing(monkeypatch):
    class Images:
        is_cuda, device, shape = True, torch.device("cuda"), (1, 1, 4, 4)

        def __len__(self) -> int:
            return 1

    monkeypatch.setitem(sys.modules, "rddrs_dist.cuda.philox", None)
    with pytest.raises(ValueError, match="triton cannot be imported: install the one"):
        Streams.of(0, [1]).normal(Stage.FIT, 0, 0, 1, Images())

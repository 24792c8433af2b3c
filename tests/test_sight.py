"""What a smoothed classifier still tells apart, against exact probabilities."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm
from torch import Tensor, nn

from rddrs_dist import ABSTAIN, FullNoise, IsotropicNoise, Neighbours, Noise, data
from rddrs_dist.sight import (
    blind_samples,
    fitted,
    measured,
    principal_subspace,
    principal_subspaces,
)
from rddrs_dist.smoothing import Batching, Smoothed, Stage, Streams
from rddrs_dist.verify.sight import measured as verified
from tests.oracles import Linear, normal, random_spd

EVENT, D = (1, 2, 2), 4
MODEL = Linear(torch.tensor([1.0, -2.0, 0.5, 1.0]), b=0.1)
IMAGES = torch.rand(40, *EVENT, generator=torch.Generator().manual_seed(0))
TRAINING = Neighbours(IMAGES, (torch.arange(40) // 2) % 3)
STREAMS = Streams.of(3, [10, 20, 30])
FULL = FullNoise(random_spd(3, D, seed=1).float(), EVENT)
CLASSES = np.array([0, 1, ABSTAIN])


class Constant(nn.Module):
    """Answers one class everywhere, or nothing that is a number."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.logits.expand(len(images), -1) + 0 * images.flatten(1)[:, :1]


def blindness(noise: Noise, row: int, label: int) -> float:
    """Exactly: the mean over measured images with another label of P(w.(y + S z) on that side)."""
    others = IMAGES[measured(len(IMAGES))][TRAINING.labels[measured(len(IMAGES))] != label]
    reach = noise.support(MODEL.w.expand(3, D).view(3, *EVENT))[row]
    ahead = norm.cdf((MODEL.margin(others) / reach).numpy()).mean()
    return float(ahead if label == 0 else 1 - ahead)


@pytest.mark.parametrize("noise", [FULL, IsotropicNoise(torch.tensor([0.3, 0.6, 1.0]), EVENT)])
def test_the_share_of_blind_samples_is_the_exact_probability(noise):
    """Only of images with another label than the class, and of those that no fit looks at."""
    m = 20_000
    blind, drawn = blind_samples(MODEL, noise, CLASSES, TRAINING, m, STREAMS)
    assert drawn.tolist() == [m, m, 0] and blind[2] == 0
    for row, label in enumerate((0, 1)):
        assert binomtest(int(blind[row]), m, blindness(noise, row, label)).pvalue > 1e-3


def test_images_that_fits_look_at_measure_nothing():
    spoilt = IMAGES.clone()
    spoilt[fitted(len(IMAGES))] = torch.nan
    counts = [
        blind_samples(MODEL, FULL, CLASSES, Neighbours(images, TRAINING.labels), 500, STREAMS)
        for images in (IMAGES, spoilt)
    ]
    np.testing.assert_array_equal(*counts)


def test_counts_do_not_depend_on_how_images_share_launches():
    m, classes = 3000, np.array([0, 1, 0])
    whole, _ = blind_samples(MODEL, FULL, classes, TRAINING, m, STREAMS)
    narrow = Smoothed(MODEL, batching=Batching(memory=1.0))
    assert blind_samples(narrow, FULL, classes, TRAINING, m, STREAMS)[0].tolist() == whole.tolist()
    for rows in ([2], [0, 1], [1, 2]):
        own = (FULL[rows], classes[rows], TRAINING, m, STREAMS[rows])
        assert blind_samples(MODEL, *own)[0].tolist() == whole[rows].tolist()


def test_reference_images_and_noise_do_not_depend_on_the_noise_that_is_measured():
    """Two scales of one image see the same samples, other images and seeds do not."""
    seen: list[Tensor] = []

    class Seen(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.flatten(1))
            return MODEL(images)

    scales = [IsotropicNoise(torch.full((1,), scale), EVENT) for scale in (0.5, 1.0)]
    for noise, streams in (
        *((scale, STREAMS[:1]) for scale in scales),
        (scales[0], STREAMS[1:2]),
        (scales[0], Streams.of(4, [10])),
    ):
        blind_samples(Seen(), noise, CLASSES[:1], TRAINING, 100, streams)
    half, whole, *others = seen
    z = STREAMS[:1].normal(Stage.SIGHT, 0, 0, 100, IMAGES[:1])[0].flatten(1)
    torch.testing.assert_close(whole - half, 0.5 * z)
    centres = half - 0.5 * z
    distances = (centres[:, None] - IMAGES[measured(len(IMAGES))].flatten(1)).norm(dim=2).min(1)
    assert distances.values.max() < 1e-5
    assert (TRAINING.labels[measured(len(IMAGES))][distances.indices] != 0).all()
    assert len(distances.indices.unique()) > 10  # drawn anew for each sample
    assert all((other - half).abs().max() > 0.1 for other in others)


def test_a_constant_network_is_blind_and_so_is_one_without_numbers():
    for logits in ([1.0, 0.0, 0.0], [0.0, float("nan"), 1.0]):
        blind, drawn = blind_samples(
            Constant(logits), FULL, np.zeros(3, np.int64), TRAINING, 200, STREAMS
        )
        assert blind.tolist() == drawn.tolist() == [200] * 3
    blind, _ = blind_samples(
        Constant([0.0, 1.0, 0.0]), FULL, np.zeros(3, np.int64), TRAINING, 200, STREAMS
    )
    assert blind.tolist() == [0] * 3


@pytest.mark.parametrize(
    ("labels", "samples", "drawn"),
    [
        (torch.ones(40), 100, [100, 0, 0]),  # of one label
        (torch.arange(40) // 2 % 2, 100, [100, 100, 0]),  # of two
        (torch.arange(40) // 2 % 2 + 1, 100, [100, 100, 0]),  # class 0 is missing
        # Another label among those of fits alone.
        (torch.ones(40).index_fill(0, fitted(40), 0), 100, [100, 0, 0]),
        (torch.ones(40), 0, [0, 0, 0]),
    ],
)
def test_nothing_is_drawn_where_no_measured_image_has_another_label(labels, samples, drawn):
    known = Neighbours(IMAGES, labels.long())
    blind, found = blind_samples(MODEL, FULL, CLASSES, known, samples, STREAMS)
    assert found.tolist() == drawn and (blind <= found).all()


def test_on_rounded_pixels_the_rounded_classifier_is_measured_and_doubt_is_blind():
    """All training images lie in the middle of two of two levels, so that no sample counts."""
    middle = Neighbours(torch.full((40, *EVENT), 0.25), TRAINING.labels)
    tiny, classes = IsotropicNoise(torch.full((1,), 1e-20), EVENT), np.array([1])
    ones = Linear(torch.ones(4))
    counts = [
        blind_samples(Smoothed(ones, levels), tiny, classes, middle, 50, STREAMS[:1])[0].item()
        for levels in (None, 2, 3)
    ]
    assert counts == [0, 50, 0]
    # 0.1 becomes 0, of which the network says 1, in place of 0.1, of which it says 0.
    small = Neighbours(torch.full((40, *EVENT), 0.1), TRAINING.labels)
    shifted = Linear(torch.ones(4), b=0.2)
    counts = [
        blind_samples(Smoothed(shifted, levels), tiny, classes, small, 50, STREAMS[:1])[0].item()
        for levels in (None, 2)
    ]
    assert counts == [0, 50]


def test_other_numbers_of_images_are_refused():
    with pytest.raises(ValueError, match="as many images each, got 3, 2 and 3"):
        blind_samples(MODEL, FULL, CLASSES[:2], TRAINING, 10, STREAMS)


def test_the_principal_subspace_is_the_smallest_that_holds_the_share():
    spread = torch.tensor([4.0, 3, 2, 1, 0.5, 0.1])
    turn = torch.linalg.qr(normal(6, 6, seed=1)).Q
    images = (normal(9000, 6, seed=2) * spread) @ turn.mT + 5  # more than one chunk
    images = images.float().view(-1, 1, 2, 3)
    flat = images.flatten(1).double()
    variances = torch.linalg.svdvals(flat - flat.mean(0)).square()
    held = variances.cumsum(0) / variances.sum()
    for share, k in ((0.5, 1), (0.95, 3), (0.99, 4), (1.0, 6)):
        basis = principal_subspace(images, share)
        assert basis.shape == (6, k) and basis.dtype == torch.float64
        torch.testing.assert_close(basis.mT @ basis, torch.eye(k, dtype=torch.float64))
        assert held[k - 1] >= share - 1e-12 and (k == 1 or held[k - 2] < share)
        kept = ((flat - flat.mean(0)) @ basis).square().sum()
        torch.testing.assert_close(kept / variances.sum(), held[k - 1])
    basis, sizes = principal_subspaces(images, (0.99, 0.5))
    assert sizes == (4, 1) and torch.equal(basis, principal_subspace(images, 0.99))
    assert torch.equal(basis[:, :1], principal_subspace(images, 0.5))


def test_images_that_do_not_vary_have_a_subspace_of_one_direction():
    assert principal_subspace(torch.ones(10, 1, 2, 2), 0.95).shape == (4, 1)
    assert principal_subspace(IMAGES[:1], 0.95).shape == (4, 1)


@pytest.mark.parametrize(("count", "share"), [(0, 0.9), (3, 0.0), (3, 1.1)])
def test_no_images_and_impossible_shares_are_refused(count, share):
    with pytest.raises(ValueError, match=r"wanted images and shares in \(0, 1\], got"):
        principal_subspace(IMAGES[:count], share)


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 60_000])
def test_halves_are_apart_and_neither_follows_the_order(count: int):
    both = fitted(count), measured(count)
    assert torch.equal(torch.cat(both).sort().values, torch.arange(count))
    assert both[1].tolist() == verified(count)
    if count >= 1000:
        for half in both:
            for step in (2, 3, 4, 5):
                share = (half % step == 0).double().mean().item()
                assert abs(share - 1 / step) < 3 * (1 / step / len(half)) ** 0.5


def test_halves_of_mnist_are_alike_and_every_second_image_is_not(shared: Path):
    """By how much ink they have: every second image is by other writers."""
    ink = data.load("mnist", "train", shared / "data").images.mean((1, 2, 3), dtype=np.float64)
    halves = [ink[half(len(ink)).numpy()].mean() for half in (fitted, measured)]
    turns = [ink[first::2].mean() for first in (0, 1)]
    assert max(halves) < 1.01 * min(halves) and max(turns) > 1.1 * min(turns)

"""Training images in and out of regions."""

import numpy as np
import torch

from rddrs_dist.noise import FullNoise
from rddrs_dist.reference import Reference, keep_out, others_inside, within
from tests.oracles import random_spd

EVENT, D = (1, 2, 40), 80  # more axes than are looked at first
GENERATOR = torch.Generator().manual_seed(0)
SCALE = random_spd(1, D, 1)[0].float() * 3
POINTS = torch.randn(500, D, generator=GENERATOR) * 8


def _distances(scale: torch.Tensor) -> np.ndarray:
    noise = FullNoise(scale.expand(len(POINTS), D, D), EVENT)
    return noise.mahalanobis(POINTS.view(-1, *EVENT)).numpy()


def test_within_finds_exactly_those_below_the_limit():
    expected = _distances(SCALE)
    limit = float(np.quantile(expected, 0.2))
    rows, found = within(SCALE.double() @ SCALE.double().T, POINTS, limit)
    assert rows.tolist() == np.flatnonzero(expected < limit).tolist()
    np.testing.assert_allclose(found.numpy(), expected[rows.numpy()], rtol=1e-6)
    assert len(within(SCALE.double() @ SCALE.double().T, POINTS, 0.0)[0]) == 0


def test_keep_out_pushes_all_out_and_nothing_in():
    before = _distances(SCALE)
    wanted = float(np.quantile(before, 0.1))
    kept = keep_out(SCALE, POINTS, wanted)
    after = _distances(kept)
    assert (after >= wanted).all()
    assert (after >= before * (1 - 1e-5)).all()
    # At most one direction per point is narrowed, none by more than the nearest needs.
    lost = float(torch.linalg.slogdet(SCALE)[1] - torch.linalg.slogdet(kept)[1])
    assert 0 < lost < 50 * np.log(wanted * 1.01 / before.min())


def test_keep_out_leaves_a_scale_that_is_far_enough_alone():
    assert torch.equal(keep_out(SCALE, POINTS, 0.9 * float(_distances(SCALE).min())), SCALE)


def test_keep_out_passes_over_the_image_itself():
    """A training image equal to the test image but labelled otherwise cannot be pushed out."""
    wanted = 1.1 * float(_distances(SCALE).min())
    kept = keep_out(SCALE, torch.cat([torch.zeros(1, D), POINTS]), wanted)
    assert torch.isfinite(kept).all()
    assert (_distances(kept) >= wanted).all()


def test_only_other_labels_count():
    image = torch.zeros(EVENT)
    labels = torch.arange(500) % 3
    reference = Reference(POINTS.view(-1, *EVENT), labels)
    distances = _distances(SCALE)
    radius = float(np.quantile(distances, 0.3))
    expected = int(((distances < radius) & (labels.numpy() != 2)).sum())
    covariance = SCALE.double() @ SCALE.double().T
    assert others_inside(covariance, image, reference, 2, radius) == expected > 0
    assert others_inside(covariance, image, reference, 2, 0.0) == 0

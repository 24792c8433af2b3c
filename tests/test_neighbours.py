"""Training images in and out of regions."""

import numpy as np
import torch

from rddrs_dist.neighbours import Neighbours, keep_out, others_inside, whitening
from rddrs_dist.noise import FullNoise
from tests.oracles import random_spd

EVENT, D = (1, 2, 40), 80  # more axes than are looked at first
GENERATOR = torch.Generator().manual_seed(0)
SCALE = random_spd(1, D, 1)[0].float() * 3
COVARIANCE = SCALE.double() @ SCALE.double().T
POINTS = torch.randn(500, D, generator=GENERATOR) * 8


def _distances(scale: torch.Tensor) -> np.ndarray:
    noise = FullNoise(scale.expand(len(POINTS), D, D), EVENT)
    return noise.mahalanobis(POINTS.view(-1, *EVENT)).numpy()


def _near(limit: float) -> tuple[torch.Tensor, torch.Tensor]:
    reference = Neighbours(POINTS.view(-1, *EVENT), torch.ones(500, dtype=torch.int64))
    return reference.near(torch.zeros(EVENT), 0, whitening(COVARIANCE), limit)


def test_near_finds_exactly_those_below_the_limit():
    expected = _distances(SCALE)
    limit = float(np.quantile(expected, 0.2))
    displacements, found = _near(limit)
    assert torch.equal(displacements, POINTS[torch.from_numpy(expected < limit)].double())
    np.testing.assert_allclose(found.numpy(), expected[expected < limit], rtol=1e-6)
    assert len(_near(0.0)[1]) == 0


def test_the_first_look_misses_nothing_that_rounding_could_hide():
    """Axes so narrow that single precision cannot tell where a point is."""
    thin = SCALE.double()
    thin[:, 0] *= 1e-6
    points = torch.cat([POINTS, (thin @ POINTS[:50].double().mT).mT.float()])
    reference = Neighbours(points.view(-1, *EVENT) + 0.5, torch.ones(550, dtype=torch.int64))
    image = torch.full(EVENT, 0.5)
    exact = reference.images.flatten(1).double() - 0.5
    distances = (exact @ whitening(thin @ thin.mT)).norm(dim=1)
    limit = float(distances.median())
    found = reference.near(image, 0, whitening(thin @ thin.mT), limit)[1]
    torch.testing.assert_close(found, distances[distances < limit])


def test_a_diagonal_finds_what_its_matrix_finds():
    variances = torch.linspace(0.5, 90, D, dtype=torch.float64)
    reference = Neighbours(POINTS.view(-1, *EVENT), torch.ones(500, dtype=torch.int64))
    image = torch.full(EVENT, 0.25)
    dense = whitening(torch.diag(variances))
    limit = float((POINTS.double() - 0.25).div(variances.sqrt()).norm(dim=1).median())
    delta, found = reference.near(image, 0, whitening(variances), limit)
    wanted = reference.near(image, 0, dense, limit)
    assert len(found) == 249 and torch.equal(delta, wanted[0])
    torch.testing.assert_close(found, wanted[1])
    assert others_inside(variances, image, reference, 0, limit) == 249


def test_keep_out_pushes_all_out_and_nothing_in():
    before = _distances(SCALE)
    wanted = float(np.quantile(before, 0.1))
    whitened = torch.linalg.solve(SCALE.double(), _near(wanted)[0].mT).mT
    kept, left = keep_out(SCALE.double(), whitened, wanted)
    torch.testing.assert_close(left, torch.linalg.solve(kept, _near(wanted)[0].mT).mT)
    kept = kept.float()
    after = _distances(kept)
    assert (after >= wanted).all()
    assert (after >= before * (1 - 1e-5)).all()
    # At most one direction per point is narrowed, none by more than the nearest needs.
    lost = float(torch.linalg.slogdet(SCALE)[1] - torch.linalg.slogdet(kept)[1])
    assert 0 < lost < 50 * np.log(wanted * 1.01 / before.min())


def test_keep_out_leaves_a_scale_that_is_far_enough_alone():
    scale = SCALE.double()
    assert keep_out(scale, torch.zeros(0, D, dtype=torch.float64), 1.0)[0] is scale


def test_only_other_labels_count():
    image = torch.zeros(EVENT)
    labels = torch.arange(500) % 3
    reference = Neighbours(POINTS.view(-1, *EVENT), labels)
    distances = _distances(SCALE)
    radius = float(np.quantile(distances, 0.3))
    expected = int(((distances < radius) & (labels.numpy() != 2)).sum())
    assert others_inside(COVARIANCE, image, reference, 2, radius) == expected > 0
    assert others_inside(COVARIANCE, image, reference, 2, 0.0) == 0

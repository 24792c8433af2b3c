"""Training images in and out of regions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rddrs_dist import ABSTAIN, DiagonalNoise, FullNoise, IsotropicNoise, Neighbours, Region
from rddrs_dist.neighbours import keep_out
from tests.oracles import random_spd

EVENT, D = (1, 2, 40), 80  # more axes than are looked at first
SCALE = random_spd(1, D, 1)[0].float() * 3
POINTS = torch.randn(500, D, generator=torch.Generator().manual_seed(0)) * 8
LABELS = torch.arange(500) % 3
KNOWN = Neighbours(POINTS.view(-1, *EVENT), LABELS)
ALL = Neighbours(KNOWN.images, torch.ones(500, dtype=torch.int64))
ZERO = torch.zeros(EVENT)


def dense(scale: Tensor) -> FullNoise:
    """Noise of one image."""
    return FullNoise(scale[None], EVENT)


def distances(scale: Tensor, points: Tensor = POINTS) -> np.ndarray:
    """Exact ones from 0."""
    return torch.linalg.solve(scale.double(), points.double().mT).norm(dim=0).numpy()


def near(limit: float) -> tuple[Tensor, Tensor]:
    return ALL.near(ZERO, 0, dense(SCALE).whitening(0), limit)


def test_near_finds_exactly_those_below_the_limit():
    expected = distances(SCALE)
    limit = float(np.quantile(expected, 0.2))
    displacements, found = near(limit)
    assert torch.equal(displacements, POINTS[torch.from_numpy(expected < limit)].double())
    np.testing.assert_allclose(found.numpy(), expected[expected < limit], rtol=1e-6)
    assert len(near(0.0)[1]) == 0


def test_the_first_look_misses_nothing_that_rounding_could_hide():
    """Axes so narrow that single precision cannot tell where a point is."""
    thin = SCALE.double()
    thin[:, 0] *= 1e-6
    points = torch.cat([POINTS, (thin @ POINTS[:50].double().mT).mT.float()])
    known = Neighbours(points.view(-1, *EVENT) + 0.5, torch.ones(550, dtype=torch.int64))
    whitening = dense(thin).whitening(0)
    exact = ((known.images.flatten(1).double() - 0.5) @ whitening).norm(dim=1)
    limit = float(exact.median())
    found = known.near(torch.full(EVENT, 0.5), 0, whitening, limit)[1]
    torch.testing.assert_close(found, exact[exact < limit])


NOISES = {
    "isotropic": IsotropicNoise(torch.tensor([2.0, 3.0, 2.0, 1.0]), EVENT),
    "diagonal": DiagonalNoise(
        torch.linspace(0.7, 9, 4 * D).view(D, 4).mT.reshape(4, *EVENT).contiguous(), EVENT
    ),
    "full": FullNoise(SCALE * torch.tensor([1.0, 0.8, 1.2, 1.0]).view(4, 1, 1), EVENT),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_other_labels_inside_a_region_are_counted(noise):
    """Those of the prediction do not count, and an abstention has nothing inside."""
    centre = 0.1 * torch.randn(4, *EVENT, generator=torch.Generator().manual_seed(1))
    distance = torch.stack(
        [noise.mahalanobis(point.view(EVENT) - centre) for point in POINTS]
    ).numpy()  # (500, 4)
    radius = np.quantile(distance, [0.3, 0.6, 0.9, 0.0], axis=0).diagonal() + 1e-3
    radius[3] = 0
    prediction = np.array([2, 0, 1, ABSTAIN])
    region = Region(centre, noise, radius, prediction)
    inside = (distance < radius) & (LABELS.numpy()[:, None] != prediction)
    expected = inside.sum(0).tolist()
    assert KNOWN.inside(region) == expected and expected[3] == 0 < min(expected[:3])


def test_keep_out_pushes_all_out_and_nothing_in():
    before = distances(SCALE)
    wanted = float(np.quantile(before, 0.1))
    displacements = near(wanted)[0].mT
    whitened = torch.linalg.solve(SCALE.double(), displacements).mT
    kept, left = keep_out(SCALE.double(), whitened, wanted)
    torch.testing.assert_close(left, torch.linalg.solve(kept, displacements).mT)
    kept = kept.float()
    after = distances(kept)
    assert (after >= wanted).all()
    assert (after >= before * (1 - 1e-5)).all()
    # At most one direction per point is narrowed, none by more than the nearest needs.
    lost = float(torch.linalg.slogdet(SCALE)[1] - torch.linalg.slogdet(kept)[1])
    assert 0 < lost < 50 * np.log(wanted * 1.01 / before.min())


def test_keep_out_leaves_a_scale_that_is_far_enough_alone():
    scale = SCALE.double()
    assert keep_out(scale, torch.zeros(0, D, dtype=torch.float64), 1.0)[0] is scale

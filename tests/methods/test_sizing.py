"""Sizes of fitted regions: the cap, the limits, and an SVD that fails."""

import math

import pytest
import torch
from torch import linalg

from rddrs_dist.methods import sizing
from rddrs_dist.reference import Reference
from tests.oracles import random_spd

EVENT, D = (1, 2, 3), 6
IMAGES = torch.zeros(2, *EVENT)
CLASSES = torch.tensor([0, 1])
SCALE = random_spd(2, D, 3).float() * 2


def test_long_axes_are_cut_and_short_ones_stay():
    cap = math.sqrt(D) / 1.5
    cut = sizing.bounded(SCALE, IMAGES, CLASSES, None, radius=1.5, guard=1.0)
    expected = linalg.svdvals(SCALE).clamp_max(cap)
    assert bool((linalg.svdvals(SCALE) > cap).any())
    torch.testing.assert_close(linalg.svdvals(cut), expected)


def test_an_svd_that_does_not_converge_has_a_stand_in(monkeypatch):
    expected = sizing.bounded(SCALE, IMAGES, CLASSES, None, radius=1.5, guard=1.0)

    def fails(_matrix):
        raise linalg.LinAlgError("did not converge")

    monkeypatch.setattr(sizing.linalg, "svd", fails)
    found = sizing.bounded(SCALE, IMAGES, CLASSES, None, radius=1.5, guard=1.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_nearest_other_label_or_the_domain_limits_the_radius():
    point = torch.tensor([0.3, 0.0, 0.0, 0.0, 0.0, 0.0]).view(1, *EVENT)
    free = sizing.radius_limits(SCALE, IMAGES, CLASSES, None, guard=2.0)
    longest = linalg.matrix_norm(SCALE.double(), 2).numpy()
    assert free == pytest.approx(math.sqrt(D) / longest)
    reference = Reference(point, torch.tensor([1]))  # another label for the first image alone
    limits = sizing.radius_limits(SCALE, IMAGES, CLASSES, reference, guard=2.0)
    distance = linalg.solve(SCALE[0].double(), point.flatten().double()).norm()
    assert limits[0] == pytest.approx(float(distance) / 2) and limits[0] < free[0]
    assert limits[1] == free[1]

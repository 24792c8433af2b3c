"""Which remembered region a point lies in."""

import numpy as np
import pytest
import torch
from mpmath import mp
from torch import nn

from rddrs_dist.disjoint.memory import Entry, find
from rddrs_dist.noise import FullNoise, IsotropicNoise
from tests.disjoint.problems import KINDS, exact, noise_of, region
from tests.oracles import rotation_matrix


def random_entries(count: int, d: int) -> list[Entry]:
    """Regions of all kinds, which may overlap; of one class."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for k in range(count):
        z = torch.randn(d + 1, d, generator=generator)
        noise = noise_of(KINDS[k % 3], z, (d,), 0.15)
        centre = torch.rand(1, d, generator=generator)
        made.append(Entry.of(region(centre, 0, 1.0 + float(z[-1, -1].abs()), noise), k))
    return made


def test_nothing_is_ruled_out_that_is_inside():
    entries = random_entries(150, 24)
    generator, found = torch.Generator().manual_seed(3), 0
    for entry in entries:
        u = nn.functional.normalize(torch.randn(24, generator=generator).double(), dim=0)
        shift = entry.region.noise.matrix()[0] @ u * entry.radius
        for length in (0.999, 1.001):
            point = (entry.point + length * shift).float().double()
            first = next(
                (k for k, one in enumerate(entries) if exact(one, point) < one.radius), None
            )
            answer = find(entries, point)
            assert (answer and answer[0]) == first
            found += first is not None
    assert 150 <= found < 300


@pytest.mark.parametrize("spread", [1e2, 1e6, 1e9])
def test_a_distance_is_never_below_the_truth(spread: float):
    """Against 60 digits, for dense scales whose axes differ by a large factor."""
    generator = torch.Generator().manual_seed(1)
    d, mp.dps = 6, 60
    axes = torch.logspace(0, -float(np.log10(spread)), d)
    for k in range(10):
        full = FullNoise((rotation_matrix(d, k) * axes)[None], (d,)).lower()
        entry = Entry.of(region(torch.rand(1, d, generator=generator), 0, 2.0, full), 0)
        point = (
            entry.point + full.scale[0].double() @ torch.randn(d, generator=generator).double()
        ).float()
        delta = mp.matrix(point.double().tolist()) - mp.matrix(entry.point.tolist())
        true = mp.norm(mp.lu_solve(mp.matrix(full.scale[0].double().tolist()), delta))
        above = entry.distance(point.double())
        assert above >= true and above <= true * entry.radius / entry.certain * (1 + 1e-15)


def test_a_point_too_near_to_the_border_to_tell_counts_as_outside():
    ball = IsotropicNoise(torch.tensor([0.5]), (2,))
    entry = Entry.of(region(torch.zeros(1, 2), 0, 2.0, ball), 0)
    assert not entry.contains(torch.tensor([1.0, 0.0]).double())
    assert not entry.contains(torch.tensor([1.0 - 2.0**-53, 0.0]).double())
    assert entry.contains(torch.tensor([1.0 - 2.0**-24, 0.0]).double())
    assert not entry.contains(torch.tensor([float("nan"), 0.0]).double())

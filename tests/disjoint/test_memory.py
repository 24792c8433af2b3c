"""Remembered regions: disjoint, whoever searches for a common point, and found where they are."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from mpmath import mp
from torch import Tensor, nn

from rddrs_dist.disjoint.classifier import CERTIFICATE
from rddrs_dist.disjoint.memory import Entry, narrowed_to_fit
from rddrs_dist.noise import FullNoise, IsotropicNoise
from tests.disjoint.problems import (
    KINDS,
    classifier,
    exact,
    factor,
    filled,
    images_of,
    noise_of,
    region,
    shape,
)
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
    entries = random_entries(75, 24)
    generator, found = torch.Generator().manual_seed(3), 0
    for entry in entries:
        u = nn.functional.normalize(torch.randn(24, generator=generator).double(), dim=0)
        shift = entry.region.noise.matrix()[0] @ u * entry.radius
        for length in (0.999, 1.001):
            point = (entry.point + length * shift).float().double()
            inside = [exact(one, point) < one.radius for one in entries]
            assert [one.contains(point) for one in entries] == inside
            found += any(inside)
    assert 75 <= found < 150


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


@pytest.mark.parametrize(
    ("kind", "d", "count"), [*((k, 4, 100) for k in KINDS), ("full", 2, 160), ("full", 6, 100)]
)
def test_regions_of_different_classes_never_overlap(kind: str, d: int, count: int):
    own, certified = classifier(d, kind), []
    for image in images_of(count, d):
        answer = own.predict(image)
        if answer.entry is not None and answer.source == CERTIFICATE:
            certified.append(answer.certificate.region)
    regions, narrower, overlaps = [entry.region for entry in own.memory], 0, 0
    for (i, one), (j, other) in combinations(enumerate(regions), 2):
        if one.prediction[0] != other.prediction[0]:
            assert factor(one, other) > 1
            overlaps += factor(certified[i], certified[j]) <= 1
    for made, whole in zip(regions, certified, strict=True):
        # Inside the certified region, and as it is where it overlaps no other.
        share = np.linalg.eigvals(np.linalg.solve(shape(whole), shape(made))).real
        assert share.max() <= 1 + 1e-9
        narrower += share.min() < 0.999
        assert share.min() > 1 - 1e-5 or not made.noise.is_diagonal
    assert overlaps > 0 and narrower > 0


def test_a_region_is_narrowed_not_shrunk():
    """Two balls in 2-D: the second keeps its width along the border."""
    eye = IsotropicNoise(torch.ones(1), (1, 1, 2))
    first = Entry.of(region(torch.zeros(1, 1, 1, 2), 0, 2.0, eye), 0)
    second = region(torch.tensor([3.0, 0.0]).view(1, 1, 1, 2), 1, 2.0, eye)
    made = narrowed_to_fit(second, 1, [first]).region
    assert made.radius * made.noise.axes[0].numpy() == pytest.approx([1.0, 2.0], rel=1e-5)
    alike = replace(second, prediction=np.array([0]))
    assert narrowed_to_fit(alike, 1, [first]).region is alike
    smaller = second.with_radius(np.array([0.999]))
    assert narrowed_to_fit(smaller, 1, [first]).region is smaller


@pytest.mark.parametrize("away", [1e-2, 1e-4, 1e-7, 0.0, -1e-3])
def test_beside_a_border_what_is_remembered_is_still_disjoint(away: float):
    scale = FullNoise(rotation_matrix(3, 1)[None] * torch.tensor([0.1, 1.0, 2.0]), (1, 1, 3))
    first = Entry.of(region(torch.zeros(1, 1, 1, 3), 0, 2.0, scale.lower()), 0)
    border = scale.scale[0] @ torch.tensor([0.6, 0.0, 0.8]) * 2.0 * (1 + away)
    ball = IsotropicNoise(torch.ones(1), (1, 1, 3))
    made = narrowed_to_fit(region(border.view(1, 1, 1, 3), 1, 2.0, ball), 1, [first])
    assert (made is not None) or away < 1e-5
    if made is not None:
        # So near the margin is in digits that the factor does not have.
        assert factor(first.region, made.region) > (1 if away > 1e-5 else 1 - 1e-10)


@pytest.mark.parametrize("longest", [1e2, 1e5, 1e12])
def test_a_region_with_very_long_axes_is_narrowed_or_not_remembered(longest: float):
    axes = torch.tensor([0.1, 0.3, 1.0, longest])
    ball = IsotropicNoise(torch.ones(1), (4,))
    first = Entry.of(region(torch.zeros(1, 4), 0, 2.0, ball), 0)
    noise = FullNoise((rotation_matrix(4, 3) * axes)[None], (4,)).lower()
    second = region(torch.tensor([[2.5, 0.0, 0.0, 0.0]]), 1, 2.0, noise)
    made = narrowed_to_fit(second, 1, [first])
    assert made is not None or longest > 1e6
    if made is not None:
        assert made.region.l2_radius[0] > 0.01
        assert factor(made.region, first.region) > 1


def _gap(entry: Entry, points: Tensor) -> Tensor:
    """||S^-1 (x' - x)|| / r, (m,) float64; differentiable."""
    scale = entry.region.noise.matrix()[0]
    return torch.linalg.solve(scale, (points - entry.point).T).norm(dim=0) / entry.radius


@pytest.mark.parametrize("search", ["gradient", "gradient-free"])
def test_no_point_at_a_border_is_in_two_regions_of_different_classes(search: str):
    """The worst point of two regions, and points around it in single precision."""
    own = filled(d=3)
    near = 0
    generator = torch.Generator().manual_seed(0)
    for one, other in combinations(own.memory, 2):
        if one.prediction == other.prediction or factor(one.region, other.region) >= 1.1:
            continue
        points = one.point + torch.rand(8, 1, generator=generator) * (other.point - one.point)
        step = 0.3 * float((other.point - one.point).norm())
        for _ in range(40 if search == "gradient" else 80):
            if search == "gradient":
                points = points.detach().requires_grad_()
                worst = torch.maximum(_gap(one, points), _gap(other, points))
                (slope,) = torch.autograd.grad(worst.sum(), points)
                tried = points.detach() - step * nn.functional.normalize(slope)
            else:
                tried = points + step * torch.randn(8, 3, generator=generator, dtype=torch.float64)
            now, then = (torch.maximum(_gap(one, p), _gap(other, p)) for p in (points, tried))
            points = torch.where((then < now)[:, None], tried, points.detach())
            step *= 0.9
        best = torch.maximum(_gap(one, points), _gap(other, points))
        assert float(best.min()) > 1
        near += float(best.min()) < 1.01
        for shift in (-1e-6, 0.0, 1e-6):
            for point in (points + shift).float().double():
                assert not (one.contains(point) and other.contains(point))
    assert near > 1  # pairs that touch as far as 1 % tells

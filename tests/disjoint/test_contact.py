"""Hyperplanes between regions against the exact contact of small ellipsoids."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from rddrs_dist.disjoint import Contacts, contacts, preconditioner
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from rddrs_dist.region import Region
from tests.disjoint.problems import factor

EVENT = (1, 2, 3)
D = 6
N = 24


def random(kind: str, seed: int) -> Noise:
    """Noise of N images with axes from about 0.05 to 2."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(N, *shape, generator=generator)

    if kind == "isotropic":
        return IsotropicNoise(0.3 * draw().exp(), EVENT)
    if kind == "diagonal":
        return DiagonalNoise(0.6 * draw(*EVENT).exp(), EVENT)
    frame = torch.linalg.qr(draw(D, D)).Q
    return FullNoise(frame @ torch.diag_embed(0.6 * draw(D).exp()), EVENT)


def regions(kind: str, seed: int = 0) -> Region:
    """Regions of three classes, some of which overlap."""
    generator = torch.Generator().manual_seed(seed + 1)
    centres = 2 * torch.rand(N, *EVENT, generator=generator)
    radius = 0.5 + torch.rand(N, generator=generator, dtype=torch.float64)
    return Region(centres, random(kind, seed), radius.numpy(), np.arange(N) % 3)


def searched(own: Region) -> Contacts:
    """What is found of all pairs."""
    return contacts(own, None, preconditioner(own))


def found(own: Region) -> dict[tuple[int, int], float]:
    """Lower bound of the factor of each pair that was searched."""
    pairs = searched(own)
    numbers = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return dict(zip(numbers, pairs.factor(own.radius).tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_factors_are_never_above_the_exact_one_and_tell_every_pair_apart(kind: str, seed: int):
    own = regions(kind, seed)
    known, conflicts, disjoint = found(own), [], 0
    for i in range(N):
        for j in range(i + 1, N):
            if own.prediction[i] == own.prediction[j]:
                assert (i, j) not in known
                continue
            exact = factor(own, own, i, j)
            bound = known.get((i, j), math.inf)
            assert (bound > 1) == (exact > 1)
            if (i, j) in known:
                assert bound <= exact * (1 + 1e-9)
            # A search ends when a pair is disjoint; where it is not, it comes near to the contact.
            conflicts += [bound / exact] if exact <= 1 else []
            disjoint += exact > 1
    assert len(conflicts) > 5 and disjoint > 5
    assert min(conflicts) > 0.75 and sum(conflicts) / len(conflicts) > 0.98


def test_one_step_is_exact_where_scales_are_diagonal():
    own = regions("diagonal")
    pairs = contacts(own, None, None)
    clear = pairs.factor(own.radius) > 1.01
    assert clear.any() and set(pairs.steps[clear].tolist()) == {1}


def test_two_sets_give_the_same_as_one():
    own = regions("full", seed=4)
    whole, parts = found(own), (own[:10], own[10:])
    crossed = contacts(*parts, preconditioner(own))
    mu = crossed.factor(parts[0].radius, parts[1].radius)
    for i, j, bound in zip(crossed.first, crossed.second, mu, strict=True):
        assert whole[int(i), int(j) + 10] == pytest.approx(float(bound), rel=1e-3)
    assert len(mu) == sum(i < 10 <= j for i, j in whole)


def test_parts_are_joined_in_the_order_of_their_regions():
    pairs = searched(regions("full"))
    again = Contacts.joined([pairs[7:], Contacts.none(D), pairs[:7]])
    for field in fields(Contacts):
        one, other = getattr(pairs, field.name), getattr(again, field.name)
        assert np.array_equal(one, other) and one.dtype == other.dtype


def test_the_same_image_with_two_predictions_is_in_both_regions():
    own = regions("full")
    twice = Region(own.centre[:1].repeat(2, 1, 1, 1), own.noise[:2], own.radius[:2], np.arange(2))
    assert searched(twice).factor(twice.radius).tolist() == [0]


def long_regions(d: int) -> Region:
    """Regions of which 20 axes are far longer than the pixel domain, as those of RDDRS may be."""
    generator, scales = torch.Generator().manual_seed(0), []
    for _ in range(6):
        frame = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
        axes = 0.5 + torch.rand(d, generator=generator, dtype=torch.float64)
        axes[:20], axes[0] = 2e4, 1e6
        scales.append(frame * axes)
    noise = FullNoise(torch.stack(scales), (1, d, 1)).lower()
    noise = FullNoise(noise.scale.float(), (1, d, 1))
    centres = torch.rand(6, 1, d, 1, generator=generator)
    return Region(centres, noise, np.full(6, 3.7), np.arange(6) % 3)


def test_regions_with_very_long_axes_are_searched_too():
    own = long_regions(120)
    known = found(own)
    assert len(known) == 12
    for (i, j), bound in known.items():
        exact = factor(own, own, i, j)
        assert 0.7 * exact < bound <= exact * (1 + 1e-9)


@pytest.mark.parametrize(("size", "usable"), [(1.0, True), (1e30, True), (0.0, False)])
def test_there_is_no_preconditioner_of_what_is_not_finite(size: float, usable: bool):
    own = long_regions(40)
    noise = FullNoise(own.noise.scale * size, own.noise.event_shape)
    assert (preconditioner(replace(own, noise=noise)) is not None) == usable

"""Planes between regions against the exact contact of small ellipsoids."""

import math

import pytest
import torch

from rddrs_dist.disjoint import Regions, mean_inverse, touch
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from tests.oracles import contact_factor

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


def regions(kind: str, seed: int = 0) -> Regions:
    """Regions of three classes, some of which overlap."""
    generator = torch.Generator().manual_seed(seed + 1)
    centres = 2 * torch.rand(N, *EVENT, generator=generator)
    radius = 0.5 + torch.rand(N, generator=generator, dtype=torch.float64)
    return Regions(centres, torch.arange(N) % 3, radius, random(kind, seed))


def exact_factor(own: Regions, i: int, j: int) -> float:
    """The factor of one pair."""
    dense = (own.noise.covariance() * own.radius.view(-1, 1, 1) ** 2).numpy()
    return contact_factor(dense[i], dense[j], (own.points[j] - own.points[i]).numpy())


def found(own: Regions) -> dict[tuple[int, int], float]:
    """Lower bound of the factor of each pair that was looked at."""
    touched = touch(own, own, mean_inverse([own]), same=True)
    mu = touched.mu(own.radius, own.radius)
    pairs = zip(touched.rows.tolist(), touched.columns.tolist(), strict=True)
    return dict(zip(pairs, mu.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_factors_are_never_above_the_exact_one_and_tell_every_pair_apart(kind: str, seed: int):
    own = regions(kind, seed)
    known, conflicts, apart = found(own), [], 0
    for i in range(N):
        for j in range(i + 1, N):
            if own.prediction[i] == own.prediction[j]:
                assert (i, j) not in known
                continue
            exact = exact_factor(own, i, j)
            bound = known.get((i, j), math.inf)
            assert (bound > 1) == (exact > 1)
            if (i, j) in known:
                assert bound <= exact * (1 + 1e-9)
            # A search ends when a pair is apart; where none is, it comes near to the contact.
            conflicts += [bound / exact] if exact <= 1 else []
            apart += exact > 1
    assert len(conflicts) > 5 and apart > 5
    assert min(conflicts) > 0.75 and sum(conflicts) / len(conflicts) > 0.98


def test_one_step_is_exact_where_scales_are_diagonal():
    own = regions("diagonal")
    touched = touch(own, own, None, same=True)
    clear = touched.mu(own.radius, own.radius) > 1.01
    assert clear.any() and set(touched.steps[clear].tolist()) == {1}


def test_two_sets_give_the_same_as_one():
    own = regions("full", seed=4)
    whole = found(own)
    inverse = mean_inverse([own])
    parts = (own[:10], own[10:])
    crossed = touch(*parts, inverse)
    mu = crossed.mu(parts[0].radius, parts[1].radius)
    for i, j, factor in zip(crossed.rows, crossed.columns, mu, strict=True):
        assert whole[int(i), int(j) + 10] == pytest.approx(float(factor), rel=1e-3)
    assert len(mu) == sum(i < 10 <= j for i, j in whole)


def test_a_plane_holds_for_points_of_both_regions():
    """The definition itself: no point of one region is on the side of the other."""
    own = regions("full", seed=5)
    known = found(own)
    generator = torch.Generator().manual_seed(9)
    sphere = torch.nn.functional.normalize(
        torch.randn(2000, D, generator=generator, dtype=torch.float64)
    )
    scale = own.noise.scale.double()
    for (i, j), factor in known.items():
        shrunk = min(factor, 1.0) * (1 - 1e-6)
        points = own.points[i] + shrunk * own.radius[i] * sphere @ scale[i].mT
        inside = torch.linalg.solve(scale[j], (points - own.points[j]).mT).norm(dim=0)
        assert float(inside.min()) > shrunk * float(own.radius[j])


def test_the_same_image_with_two_predictions_has_no_room():
    own = regions("full")
    twice = Regions(
        own.centres[:1].repeat(2, 1, 1, 1),
        torch.tensor([0, 1]),
        own.radius[:2],
        own.noise[:2],
    )
    touched = touch(twice, twice, mean_inverse([twice]), same=True)
    assert len(touched.rows) == 1
    assert float(touched.mu(twice.radius, twice.radius)) <= 0


def long_regions(d: int) -> Regions:
    """Regions of which 20 axes are far longer than the pixel domain, as those of RDDRS may be."""
    generator, scales = torch.Generator().manual_seed(0), []
    for _ in range(6):
        frame = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
        axes = 0.5 + torch.rand(d, generator=generator, dtype=torch.float64)
        axes[:20], axes[0] = 2e4, 1e6
        scales.append(frame * axes)
    noise = FullNoise(torch.stack(scales), (1, d, 1)).lower()
    centres = torch.rand(6, 1, d, 1, generator=generator)
    radius = torch.full((6,), 3.7, dtype=torch.float64)
    return Regions(centres, torch.arange(6) % 3, radius, FullNoise(noise.scale.float(), (1, d, 1)))


def test_regions_with_very_long_axes_are_searched_too():
    own = long_regions(120)
    known = found(own)
    assert len(known) == 12
    for (i, j), bound in known.items():
        exact = exact_factor(own, i, j)
        assert 0.7 * exact < bound <= exact * (1 + 1e-9)


def test_there_is_no_preconditioner_of_what_is_not_finite():
    own = long_regions(40)
    huge = FullNoise(own.noise.scale * 1e30, own.noise.event_shape)
    assert mean_inverse([own]) is not None
    assert mean_inverse([Regions(own.centres, own.prediction, own.radius, huge)]) is not None
    tiny = FullNoise(own.noise.scale * 0, own.noise.event_shape)
    assert mean_inverse([Regions(own.centres, own.prediction, own.radius, tiny)]) is None

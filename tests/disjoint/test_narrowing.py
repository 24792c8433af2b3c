"""A narrowed region is inside the certified one and on its side, whatever the condition."""

import numpy as np
import pytest
import torch

from rddrs_dist.disjoint import narrowed
from rddrs_dist.noise import DiagonalNoise, FullNoise, Noise

EXTENDED = np.longdouble
D = 48


def lower(axes: torch.Tensor, seed: int) -> FullNoise:
    """A lower triangular scale in single precision with about the given axes."""
    generator = torch.Generator().manual_seed(seed)
    d = len(axes)
    frame = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    scale = FullNoise((frame * axes.double())[None], (d,)).lower().scale
    return FullNoise(scale.float(), (d,))


def planes(noise: Noise, share: float, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Normals along narrow directions, and bounds as a share of what the region reaches."""
    generator = torch.Generator().manual_seed(seed)
    scale = noise.matrix()[0]
    v = torch.randn(count, len(scale), generator=generator, dtype=torch.float64)
    w = torch.linalg.solve(scale.mT, torch.linalg.solve(scale, v.mT)).mT
    w = (w / w.norm(dim=1, keepdim=True)).float().double()
    return w, (w @ scale).norm(dim=1) * share


def exact(noise: Noise) -> np.ndarray:
    """S in extended precision."""
    return noise.matrix()[0].numpy().astype(EXTENDED)


def stretch(outer: np.ndarray, inner: np.ndarray) -> float:
    """||S^-1 S'|| for a lower triangular S, in extended precision."""
    ratio = np.zeros_like(inner)
    for row in range(len(outer)):
        ratio[row] = (inner[row] - outer[row, :row] @ ratio[:row]) / outer[row, row]
    square = ratio.T @ ratio
    vector = np.linalg.eigh(square.astype(float))[1][:, -1].astype(EXTENDED)
    for _ in range(50):
        vector = square @ vector
        vector /= np.sqrt(vector @ vector)
    image = ratio @ vector
    return np.sqrt(image @ image)


@pytest.mark.parametrize("share", [0.5, 1e-2, 1e-5, 1e-8])
@pytest.mark.parametrize("condition", [10.0, 1e4, 1e6, 1e8, 1e9])
def test_what_is_claimed_holds_in_extended_precision(condition: float, share: float):
    noise = lower(0.5 * torch.logspace(0, np.log10(condition), D, dtype=torch.float64), 1)
    w, bounds = planes(noise, share, 5, 3)
    found = narrowed(noise, float(noise.min_axis), w, bounds)
    # Single precision may leave nothing of a region that is both long and narrow.
    assert found is not None or (condition > 1e5 and share < 1e-4) or condition > 1e7
    if found is not None:
        made, kept = found
        inner = exact(made)
        assert 0 < kept <= 1
        assert kept * stretch(exact(noise), inner) <= 1
        reach = np.sqrt(np.square(inner.T @ w.numpy().astype(EXTENDED).T).sum(0))
        assert (kept * reach <= bounds.numpy().astype(EXTENDED)).all()
        assert made.scale.dtype == torch.float32 and not made.scale.triu(1).any()


@pytest.mark.parametrize("count", [5, 2 * D])
def test_little_is_lost_of_a_region_of_usual_shape(count: int):
    """Fewer planes than dimensions, and more, which takes another way."""
    noise = lower(torch.linspace(0.5, 5, D), 2)
    w, bounds = planes(noise, 0.9, count, 4)
    made, kept = narrowed(noise, float(noise.min_axis), w, bounds)
    reach = kept * (w @ made.matrix()[0]).norm(dim=1) / bounds
    assert 1 - 1e-5 < float(reach.max()) <= 1
    assert kept > 1 - 2e-4
    lost = float((noise.logdet - made.logdet)[0])
    assert 0 < lost < count * np.log(1 / 0.9) + 1e-3


def test_both_ways_to_find_the_weights_agree():
    """A plane that is there again and again changes nothing, but there are more than axes."""
    noise = lower(torch.linspace(0.5, 5, D), 2)
    w, bounds = planes(noise, 0.5, 5, 4)
    few, many = (
        narrowed(noise, float(noise.min_axis), w.repeat(times, 1), bounds.repeat(times))
        for times in (1, D)
    )
    assert float(few[0].logdet) == pytest.approx(float(many[0].logdet), abs=1e-3)


@pytest.mark.parametrize("dense", [True, False])
def test_a_scale_need_not_be_triangular(dense: bool):
    axes = torch.linspace(0.5, 2, D)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1))).Q
    noise = (
        FullNoise((axes.diag() @ turn)[None], (D,)) if dense else DiagonalNoise(axes[None], (D,))
    )
    w, bounds = planes(noise, 0.5, 3, 4)
    made, kept = narrowed(noise, float(noise.min_axis), w, bounds)
    inside = torch.linalg.solve(noise.matrix()[0], kept * made.matrix()[0])
    assert 0.999 < float(torch.linalg.matrix_norm(inside, 2)) <= 1
    assert ((w @ made.matrix()[0]).norm(dim=1) * kept <= bounds).all()


def test_without_planes_the_region_is_itself():
    noise = lower(torch.linspace(0.5, 2, D), 5)
    made, kept = narrowed(noise, float(noise.min_axis), torch.empty(0, D).double(), torch.empty(0))
    assert torch.equal(made.scale, noise.scale) and 1 - 1e-8 < kept < 1


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), 1e-160])
def test_where_no_room_can_be_told_from_none_nothing_is_claimed(bound: float):
    noise = lower(torch.linspace(0.5, 2, D), 5)
    w = torch.eye(D, dtype=torch.float64)[:2]
    assert narrowed(noise, 0.5, w, torch.tensor([bound, 1.0], dtype=torch.float64)) is None


def test_a_scale_that_may_be_singular_has_nothing_inside():
    noise = lower(torch.linspace(0.5, 2, D), 5)
    assert narrowed(noise, 0.0, *planes(noise, 0.5, 3, 4)) is None

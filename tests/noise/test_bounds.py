"""Sizes are lower bounds, also where floating point is at its worst."""

import pytest
import torch
from torch import linalg

from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise
from rddrs_dist.noise.full import ends


def _graded(condition: float, dimension: int, seed: int) -> torch.Tensor:
    """A symmetric scale with axes from 1 to `condition`, (d, d) float32."""
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    frame = linalg.qr(square).Q
    axes = torch.logspace(0, torch.tensor(condition).log10().item(), dimension).double()
    return ((frame * axes) @ frame.T).float()


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
def test_min_and_mean_axis_of_a_full_scale_are_never_above_the_truth(condition):
    """The truth in 60 digits: the exact Gram matrix of the stored float32 numbers."""
    mpmath = pytest.importorskip("mpmath")
    scale = _graded(condition, 12, seed=3)
    noise = FullNoise(scale[None], (1, 3, 4))
    with mpmath.workdps(60):
        exact = mpmath.matrix(scale.double().tolist())
        smallest = mpmath.sqrt(min(mpmath.eigsy(exact.T * exact, eigvals_only=True)))
        mean = abs(mpmath.det(exact)) ** (mpmath.mpf(1) / 12)
        assert mpmath.mpf(noise.min_axis.item()) <= smallest
        assert mpmath.mpf(noise.mean_axis.item()) <= mean
        assert noise.min_axis.item() > float(smallest) * (1 - 1e-6)
        assert noise.mean_axis.item() > float(mean) * (1 - 1e-6)


def test_a_scale_too_ill_conditioned_for_float64_is_worth_nothing():
    noise = FullNoise(torch.diag(torch.tensor([1e18, 1.0]))[None], (1, 1, 2))
    assert noise.min_axis.item() == 0
    assert noise.mean_axis.item() == 0


@pytest.fixture
def without_axes(monkeypatch):
    """Sizes of triangular scales as a GPU finds them, from bounds and the diagonal."""
    monkeypatch.setattr(FullNoise, "_ends", property(lambda noise: ends(noise.scale.double())))


def test_sizes_without_axes_are_those_with_them(without_axes, monkeypatch):
    scale = torch.stack([_graded(condition, 12, seed=4) for condition in (1.0, 1e2)])
    lower = FullNoise(scale, (1, 3, 4)).lower()
    axes = linalg.svdvals(lower.scale.double()).flip(-1)
    above = torch.full((2,), 101.0, dtype=torch.float64)
    inside = torch.tensor([0.5, 50.0], dtype=torch.float64)
    for limit in (above, inside):
        capped = torch.minimum(axes, limit[:, None]).log().mean(1).exp()
        found = lower.capped_mean_axis(limit)
        torch.testing.assert_close(found, capped, rtol=1e-9, atol=0)
        assert (found <= capped).all()
        assert torch.equal(lower.axes_above(limit), (axes > limit[:, None]).sum(1))
    for size, exact in (
        (lower.min_axis, axes[:, 0]),
        (lower.mean_axis, axes.log().mean(1).exp()),
        (lower.max_axis, axes[:, -1]),
    ):
        torch.testing.assert_close(size, exact, rtol=1e-9, atol=0)
    assert (lower.min_axis <= lower.mean_axis).all() and (lower.mean_axis <= lower.max_axis).all()

    def dear(noise: FullNoise) -> None:
        raise AssertionError("singular values were computed")

    monkeypatch.setattr(FullNoise, "_spectrum", property(dear))
    fresh = FullNoise(lower.scale, (1, 3, 4))
    assert fresh.axes_above(above).tolist() == [0, 0]
    assert torch.equal(fresh.capped_mean_axis(above), fresh.mean_axis)
    with pytest.raises(AssertionError):
        fresh.axes_above(inside)


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_standard_deviations_must_be_positive(sigma):
    with pytest.raises(ValueError, match="must be positive"):
        IsotropicNoise(torch.tensor([sigma]), (1, 2, 2))
    with pytest.raises(ValueError, match="must be positive"):
        DiagonalNoise(torch.full((1, 1, 2, 2), sigma), (1, 2, 2))

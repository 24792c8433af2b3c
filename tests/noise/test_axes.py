"""Axes by two ways: bounds below the truth, and near to it."""

import mpmath
import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.noise.full import axes_by_squares, axes_by_values

D = 12


def scale(smallest: float, seed: int) -> Tensor:
    """S (2, D, D), axes from a smallest one to 10."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        linalg.qr(torch.randn(2, D, D, generator=generator, dtype=torch.float64)).Q
        for _ in range(2)
    )
    spread = torch.logspace(torch.tensor(smallest).log10().item(), 1, D, dtype=torch.float64)
    return (first * spread) @ second


def exact(matrix: Tensor) -> list[mpmath.mpf]:
    """Singular values, ascending, to 50 digits."""
    with mpmath.workdps(50):
        found = mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False)
        return sorted(found)


@pytest.mark.parametrize("way", [axes_by_values, axes_by_squares])
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4, 1e-7])
def test_bounds_are_below_the_truth_and_near_to_it(way, smallest):
    for seed in range(3):
        matrices = scale(smallest, seed)
        axes, errors = way(matrices)
        below = axes - errors
        for matrix, own in zip(matrices, below, strict=True):
            for bound, truth in zip(own.tolist(), exact(matrix), strict=True):
                assert 0 < bound <= truth
                assert bound > truth * (1 - 2e-4)


def test_only_images_that_feel_it_have_singular_values_computed(monkeypatch):
    matrices = torch.cat([scale(1e-2, 0)[:1], scale(1e-7, 0)[:1]])
    seen: list[int] = []

    def noted(some: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(some))
        return axes_by_values(some)

    monkeypatch.setattr("rddrs_dist.noise.full.axes_by_values", noted)
    axes, _ = axes_by_squares(matrices)
    assert seen == [1]
    torch.testing.assert_close(axes, axes_by_values(matrices)[0], rtol=1e-6, atol=0)

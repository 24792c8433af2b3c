"""Cutting axes at a cap: two ways, one covariance."""

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.methods.axis_cap import Cut, cut_by_eigenvalues, cut_by_products

D = 40


def scales(widest: float) -> Tensor:
    """(3, D, D) with axes from 0.01 to a widest one, many of them equal."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(2, 3, D, D, generator=generator, dtype=torch.float64)
    first, second = linalg.qr(draw).Q
    axes = torch.logspace(-2, 0, D, dtype=torch.float64).clamp_max(0.7) / 0.7 * widest
    return (first * axes) @ second


CAPS = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)


def consistent(cut: Cut) -> None:
    """S' has the axes that it says, and the whitening is that of S'."""
    one = torch.eye(D, dtype=torch.float64).expand(3, -1, -1)
    torch.testing.assert_close(cut.turn @ cut.whitening.mT @ cut.scale, one, atol=1e-8, rtol=0)
    torch.testing.assert_close(cut.turn @ cut.turn.mT, one)
    torch.testing.assert_close(linalg.matrix_norm(cut.scale, 2), cut.widest, rtol=1e-4, atol=0)


@pytest.mark.parametrize("widest", [0.3, 3.0, 20.0])
def test_products_cut_what_eigenvalues_cut(widest):
    first, second = (way(scales(widest), CAPS) for way in (cut_by_eigenvalues, cut_by_products))
    for cut in (first, second):
        consistent(cut)
        assert (cut.widest <= CAPS).all()
    covariances = [cut.scale @ cut.scale.mT for cut in (first, second)]
    torch.testing.assert_close(covariances[1], covariances[0], rtol=1e-5, atol=1e-5)
    assert not second.scale.triu(1).any()


@pytest.mark.parametrize("way", [cut_by_eigenvalues, cut_by_products])
def test_few_are_near_along_the_first_columns(way):
    """These are the narrowest axes, or near to them."""
    lengths = way(scales(3.0), CAPS).whitening.norm(dim=1)
    assert (lengths[:, :-1] >= lengths[:, 1:] * (1 - 1e-9)).all()


def test_a_scale_too_flat_for_its_square_is_cut_by_eigenvalues_and_no_other():
    frame = linalg.qr(scales(1.0)).Q
    flat = frame * torch.logspace(0, -20, D, dtype=torch.float64) @ frame.mT
    mixed = torch.cat([scales(3.0)[:1], flat[1:]])
    found, alone = cut_by_products(mixed, CAPS), cut_by_products(mixed[:1], CAPS[:1])
    wanted = cut_by_eigenvalues(mixed[1:], CAPS[1:])
    for part, own, other in zip(found, alone, wanted, strict=True):
        torch.testing.assert_close(part[:1], own)
        assert torch.equal(part[1:], other)

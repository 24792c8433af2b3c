"""Cutting axes at a cap: two ways, one covariance."""

import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.methods.axis_cap import Capped, capped_by_eigenvalues, capped_by_products
from tests.oracles import spread, with_axes

D = 40


def scales(widest: float) -> Tensor:
    """(3, D, D) with axes from 0.01 to a widest one, many of them equal."""
    return with_axes(spread(1e-2, 1, D).clamp_max(0.7) / 0.7 * widest, 3, seed=0)


CAPS = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)


def consistent(cut: Capped) -> None:
    """S' has the axes that it says, and the whitening is that of S'."""
    one = torch.eye(D, dtype=torch.float64).expand(3, -1, -1)
    torch.testing.assert_close(cut.turn @ cut.whitening.mT @ cut.scale, one, atol=1e-8, rtol=0)
    torch.testing.assert_close(cut.turn @ cut.turn.mT, one)
    torch.testing.assert_close(linalg.matrix_norm(cut.scale, 2), cut.widest, rtol=1e-4, atol=0)


@pytest.mark.parametrize("widest", [0.3, 3.0, 20.0])
def test_products_cut_what_eigenvalues_cut(widest):
    first, second = (
        way(scales(widest), CAPS) for way in (capped_by_eigenvalues, capped_by_products)
    )
    for cut in (first, second):
        consistent(cut)
        assert (cut.widest <= CAPS).all()
    covariances = [cut.scale @ cut.scale.mT for cut in (first, second)]
    torch.testing.assert_close(covariances[1], covariances[0], rtol=1e-5, atol=1e-5)
    assert not second.scale.triu(1).any()


@pytest.mark.parametrize("way", [capped_by_eigenvalues, capped_by_products])
def test_few_are_near_along_the_first_columns(way):
    """These are the narrowest axes, or near to them."""
    lengths = way(scales(3.0), CAPS).whitening.norm(dim=1)
    assert (lengths[:, :-1] >= lengths[:, 1:] * (1 - 1e-9)).all()


def test_a_scale_too_flat_for_its_square_is_capped_by_eigenvalues_and_no_other():
    flat = with_axes(spread(1, 1e-20, D), 3, seed=1)
    mixed = torch.cat([scales(3.0)[:1], flat[1:]])
    found, alone = capped_by_products(mixed, CAPS), capped_by_products(mixed[:1], CAPS[:1])
    wanted = capped_by_eigenvalues(mixed[1:], CAPS[1:])
    for part, own, other in zip(found, alone, wanted, strict=True):
        torch.testing.assert_close(part[:1], own)
        assert torch.equal(part[1:], other)

"""Packed scales: what comes back is what went in, bit for bit."""

import numpy as np
import pytest
import torch

from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise
from rddrs_dist.noise.packed import Packed, pack, unpack

EVENT = (1, 2, 3)
D = 6
GENERATOR = torch.Generator().manual_seed(0)
DENSE = torch.eye(D) + 0.1 * torch.randn(4, D, D, generator=GENERATOR)
NOISES = {
    "isotropic": IsotropicNoise(torch.tensor([0.1, 0.25, 0.3, 7.0]), EVENT),
    "diagonal": DiagonalNoise(0.1 + torch.rand(4, *EVENT, generator=GENERATOR), EVENT),
    "lower": FullNoise(DENSE.tril(), EVENT),
    "dense": FullNoise(DENSE, EVENT),
}


@pytest.mark.parametrize("kind", NOISES)
def test_a_noise_comes_back_bit_for_bit(kind: str):
    noise = NOISES[kind]
    packed = pack(noise)
    assert {one.kind for one in packed} == {kind}
    again = unpack(packed, EVENT)
    assert type(again) is type(noise)
    assert torch.equal(again.scale, noise.scale)


def test_a_triangle_takes_half_the_room_of_a_matrix():
    sizes = [pack(NOISES[kind])[0].values.size for kind in ("isotropic", "diagonal", "lower")]
    assert [*sizes, pack(NOISES["dense"])[0].values.size] == [1, D, D * (D + 1) // 2, D * D]


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (("isotropic", "diagonal"), DiagonalNoise),
        (("isotropic", "lower"), FullNoise),
        (("diagonal", "dense", "isotropic"), FullNoise),
    ],
)
def test_noises_of_several_kinds_become_one_that_holds_them_all(kinds, common):
    together = unpack([pack(NOISES[kind])[1] for kind in kinds], EVENT)
    assert type(together) is common
    wanted = torch.stack([NOISES[kind].covariance()[1] for kind in kinds])
    assert torch.equal(together.covariance(), wanted)


def test_the_hash_tells_every_bit_and_the_kind_apart():
    values = np.arange(D, dtype=np.float32)
    changed = values.copy()
    changed[3] = np.nextafter(changed[3], np.float32(9))
    hashes = {
        one.sha256
        for one in (
            Packed("diagonal", values),
            Packed("diagonal", changed),
            Packed("lower", values),
            Packed("diagonal", values.astype(np.float64)),
        )
    }
    assert len(hashes) == 4
    assert Packed("diagonal", values.copy()).sha256 in hashes


def test_a_scale_of_other_images_is_refused():
    with pytest.raises(ValueError, match="image of 6 elements .* got 5 of kind 'diagonal'"):
        unpack([Packed("diagonal", np.ones(5, np.float32))], EVENT)
    with pytest.raises(ValueError, match="kind 'round'"):
        unpack([Packed("round", np.ones(6, np.float32))], EVENT)

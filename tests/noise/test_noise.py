"""One contract for every noise: agreement with its dense covariance."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import linalg

import rddrs_dist.noise
from rddrs_dist.noise import (
    NOISES,
    DiagonalNoise,
    FullNoise,
    IsotropicNoise,
    LowRankNoise,
    Noise,
    pack,
    unpack,
)
from rddrs_dist.noise.base import Packed
from tests.oracles import normal, random_spd, rotation_matrix

EVENT = (1, 2, 3)
D = math.prod(EVENT)
B = 3
# Not symmetric, on purpose; the triangle with a diagonal of both signs.
DENSE = (linalg.cholesky(random_spd(B, D, seed=0)) @ linalg.qr(random_spd(B, D, seed=1)).Q).float()
TRIANGLE = linalg.cholesky(random_spd(B, D, seed=2)).float() * torch.tensor([1, -1, 1, 1, -1, 1])
EXAMPLES: dict[str, Noise] = {
    "isotropic": IsotropicNoise(torch.tensor([0.3, 1.7, 0.1]), EVENT),
    "diagonal": DiagonalNoise(normal(B, *EVENT, seed=4).abs().float() + 0.1, EVENT),
    "low-rank": LowRankNoise.of(
        torch.tensor([0.3, 1.7, 0.1]),
        normal(B, D, 2, seed=7),
        normal(B, 2, seed=8) ** 2 + 0.5,
        EVENT,
    ),
    "lower": FullNoise(TRIANGLE, EVENT),
    "dense": FullNoise(DENSE, EVENT),
}
SIZES = {"isotropic": 1, "diagonal": D, "low-rank": 1 + 2 * D}
SIZES |= {"lower": D * (D + 1) // 2, "dense": D * D}
of_every_noise = pytest.mark.parametrize("noise", EXAMPLES.values(), ids=EXAMPLES.keys())
VECTORS = normal(B, *EVENT, seed=5)
FLAT = VECTORS.flatten(1).unsqueeze(-1)


def test_every_kind_of_every_noise_is_under_the_contract():
    assert {type(noise) for noise in EXAMPLES.values()} == set(NOISES)
    assert set(EXAMPLES) == {kind for structure in NOISES for kind in structure.kinds}


@of_every_noise
def test_samples_have_the_covariance(noise):
    n = 50_000
    samples = noise.colour(normal(B, n, *EVENT, seed=1).float()).flatten(2).double()  # (B, n, d)
    covariance = samples.mT @ samples / n
    scale = noise.covariance().diagonal(dim1=1, dim2=2).sqrt()
    error = (covariance - noise.covariance()) / (scale.unsqueeze(1) * scale.unsqueeze(2))
    assert samples.mean(1).abs().max() < 5 * scale.max() / n**0.5
    assert error.abs().max() < 5 * 2**0.5 / n**0.5  # five standard deviations


@of_every_noise
def test_the_dense_scale_is_a_root_of_the_covariance(noise):
    scale = noise.matrix()
    torch.testing.assert_close(scale @ scale.mT, noise.covariance())
    diagonal = noise.covariance().diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(noise.variances(), diagonal)
    assert noise.is_lower == (not scale.triu(1).any())
    assert noise.is_diagonal == (not (scale - torch.diag_embed(scale.diagonal(0, 1, 2))).any())


@of_every_noise
def test_sizes_are_those_of_the_covariance(noise):
    squares = linalg.eigvalsh(noise.covariance())
    axes, close = squares.sqrt(), {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(noise.axes, axes, **close)
    torch.testing.assert_close(noise.min_axis, axes[:, 0], **close)
    torch.testing.assert_close(noise.max_axis, axes[:, -1], **close)
    torch.testing.assert_close(noise.logdet, axes.log().sum(1), **close)
    torch.testing.assert_close(noise.mean_axis, axes.log().mean(1).exp(), rtol=1e-9, atol=0)
    # A bound of the norm from above, near to it.
    norm = linalg.matrix_norm(noise.matrix())
    assert (noise.frobenius >= norm * (1 - 1e-15)).all()
    torch.testing.assert_close(noise.frobenius, norm, rtol=1e-5, atol=0)


@of_every_noise
def test_distance_and_support_are_norms_in_the_inverse_covariance_and_in_it(noise):
    squared = (FLAT.mT @ noise.covariance() @ FLAT).flatten()
    torch.testing.assert_close(noise.support(VECTORS), squared.sqrt())
    distances = (FLAT.mT @ linalg.solve(noise.covariance(), FLAT)).flatten().sqrt()
    torch.testing.assert_close(noise.mahalanobis(VECTORS), distances)
    for row in range(B):
        whitening = noise.whitening(row)
        dense = torch.diag(whitening) if whitening.ndim == 1 else whitening
        assert (whitening.ndim == 1) == noise.is_diagonal and whitening.dtype == torch.float64
        torch.testing.assert_close((dense.mT @ FLAT[row]).norm(), distances[row])
        if not noise.is_diagonal:  # longest columns first
            lengths = dense.norm(dim=0)
            assert (lengths[:-1] >= lengths[1:] * (1 - 1e-9)).all()


@of_every_noise
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_are_transformed_by_the_scale_of_their_owner(noise, dtype):
    owners = torch.tensor([2, 0, 0, 2])  # in no order, and none of the second image
    vectors = normal(4, D, seed=6).to(dtype)
    scale = noise.matrix()[owners]
    for found, matrix in (
        (noise.colour_of(owners, vectors), scale),
        (noise.adjoint_of(owners, vectors), scale.mT),
    ):
        assert found.dtype == dtype
        wanted = (matrix @ vectors.double().unsqueeze(-1))[..., 0]
        error = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(found.double(), wanted, atol=error, rtol=error)


@of_every_noise
def test_the_noise_of_one_image_may_be_that_of_many(noise):
    one = noise[1:2]
    many, copied = one.repeated(3), type(one).concatenate([one] * 3)
    assert len(many) == 3 and torch.equal(many.scale, copied.scale)
    assert many.is_lower == copied.is_lower
    for found, wanted in zip(many.extremes, copied.extremes, strict=True):
        torch.testing.assert_close(found, wanted)
    z = normal(3, 2, *one.event_shape, seed=3).float()
    torch.testing.assert_close(many.colour(z), copied.colour(z))
    with pytest.raises(ValueError, match="wanted the noise of one image, got that of 3"):
        many.repeated(2)


@of_every_noise
def test_a_lower_scale_is_the_same_noise(noise):
    lower = noise.lower()
    scale = lower.matrix()
    assert lower.is_lower and not scale.triu(1).any()
    assert (scale.diagonal(dim1=1, dim2=2) > 0).all()
    torch.testing.assert_close(lower.covariance(), noise.covariance(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dimension", [1, 6, 130, 300])
def test_zeros_above_the_diagonal_are_skipped_and_nothing_else(dimension):
    """More and fewer columns than are multiplied at once."""
    event = (1, 1, dimension)
    dense = FullNoise(random_spd(2, dimension, 1).float() @ rotation_matrix(dimension, 2), event)
    z = normal(2, 3, *event, seed=0).float()
    for noise in (dense, dense.lower()):
        for found, matrix in (
            (noise.colour(z), noise.matrix().mT),
            (noise.adjoint(z), noise.matrix()),
        ):
            wanted = (z.flatten(2).double() @ matrix).view_as(z)
            torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)


@of_every_noise
def test_parts_put_together_are_the_whole(noise):
    parts = [noise[0:1], noise[[1, 2]]]
    assert [len(part) for part in parts] == [1, 2] and noise[0:B] is noise
    assert torch.equal(type(noise).concatenate(parts).scale, noise.scale)
    assert torch.equal(torch.cat([one.scale for one in noise.each]), noise.scale)


@of_every_noise
def test_wrong_shapes_and_values_are_refused(noise):
    with pytest.raises(ValueError, match="wanted shape"):
        noise.mahalanobis(torch.zeros(B + 1, *EVENT))
    with pytest.raises(ValueError, match="must be finite"):
        type(noise)(noise.scale * torch.nan, EVENT)
    with pytest.raises(ValueError, match="must have shape"):
        type(noise)(noise.scale.unsqueeze(-1), EVENT)
    for factor in (0, -1) if noise.is_diagonal else ():
        with pytest.raises(ValueError, match="standard deviations must be positive"):
            type(noise)(noise.scale * factor, EVENT)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_noise_comes_back_bit_for_bit_and_takes_no_more_room_than_it_needs(kind: str):
    noise = EXAMPLES[kind]
    packed = pack(noise)
    assert {(one.kind, one.values.size) for one in packed} == {(kind, SIZES[kind])}
    again = unpack(packed, EVENT)
    assert type(again) is type(noise)
    assert torch.equal(again.scale, noise.scale)


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (("isotropic", "diagonal"), DiagonalNoise),
        (("isotropic", "lower"), FullNoise),
        (("diagonal", "dense", "isotropic"), FullNoise),
        (("isotropic", "low-rank"), LowRankNoise),
        (("low-rank", "diagonal", "lower", "isotropic"), FullNoise),
    ],
)
def test_noises_of_several_kinds_become_one_that_holds_them_all(kinds, common):
    together = unpack([pack(EXAMPLES[kind])[1] for kind in kinds], EVENT)
    assert type(together) is common
    wanted = torch.stack([EXAMPLES[kind].covariance()[1] for kind in kinds])
    assert torch.equal(together.covariance(), wanted)


def test_the_hash_tells_every_bit_and_the_kind_apart():
    values = np.arange(D, dtype=np.float32)
    changed = values.copy()
    changed[3] = np.nextafter(changed[3], np.float32(9))
    different = [("diagonal", values), ("diagonal", changed), ("lower", values)]
    different += [("diagonal", values.astype(np.float64))]
    hashes = {Packed(*one).sha256 for one in different}
    assert len(hashes) == 4
    assert Packed("diagonal", values.copy()).sha256 in hashes


def test_scales_of_other_images_and_of_no_noise_are_refused():
    for kind, size in SIZES.items():
        wrong = [Packed(kind, np.ones(size + 1, np.float32))]
        with pytest.raises(ValueError, match=f"have {size} numbers, got {size + 1}: it belongs"):
            unpack(wrong, EVENT)
    kinds = ", ".join(kind for structure in NOISES for kind in structure.kinds)
    with pytest.raises(ValueError, match=f"one of {kinds}, got 'round'"):
        unpack([Packed("round", np.ones(6, np.float32))], EVENT)


def like_diagonal(*missing: str) -> type[Noise]:
    """A noise of its own that does as a diagonal one does, without some of its methods."""
    names = Noise.__abstractmethods__ - {*missing}
    own = {name: inspect.getattr_static(DiagonalNoise, name) for name in names}
    return type("Other", (Noise,), {**own, "kinds": ("other",)})


def test_a_noise_is_stored_once_it_is_in_the_list(monkeypatch):
    scale = EXAMPLES["diagonal"].scale
    other = like_diagonal()(scale, EVENT)
    for one in (type("Other", (DiagonalNoise,), {})(scale, EVENT), other):  # one has a parent
        with pytest.raises(ValueError, match="got Other: add its class to NOISES") as caught:
            pack(one)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(rddrs_dist.noise, "NOISES", (*NOISES, type(other)))
    again = unpack(pack(other), EVENT)
    assert type(again) is type(other) and torch.equal(again.scale, other.scale)


@pytest.mark.parametrize("name", sorted(Noise.__abstractmethods__))
def test_a_noise_that_lacks_a_method_cannot_be_made(name):
    with pytest.raises(TypeError, match=name):
        like_diagonal(name)(EXAMPLES["diagonal"].scale, EVENT)

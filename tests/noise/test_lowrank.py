"""Noise of low rank against dense linear algebra, and its sizes against 50 digits."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.disjoint.contact import contacts, preconditioner
from rddrs_dist.disjoint.narrowing import bounds, narrowed
from rddrs_dist.methods import Ancer, Fit
from rddrs_dist.noise import FullNoise, IsotropicNoise, LowRankNoise, pack, unpack
from rddrs_dist.noise.base import Packed
from rddrs_dist.region import Region
from rddrs_dist.results import read
from rddrs_dist.run.disjoint import Disjoint, disjoint
from rddrs_dist.smoothing import Stage
from rddrs_dist.verify.findings import as_text, is_sound
from rddrs_dist.verify.scales import Stored
from tests.disjoint.problems import factor
from tests.oracles import normal
from tests.small_run import RUN, Made, certify_here
from tests.verify.tampering import verified

EVENT, D = (1, 3, 4), 12


def directions(how: str, d: int, k: int) -> Tensor:
    """U of two images, (2, d, k): random columns, nearly dependent ones, or one column k times."""
    u = normal(2, d, k, seed=k)
    if how == "random" or not k:
        return u
    return u[:, :, :1] + (1e-6 if how == "near" else 0) * u


def made(how: str, d: int, k: int, ratio: float = 10.0) -> tuple[LowRankNoise, Tensor]:
    """A noise whose longest axes are about so many times s, and its covariance as defined."""
    s, u = torch.tensor([0.25, 0.1]).double(), directions(how, d, k)
    u = u / u.norm(dim=1, keepdim=True)
    w = (normal(2, k, seed=3).abs() + 0.1) * (ratio * s[:, None]) ** 2
    wanted = s[:, None, None] ** 2 * torch.eye(d).double() + (u * w[:, None]) @ u.mT
    return LowRankNoise.of(s, u, w, (1, 1, d)), wanted


def exact_axes(noise: LowRankNoise) -> list[mpmath.mpf]:
    """Axes of the stored scale of the first image, ascending, to 50 digits."""
    d, values = noise.dimension, noise.scale[0].tolist()
    k = len(values) // d
    rows = [values[1 + j * d : 1 + (j + 1) * d] for j in range(k)]
    with mpmath.workdps(50):
        s, longer = mpmath.mpf(values[0]), []
        if k:
            matrix = mpmath.matrix(rows)
            longer = list(mpmath.eigsy(matrix * matrix.T, eigvals_only=True))
        return sorted([s] * (d - k) + [s + max(one, mpmath.mpf(0)) for one in longer])


def dense(noise: LowRankNoise) -> mpmath.matrix:
    """The stored scale of the first image, to 50 digits."""
    d, values = noise.dimension, noise.scale[0].tolist()
    columns = mpmath.matrix(len(values) // d, d)
    for j, value in enumerate(values[1:]):
        columns[j // d, j % d] = value
    return mpmath.mpf(values[0]) * mpmath.eye(d) + columns.T * columns


@pytest.mark.parametrize("how", ["random", "near", "repeated"])
@pytest.mark.parametrize(("d", "k"), [(12, 0), (12, 1), (12, 12), (64, 5), (64, 64), (6, 9)])
def test_it_is_the_noise_of_the_definition(how, d, k):
    noise, wanted = made(how, d, k)
    close = {"rtol": 2e-6, "atol": 1e-7}  # numbers are stored in single precision
    torch.testing.assert_close(noise.covariance(), wanted, rtol=2e-6, atol=2e-5)
    axes = linalg.eigvalsh(wanted).clamp_min(0).sqrt()
    torch.testing.assert_close(noise.axes, axes, **close)
    torch.testing.assert_close(noise.logdet, axes.log().sum(1), rtol=1e-5, atol=1e-5)
    assert noise.scale.dtype == torch.float32
    assert noise.scale.shape == (2, 1 + min(d, k) * d)


@pytest.mark.parametrize("how", ["random", "near", "repeated"])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e2, 1e4])
@pytest.mark.parametrize(("d", "k"), [(12, 3), (64, 7), (64, 64)])
def test_it_agrees_with_dense_linear_algebra_on_what_is_stored(how, ratio, d, k):
    noise, _ = made(how, d, k, ratio)
    scale, vectors = noise.matrix(), normal(2, 1, 1, d, seed=9)
    flat, close = vectors.flatten(1).unsqueeze(2), {"rtol": 1e-9, "atol": 0}
    torch.testing.assert_close(noise.axes, linalg.svdvals(scale).flip(1), **close)
    torch.testing.assert_close(noise.logdet, linalg.slogdet(scale).logabsdet, rtol=1e-9, atol=1e-9)
    # Woodbury: (s I + W W^T)^-1 = (I - W (s I + W^T W)^-1 W^T) / s.
    s = noise.scale[:, :1].double().unsqueeze(2)
    w = noise.scale[:, 1:].double().unflatten(1, (-1, d))
    inner = linalg.solve(s * torch.eye(len(w[0])).double() + w @ w.mT, w @ flat)
    woodbury = ((flat - w.mT @ inner) / s).flatten(1).norm(dim=1)
    torch.testing.assert_close(noise.mahalanobis(vectors), woodbury, rtol=1e-6, atol=0)
    solved = linalg.solve(scale, flat)[..., 0].norm(dim=1)
    torch.testing.assert_close(noise.mahalanobis(vectors), solved, rtol=1e-9, atol=0)
    torch.testing.assert_close(noise.support(vectors), (scale @ flat)[..., 0].norm(dim=1), **close)
    basis = linalg.qr(normal(d, 4, seed=2)).Q
    inverse = linalg.solve(scale @ scale, basis.expand(2, -1, -1))
    sections = (-linalg.slogdet(basis.mT @ inverse).logabsdet / 8).exp()
    torch.testing.assert_close(noise.section(basis), sections, rtol=1e-5, atol=0)


@pytest.mark.parametrize("how", ["random", "near", "repeated"])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("k", [0, 1, 4, D])
def test_axes_are_never_above_the_truth_and_near_to_it(how, ratio, k):
    """The truth in 50 digits, of the stored numbers."""
    noise, _ = made(how, D, k, ratio)
    truth = exact_axes(noise)
    for bound, exact in zip(noise.axes_below[0].tolist(), truth, strict=True):
        assert exact * (1 - 1e-12) <= mpmath.mpf(bound) <= exact
    with mpmath.workdps(50):
        mean = mpmath.exp(mpmath.fsum(map(mpmath.log, truth)) / D)
        frobenius = mpmath.norm(mpmath.matrix(truth))
    for found, exact in ((noise.min_axis[0], truth[0]), (noise.mean_axis[0], mean)):
        assert exact * (1 - 1e-11) < mpmath.mpf(found.item()) <= exact
    assert frobenius <= noise.frobenius[0].item() <= frobenius * (1 + 1e-12)
    if k < D:
        assert noise.min_axis[0].item() == noise.scale[0, 0].item()


@pytest.mark.parametrize("how", ["random", "near", "repeated"])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("k", [0, 4, D])
def test_sections_and_lengths_are_on_the_safe_side_of_the_truth(how, ratio, k):
    noise, _ = made(how, D, k, ratio)
    basis, loose = linalg.qr(normal(D, 4, seed=1)).Q, 1e-11 * max(10, ratio)
    # Along W too, where most of v / s cancels.
    along = noise.scale[0, 1:].double().view(-1, D)
    vectors = torch.cat([normal(4, D, seed=4), along[along.any(1)]])
    bounds = noise.inverse(0).lengths_above(vectors).tolist()
    with mpmath.workdps(50):
        inverse, frame = mpmath.inverse(dense(noise)), mpmath.matrix(basis.tolist())
        whitened = inverse * frame
        shape = mpmath.det(whitened.T * whitened) / mpmath.det(frame.T * frame)
        exact, found = shape ** (mpmath.mpf(-1) / 8), noise.section(basis)[0].item()
        assert exact * (1 - loose) <= mpmath.mpf(found) <= exact
        for bound, vector in zip(bounds, vectors.tolist(), strict=True):
            truth = mpmath.norm(inverse * mpmath.matrix(vector))
            assert truth <= mpmath.mpf(bound) <= truth * (1 + loose * max(1, ratio))


def test_without_directions_or_weights_its_sizes_are_isotropic():
    sigma = torch.tensor([0.3, 1.7])
    isotropic = IsotropicNoise(sigma, EVENT)
    for k, weights in ((0, torch.zeros(2, 0)), (5, torch.zeros(2, 5))):
        noise = LowRankNoise.of(sigma, normal(2, D, k, seed=1), weights, EVENT)
        for name in ("axes", "axes_below", "min_axis", "mean_axis", "max_axis", "logdet"):
            assert torch.equal(getattr(noise, name), getattr(isotropic, name))
        assert not noise.is_diagonal and [one.values.size for one in pack(noise)] == [1, 1]
        z = normal(2, 3, *EVENT, seed=2).float()
        assert torch.equal(noise.colour(z), isotropic.colour(z))
        torch.testing.assert_close(noise.mahalanobis(z[:, 0]), isotropic.mahalanobis(z[:, 0]))


def test_storage_is_that_of_the_directions_in_use():
    noise, _ = made("random", 64, 5)
    both = LowRankNoise.concatenate([noise, made("repeated", 64, 5)[0], made("near", 64, 0)[0]])
    sizes = [one.values.size for one in pack(both)]
    assert sizes == [1 + 5 * 64] * 2 + [1 + 64] * 2 + [1] * 2
    again = unpack(pack(both), (1, 1, 64))
    assert type(again) is LowRankNoise and torch.equal(again.scale, both.scale)
    assert [one.sha256 for one in pack(again)] == [one.sha256 for one in pack(both)]
    assert [one.sha256 for one in pack(both[:2])] == [one.sha256 for one in pack(noise)]


def test_samples_take_products_of_k_and_d_alone(monkeypatch):
    """At a size whose dense scale would have 4e10 numbers."""
    d, k = 200_000, 3
    noise = LowRankNoise.of(
        torch.ones(1), normal(1, d, k, seed=1) / d**0.5, torch.full((1, k), 99.0), (1, 1, d)
    )
    assert pack(noise)[0].values.nbytes == 4 * (1 + k * d)
    z = normal(1, 2, 1, 1, d, seed=2).float()
    assert noise.colour(z).shape == z.shape
    assert noise.axes[0, -3:].min() > 9 and noise.min_axis.item() == 1
    assert noise.mahalanobis(z[:, 0]) < z.double()[:, 0].norm()
    assert noise.section(linalg.qr(normal(d, 2, seed=3)).Q) >= 1


def test_beside_full_noise_nothing_is_rounded_to_single_precision():
    noise, _ = made("random", D, 3)
    full = FullNoise(torch.eye(D)[None], (1, 1, D))
    both = unpack(pack(noise[:1]) + pack(full), (1, 1, D))
    assert both.scale.dtype == torch.float64
    assert torch.equal(both.matrix(), torch.cat([noise[:1].matrix(), full.matrix()]))


GOOD = (torch.ones(2), torch.ones(2, D, 3), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, torch.ones(3), r"must be \(B,\), \(B, d, k\) and \(B, k\), d = 12, got \(3,\)"),
        (0, torch.ones(()), r"must be \(B,\).*got \(\), \(2, 12, 3\), \(2, 3\)"),
        (1, torch.ones(2, D + 1, 3), r"d = 12, got \(2,\), \(2, 13, 3\), \(2, 3\)"),
        (2, torch.ones(3), r"got \(2,\), \(2, 12, 3\), \(3,\)"),
        (0, torch.tensor([0.0, 1.0]), "sigma must be positive, got 0"),
        (0, torch.tensor([1e-60, 1.0], dtype=torch.float64), "s must be positive, got 0"),
        (0, torch.tensor([math.nan, 1.0]), "must be finite, got NaN or infinity"),
        (1, torch.full((2, D, 3), math.inf), "must be finite, got NaN or infinity"),
        (
            1,
            torch.full((2, D, 3), 1e90, dtype=torch.float64),
            "must be finite, got NaN or infinity",
        ),
        (2, -GOOD[2], "weights must not be negative, got -1"),
    ],
)
def test_what_makes_no_noise_is_refused(which, value, message):
    given = [*GOOD]
    given[which] = value
    with pytest.raises(ValueError, match=message) as caught:
        LowRankNoise.of(given[0], given[1], given[2], EVENT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "wanted"), [(0, 1), (2, 1), (D, 1), (3 * D, 1 + 2 * D)])
def test_numbers_that_are_no_columns_are_refused(size, wanted):
    values = torch.ones(size).numpy()
    with pytest.raises(ValueError, match=f"must have {wanted} numbers, got {size}"):
        unpack([Packed("low-rank", values)], EVENT)


def test_regions_that_overlap_are_found_and_narrowed():
    noise, _ = made("random", D, 3)
    centre = torch.stack([torch.zeros(1, 1, D), torch.full((1, 1, D), 0.2)])
    region = Region(centre, noise, np.array([2.0, 3.0]), np.array([0, 1]))
    found = contacts(region, None, preconditioner(region))
    own = found.factor(region.radius)[0]
    assert 0.9 * factor(region, region, 0, 1) < own <= factor(region, region, 0, 1) < 1
    left = []
    for k, rows, limits in bounds(region.radius, found):
        one, normals = region[[k]], torch.from_numpy(found.normal[rows]).double()
        smaller = narrowed(one, float(one.noise.min_axis), normals, torch.from_numpy(limits))
        assert smaller is not None and 0 < smaller.proxy_radius < one.proxy_radius
        # S'^T (S S^T)^-1 S' at most I, in units of the radii.
        inner = smaller.noise.matrix()[0] * smaller.radius[0] / one.radius[0]
        assert linalg.matrix_norm(linalg.solve(one.noise.matrix()[0], inner), 2) <= 1
        left.append(smaller)
    assert factor(*left) > 1


def fit_low_rank(_method, _model, images: Tensor, context) -> Fit:
    """Noise of some directions of each image's own."""
    d = images[0].numel()
    u = context.streams.normal(Stage.FIT, 0, 0, 6, images).flatten(2).mT
    sigma = torch.full((len(images),), 0.4)
    return Fit.of(
        LowRankNoise.of(sigma, u / d**0.5, torch.full_like(u[:, 0], 2.0), tuple(images.shape[1:]))
    )


def test_a_run_and_its_disjoint_pass_are_sound(original: Made, tmp_path, monkeypatch):
    """Such noise in the place of ANCER's."""
    monkeypatch.setattr(Ancer, "_fit", fit_low_rank)
    folder = tmp_path / "run"
    run = replace(RUN, methods=("rs", "ancer"), indices="0:240:20")
    certify_here(run, folder, original.checkpoint)
    disjoint(Disjoint(folder, executor="local"))
    rows = read(folder).query("method == 'ancer'")
    assert (rows["prediction"] >= 0).any() and (rows["disjoint_radius"] <= rows["radius"]).all()
    stored = Stored(folder, (1, 8, 8))
    for key in sorted(stored.keys()):  # as the parser of `rddrs verify` reads them
        if key[0] == "ancer":
            packed = stored.packed(key)
            assert (packed.kind, packed.values.size) == ("low-rank", 1 + 6 * 64)
            w = packed.values[1:].reshape(6, 64).astype(float)
            wanted = packed.values[0] * torch.eye(64).double().numpy() + w.T @ w
            assert abs(stored.matrix(key) - wanted).max() < 1e-14
    outcomes = verified(folder, checkpoint=original.checkpoint, resample=100)
    assert is_sound(outcomes), as_text(outcomes)


@pytest.mark.parametrize("k", [1, 5, D])
def test_the_dense_scale_is_as_good_as_its_last_bits(k):
    """The columns nearly cancel, so that plain sums would lose digits."""
    columns = normal(1, k, D, seed=5)
    columns[:, 1::2] = columns[:, : k - k % 2 : 2] * torch.tensor([1.0, -1.0]).repeat(D // 2)
    scale = torch.cat([torch.full((1, 1), 1e-3), 1e3 * columns.flatten(1)], 1).float()
    noise = LowRankNoise(scale, EVENT)
    truth, found = dense(noise), noise.matrix()[0]
    with mpmath.workdps(50):
        for i in range(D):
            for j in range(D):
                wrong = abs(mpmath.mpf(found[i, j].item()) - truth[i, j])
                assert wrong <= 4.5e-16 * abs(truth[i, j])


def test_so_many_columns_that_bounds_would_not_hold_are_refused():
    noise = LowRankNoise(torch.ones(1, 1 + 64 * 64), (1, 8, 8))
    assert noise.scale.shape[1] // noise.dimension == 64
    with pytest.raises(ValueError, match="100 columns are too many for 100 pixels"):
        LowRankNoise(torch.ones(1, 1 + 100 * 100), (1, 10, 10))


def test_the_product_with_magnitudes_is_not_below_that_of_the_matrix():
    noise, _ = made("random", 12, 5)
    inverse, vectors = noise.inverse(0), normal(12, 4, seed=8).abs()
    matrix = inverse.times(torch.eye(12, dtype=torch.float64)).abs()
    assert inverse.absolute is not None
    assert (inverse.absolute(vectors) >= matrix @ vectors).all()
    largest = inverse.absolute(torch.eye(12, dtype=torch.float64)).norm()
    assert matrix.norm() <= largest <= inverse.norm

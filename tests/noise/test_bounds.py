"""Sizes are lower bounds, also where floating point is at its worst."""

import mpmath
import pytest
import torch
from torch import Tensor, linalg

from rddrs_dist.noise import DiagonalNoise, FullNoise
from rddrs_dist.noise.full import axes_by_squares, axes_by_values, extremes_of
from tests.oracles import normal, singular_values, spread, with_axes

EVENT, D = (1, 3, 4), 12


@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4, 1e-7])
def test_bounds_of_axes_are_below_the_truth_and_near_to_it(smallest):
    matrices = with_axes(spread(smallest, 10, D), 4, seed=0)
    truths = [singular_values(matrix) for matrix in matrices]
    for way in (axes_by_values, axes_by_squares):
        axes, errors = way(matrices)
        for own, truth in zip((axes - errors).tolist(), truths, strict=True):
            for bound, exact in zip(own, truth, strict=True):
                assert 0 < bound <= exact
                assert bound > exact * (1 - 2e-4)


def test_only_images_that_feel_it_have_singular_values_computed(monkeypatch):
    matrices = torch.cat([with_axes(spread(small, 10, D), 1, seed=0) for small in (1e-2, 1e-7)])
    seen: list[int] = []

    def noted(some: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(some))
        return axes_by_values(some)

    monkeypatch.setattr("rddrs_dist.noise.full.axes_by_values", noted)
    axes, _ = axes_by_squares(matrices)
    assert seen == [1]
    torch.testing.assert_close(axes, axes_by_values(matrices)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("condition", [1e1, 1e4, 1e6])
def test_min_and_mean_axis_of_a_full_scale_are_never_above_the_truth(condition):
    """The truth in 50 digits, of the stored float32 numbers."""
    noise = FullNoise(with_axes(spread(1, condition, D), 1, seed=3).float(), EVENT)
    truth = singular_values(noise.scale[0].double())
    with mpmath.workdps(50):
        mean = mpmath.exp(mpmath.fsum(map(mpmath.log, truth)) / D)
        for found, exact in ((noise.min_axis, truth[0]), (noise.mean_axis, mean)):
            assert exact * (1 - 1e-6) < mpmath.mpf(found.item()) <= exact


def test_a_scale_too_ill_conditioned_for_float64_is_worth_nothing():
    noise = FullNoise(torch.diag(torch.tensor([1e18, 1.0]))[None], (1, 1, 2))
    assert noise.min_axis.item() == 0
    assert noise.mean_axis.item() == 0


def test_sizes_without_axes_are_those_with_them(monkeypatch):
    """Sizes of triangular scales as a GPU finds them, from bounds and the diagonal."""
    monkeypatch.setattr(
        FullNoise, "extremes", property(lambda noise: extremes_of(noise.scale.double()))
    )
    scales = [with_axes(spread(1, widest, D), 1, seed=4) for widest in (1.0, 1e2)]
    lower = FullNoise(torch.cat(scales).float(), EVENT).lower()
    axes = linalg.svdvals(lower.scale.double()).flip(-1)
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
    with pytest.raises(AssertionError):
        _ = FullNoise(lower.scale, EVENT).axes
    assert (FullNoise(lower.scale, EVENT).mean_axis == lower.mean_axis).all()


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("k", [1, 5, D])
def test_a_section_is_never_above_the_truth_and_near_to_it(condition, k):
    """The truth in 50 digits, of the stored numbers and of the subspace that they span."""
    dense = FullNoise(with_axes(spread(0.1, 0.1 * condition, D), 1, seed=3).float(), EVENT)
    axes = dense.axes.float().view(1, *EVENT)
    basis = linalg.qr(normal(D, k, seed=k)).Q
    with mpmath.workdps(50):
        frame = mpmath.matrix(basis.tolist())
        for noise in (dense, dense.lower(), DiagonalNoise(axes, EVENT)):
            scale = mpmath.matrix(noise.matrix()[0].tolist())
            whitened = mpmath.inverse(scale) * frame
            shape = mpmath.det(whitened.T * whitened) / mpmath.det(frame.T * frame)
            exact, found = shape ** (mpmath.mpf(-1) / (2 * k)), noise.section(basis)
            assert found.shape == (1,) and found.dtype == torch.float64
            assert exact * (1 - 1e-12 * max(10, condition)) <= mpmath.mpf(found.item()) <= exact
            if k == D:
                torch.testing.assert_close(found, noise.mean_axis, rtol=1e-9 * condition, atol=0)


def test_a_section_that_rounding_leaves_nothing_of_is_the_smallest_axis():
    noise = DiagonalNoise(spread(1e-9, 1e9, D).float().view(1, *EVENT), EVENT)
    basis = linalg.qr(normal(D, 3, seed=1)).Q
    assert torch.equal(noise.section(basis), noise.min_axis)


def test_sections_of_several_images_are_those_of_each():
    noise = FullNoise(with_axes(spread(0.1, 3, D), 3, seed=5).float(), EVENT)
    basis = linalg.qr(normal(D, 6, seed=2)).Q
    found = noise.sections(basis, (2, 6))
    for row, one in enumerate(noise.each):
        torch.testing.assert_close(
            found[:, [row]], one.sections(basis, (2, 6)), rtol=1e-14, atol=0
        )
    torch.testing.assert_close(found[0], noise.section(basis[:, :2]), rtol=1e-9, atol=0)


@pytest.mark.parametrize("shape", [(D + 1, 2), (D, 0), (D,)])
def test_a_basis_of_other_images_is_refused(shape):
    noise = FullNoise(with_axes(spread(0.1, 3, D), 1, seed=5).float(), EVENT)
    with pytest.raises(ValueError, match=r"a basis must be \(d, k\) = \(12, k\).*got"):
        noise.sections(torch.zeros(shape, dtype=torch.float64), (shape[-1],))


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
def test_lengths_are_never_below_the_truth_and_near_to_it(condition):
    """The truth in 50 digits, of the stored numbers."""
    dense = FullNoise(with_axes(spread(0.1, 0.1 * condition, D), 1, seed=3).float(), EVENT)
    axes = dense.axes.float().view(1, *EVENT)
    vectors = normal(5, D, seed=4)
    for noise in (dense, dense.lower(), DiagonalNoise(axes, EVENT)):
        found = noise.inverse(0).lengths_above(vectors)
        wider = noise.inverse(0).lengths_above(vectors, around=1e-3)
        assert (wider > found + 1e-3 / noise.min_axis * 0.999).all()
        with mpmath.workdps(50):
            scale = mpmath.matrix(noise.matrix()[0].tolist())
            for bound, vector in zip(found.tolist(), vectors.tolist(), strict=True):
                truth = mpmath.norm(mpmath.lu_solve(scale, mpmath.matrix(vector)))
                assert truth <= mpmath.mpf(bound) <= truth * (1 + 1e-12 * max(10, condition))

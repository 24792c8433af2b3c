"""Regions: their sizes, never above the truth, and what is inside."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import gammaln

from rddrs_dist import ABSTAIN, DiagonalNoise, FullNoise, IsotropicNoise, Region
from rddrs_dist.region import cube_radius
from tests.oracles import normal, singular_values, spread, with_axes

EVENT, D = (1, 2, 3), 6
CENTRE = torch.rand(3, *EVENT, generator=torch.Generator().manual_seed(0))
RADIUS = np.array([0.7, 2.5, 0.0])  # the last one is that of an abstention
AXES = spread(0.1, 3, D)
BASIS = torch.linalg.qr(normal(D, 2, seed=7)).Q
FACTORS = torch.tensor([1.0, 0.8, 1.2]).view(3, 1, 1)
REGIONS = {
    name: Region(CENTRE, noise, RADIUS, np.array([4, 7, ABSTAIN]))
    for name, noise in {
        "isotropic": IsotropicNoise(torch.tensor([0.3, 1.7, 1.0]), EVENT),
        "diagonal": DiagonalNoise((FACTORS * AXES.flip(0)).float().view(3, *EVENT), EVENT),
        "full": FullNoise((FACTORS * with_axes(AXES, 3, seed=1)).float(), EVENT),
    }.items()
}
of_every_noise = pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS.keys())
SIZES = (
    "min_axis", "mean_axis", "max_axis", "l2_radius", "proxy_radius", "log_volume",
)  # fmt: skip


@of_every_noise
def test_sizes_have_closed_forms(region):
    """Those of an ellipsoid with semi-axes r s_i."""
    axes = torch.linalg.svdvals(region.noise.matrix())[:2].flip(1).numpy()
    semi = RADIUS[:2, None] * axes
    ball = D / 2 * math.log(math.pi) - gammaln(D / 2 + 1)
    wanted = {
        "min_axis": axes[:, 0],
        "mean_axis": np.exp(np.log(axes).mean(1)),
        "max_axis": axes[:, -1],
        "l2_radius": semi[:, 0],
        "proxy_radius": np.exp(np.log(semi).mean(1)),
        "log_volume": ball + np.log(semi).sum(1),
    }
    assert set(wanted) == set(SIZES)
    for name, exact in wanted.items():
        np.testing.assert_allclose(getattr(region, name)[:2], exact, rtol=1e-9, err_msg=name)


@of_every_noise
def test_a_region_of_radius_zero_is_empty(region):
    empty = region[2:]
    assert not empty.contains(empty.centre).any()
    assert empty.support(empty.centre).tolist() == [0]
    sizes = (empty.l2_radius, empty.proxy_radius, empty.data_radius(BASIS))
    assert [size.item() for size in sizes] == [0, 0, 0]
    assert empty.log_volume.item() == -math.inf


@of_every_noise
def test_sizes_are_never_above_the_truth(region):
    with mpmath.workdps(50):
        for row in range(2):
            radius = mpmath.mpf(RADIUS[row])
            axes = singular_values(region.noise.matrix()[row])
            mean = mpmath.exp(mpmath.fsum(map(mpmath.log, axes)) / D)
            unit = D / 2 * mpmath.log(mpmath.pi) - mpmath.loggamma(D / 2 + 1)
            assert mpmath.mpf(region.l2_radius[row]) < radius * axes[0]
            assert mpmath.mpf(region.proxy_radius[row]) < radius * mean
            assert mpmath.mpf(region.log_volume[row]) < unit + D * mpmath.log(radius * mean)
            # Rounded down from the axes that are reported, too.
            for size, axis in (("l2_radius", "min_axis"), ("proxy_radius", "mean_axis")):
                reported = radius * mpmath.mpf(getattr(region, axis)[row])
                assert mpmath.mpf(getattr(region, size)[row]) < reported


@of_every_noise
def test_the_data_radius_is_that_of_a_section_below_the_truth_and_a_ball_where_the_noise_is(
    region,
):
    """The section with V has the inverse Gram matrix of S^-1 V as its squared shape."""
    whitened = torch.linalg.solve(region.noise.matrix(), BASIS)
    logdet = torch.linalg.svdvals(whitened).log().mean(1)
    exact = RADIUS * (-logdet).exp().numpy()
    found, narrower = region.data_radii(BASIS, (2, 1))
    np.testing.assert_allclose(found, exact, rtol=1e-9)
    assert (found <= exact * (1 + 1e-15)).all()
    assert found.tolist() == region.data_radius(BASIS).tolist()
    np.testing.assert_allclose(narrower, region.data_radius(BASIS[:, :1]), rtol=1e-9)
    everything = region.data_radius(torch.eye(D, dtype=torch.float64))
    np.testing.assert_allclose(everything, region.proxy_radius, rtol=1e-9)
    if region is REGIONS["isotropic"]:
        assert found.tolist() == region.l2_radius.tolist()


@pytest.mark.parametrize(("d", "wanted"), [(1, 0.5), (64, 2.02), (784, 6.81), (3072, 13.43)])
def test_a_ball_as_large_as_the_pixel_cube(d, wanted):
    assert cube_radius(d) == pytest.approx(wanted, abs=0.005)
    ball = Region(
        torch.zeros(1, 1, 1, d),
        IsotropicNoise(torch.ones(1), (1, 1, d)),
        np.array([cube_radius(d)]),
        np.array([0]),
    )
    np.testing.assert_allclose(ball.log_volume, 0, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3, 64, 784, 3072])
def test_log_volume_is_never_above_that_of_the_proxy_radius(d: int):
    noise = IsotropicNoise(torch.logspace(-3, 3, 100), (1, 1, d))
    region = Region(torch.zeros(100, 1, 1, d), noise, np.ones(100), np.zeros(100, np.int64))
    with mpmath.workdps(40):
        unit = mpmath.mpf(d) / 2 * mpmath.log(mpmath.pi) - mpmath.loggamma(mpmath.mpf(d) / 2 + 1)
        for found, proxy in zip(region.log_volume, region.proxy_radius, strict=True):
            exact = unit + d * mpmath.log(mpmath.mpf(float(proxy)))
            assert exact - 1e-11 * d < mpmath.mpf(float(found)) <= exact


@of_every_noise
@pytest.mark.parametrize("share", [0.5, 1 - 1e-9, 1 + 1e-9, 2.0])
def test_what_is_inside_lies_at_a_distance_below_the_radius(region, share):
    """At x + t S u, |u| = 1, the distance is t."""
    direction = torch.nn.functional.normalize(normal(3, D, 1, seed=2), dim=1)
    reach = share * np.array([*RADIUS[:2], 1.0])
    steps = torch.from_numpy(reach)[:, None, None] * (region.noise.matrix() @ direction)
    points = CENTRE.double() + steps.view(3, *EVENT)
    np.testing.assert_allclose(region.distance(points), reach, rtol=1e-12)
    assert region.contains(points).tolist() == [share < 1, share < 1, False]


@of_every_noise
def test_a_region_reaches_as_far_as_its_support_and_no_further(region):
    w = normal(3, *EVENT, seed=3)
    adjoint = region.noise.matrix().mT @ w.view(3, D, 1)  # (B, d, 1)
    np.testing.assert_allclose(region.support(w), RADIUS * adjoint.norm(dim=(1, 2)).numpy())
    # The point that reaches farthest along w is on the boundary.
    radius = torch.from_numpy(RADIUS)[:, None, None]
    farthest = radius * (region.noise.matrix() @ (adjoint / adjoint.norm(dim=1, keepdim=True)))
    np.testing.assert_allclose((farthest * w.view(3, D, 1)).sum((1, 2)), region.support(w))
    distances = region.distance(CENTRE.double() + farthest.view(3, *EVENT))
    np.testing.assert_allclose(distances, RADIUS, atol=1e-12)


@of_every_noise
@pytest.mark.parametrize("rows", [slice(1, 3), slice(None), [2, 0], [1]])
def test_a_part_of_the_images_keeps_what_they_have(region, rows):
    part, kept = region[rows], np.arange(3)[rows]
    assert len(part) == len(kept) and len(region) == 3
    assert torch.equal(part.centre, CENTRE[kept])
    for name in (*SIZES, "radius", "prediction"):
        assert getattr(part, name).tolist() == getattr(region, name)[kept].tolist(), name


def test_what_is_of_other_numbers_of_images_is_refused():
    parts = {name: getattr(REGIONS["full"], name) for name in ("centre", "noise", "radius")}
    parts["prediction"] = REGIONS["full"].prediction
    for name, whole in parts.items():
        with pytest.raises(ValueError, match="must be of as many images each, got") as caught:
            Region(**{**parts, name: whole[:2]})
        assert "\n" not in str(caught.value)

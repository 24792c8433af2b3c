"""Certificates of classifiers whose exact regions are known."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import gammaln
from torch import nn

from rddrs_dist import ABSTAIN, Budget, DiagonalNoise, FullNoise, IsotropicNoise, Streams, certify
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import clopper_pearson_lower
from tests.oracles import Linear, random_spd

EVENT = (1, 2, 3)
W = torch.tensor([1.0, -2.0, 0.5, 1.0, 0.0, 0.7])
MODEL = Linear(W, b=0.2)
IMAGES = torch.rand(20, *EVENT, generator=torch.Generator().manual_seed(0))
STREAMS = Streams.of(0, range(20))
NOISES = {
    "isotropic": IsotropicNoise.constant(0.5, IMAGES),
    "diagonal": DiagonalNoise(IMAGES * 0.5 + 0.1, EVENT),
    "full": FullNoise(random_spd(20, 6, seed=1).float(), EVENT),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_radius_is_the_mahalanobis_distance_to_the_boundary_from_below(noise):
    """For a linear classifier the exact radius is |w.x - b| / ||S^T w||: never exceeded."""
    certificate = certify(MODEL, IMAGES, noise, Budget(n=20_000), STREAMS)
    margin = MODEL.margin(IMAGES).double()
    exact = (margin.abs() / noise.support(W.expand(20, 6).reshape(20, *EVENT))).numpy()
    certified = certificate.prediction != ABSTAIN
    assert (certificate.radius <= exact).all()
    assert np.array_equal(certificate.prediction[certified], (margin <= 0).numpy()[certified])
    near = certified & (exact < 2.5)
    assert near.sum() >= 5
    assert (certificate.radius > 0.8 * exact - 0.05)[near].all()


def test_abstentions_have_no_size():
    on_the_boundary = torch.zeros(1, *EVENT) + 0.2 * W.view(EVENT) / (W @ W)
    noise = IsotropicNoise.constant(0.5, on_the_boundary)
    certificate = certify(MODEL, on_the_boundary, noise, Budget(n=1000), STREAMS[:1])
    assert certificate.prediction.tolist() == [ABSTAIN]
    assert certificate.p_lower[0] <= 0.5
    sizes = (certificate.radius, certificate.l2_radius, certificate.proxy_radius)
    assert [size.item() for size in sizes] == [0, 0, 0]
    assert certificate.log_volume.item() == -math.inf


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_sizes_are_rounded_down(noise):
    certificate = certify(MODEL, IMAGES, noise, Budget(n=1000), STREAMS)
    kept = np.flatnonzero(certificate.radius > 0)
    assert len(kept) > 5
    with mpmath.workdps(40):
        for i in kept:
            radius = mpmath.mpf(certificate.radius[i])
            assert mpmath.mpf(certificate.l2_radius[i]) < radius * mpmath.mpf(
                noise.min_axis[i].item()
            )
            assert mpmath.mpf(certificate.proxy_radius[i]) < radius * mpmath.mpf(
                noise.mean_axis[i].item()
            )


@pytest.mark.parametrize("d", [1, 2, 3, 64, 784, 3072])
def test_log_volume_is_never_above_that_of_the_proxy_radius(d: int):
    known = certify(MODEL, IMAGES, NOISES["isotropic"], Budget(n=1000), STREAMS)
    certificate = replace(
        known, radius=np.ones(200), mean_axis=np.logspace(-3, 3, 200), dimension=d
    )
    with mpmath.workdps(40):
        unit = mpmath.mpf(d) / 2 * mpmath.log(mpmath.pi) - mpmath.loggamma(mpmath.mpf(d) / 2 + 1)
        for found, proxy in zip(certificate.log_volume, certificate.proxy_radius, strict=True):
            exact = unit + d * mpmath.log(mpmath.mpf(float(proxy)))
            assert exact - 1e-11 * d < mpmath.mpf(float(found)) <= exact


def test_log_volume_is_that_of_the_ellipsoid():
    noise = NOISES["full"]
    certificate = certify(MODEL, IMAGES, noise, Budget(n=1000), STREAMS)
    i = int(np.argmax(certificate.radius))
    ball = 3 * math.log(math.pi) - gammaln(4) + 6 * math.log(certificate.radius[i])
    logdet = torch.linalg.slogdet(noise.scale[i].double()).logabsdet.item()
    assert certificate.log_volume[i] == pytest.approx(ball + logdet)
    unit = certificate.proxy_radius[i]
    assert certificate.log_volume[i] == pytest.approx(
        3 * math.log(math.pi) - gammaln(4) + 6 * math.log(unit)
    )


def test_selection_and_estimation_read_their_own_streams(monkeypatch):
    stages = []
    original = Streams.normal

    def spy(self, stage, *rest):
        stages.append(stage)
        return original(self, stage, *rest)

    monkeypatch.setattr(Streams, "normal", spy)
    certify(MODEL, IMAGES, NOISES["isotropic"], Budget(n=1000), STREAMS)
    assert set(stages) == {Stage.SELECT, Stage.ESTIMATE}


def test_the_count_is_that_of_the_selected_class_even_where_another_leads():
    class Coin(nn.Module):
        """Answers 1 in the first 100 samples of an image and 0 from then on."""

        seen = 0

        def forward(self, images):
            self.seen += len(images)
            answer = torch.full((len(images),), int(self.seen <= 101))
            return nn.functional.one_hot(answer, 2).float() * 5 - 1

    image = IMAGES[:1]
    certificate = certify(
        Coin().eval(), image, IsotropicNoise.constant(0.5, image), Budget(n=1000), STREAMS[:1]
    )
    assert certificate.count.tolist() == [0]
    assert certificate.prediction.tolist() == [ABSTAIN]


@pytest.mark.parametrize(("alpha", "n", "smallest"), [(0.001, 9, 10), (0.05, 4, 5)])
def test_a_budget_that_can_never_certify_is_refused(alpha, n, smallest):
    with pytest.raises(ValueError, match=f"the smallest n that can is {smallest}"):
        Budget(n=n, alpha=alpha)
    Budget(n=smallest, alpha=alpha)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"n0": 0},
        {"looks": 0},
        {"tolerance": 0.0},
        {"tolerance": 1.0},
    ],
)
def test_impossible_budgets_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be"):
        Budget(**wrong)


def test_a_network_in_training_mode_is_refused():
    noise = IsotropicNoise.constant(0.5, IMAGES)
    with pytest.raises(ValueError, match="is in training mode"):
        certify(Linear(W).train(), IMAGES, noise, Budget(n=100), STREAMS)


LOOKS = Budget(n0=20, n=6400, alpha=0.001, looks=5, tolerance=0.05)


def at_distances(distances: list[float], budget: Budget, seed: int = 0):
    """Certificates at these distances from a plane, in units of sigma = 1/2."""
    points = torch.tensor(distances).view(-1, 1, 1, 1) / 2
    noise = IsotropicNoise.constant(0.5, points)
    streams = Streams.of(seed, range(len(points)))
    return certify(Linear(torch.ones(1)), points, noise, budget, streams)


def test_looks_come_after_halves_of_the_samples():
    assert LOOKS.sizes == (400, 800, 1600, 3200, 6400)
    assert Budget(n=1001, looks=2).sizes == (501, 1001) and Budget(n=1001).sizes == (1001,)
    assert LOOKS.level == 0.001 / 5


@pytest.mark.parametrize(("n", "looks"), [(100, 9), (100_000, 19)])
def test_more_looks_than_halves_are_refused(n, looks):
    with pytest.raises(ValueError, match=f"looks = {looks} wants an n of at least"):
        Budget(n=n, looks=looks)


def test_an_image_stops_where_more_samples_would_not_help():
    distances = [0.0, 0.1, 1.0, 1.3, 4.0]
    found, full = at_distances(distances, LOOKS), at_distances(distances, replace(LOOKS, looks=1))
    assert set(found.n) <= set(LOOKS.sizes) and (full.n == 6400).all()
    assert found.n[1] == 6400  # near the boundary every sample counts
    assert (found.n[2:4] < 6400).all()
    # All samples are of the class: the radius still grows by more than a twentieth.
    assert found.n[4] == 6400 and found.count[4] == 6400
    # The tolerance, and what a fifth of alpha and other samples cost.
    assert (found.radius[2:] > 0.85 * full.radius[2:]).all()
    assert (found.radius < full.radius + 0.05).all()


def test_a_class_that_is_surely_not_the_most_frequent_is_given_up():
    n = 100
    counts = np.array([20, 50, 60, 90])
    free = np.full(4, np.inf)
    assert LOOKS.goes_on(counts, n, free).tolist() == [False, True, True, True]
    assert not LOOKS.goes_on(np.array([50, 6400]), 6400, free[:2]).any()
    held = np.array([0.1, 0.1, 0.1, 0.1])  # 90 of 100 are for more than that
    assert LOOKS.goes_on(counts, n, held).tolist() == [False, True, True, False]


def test_a_region_ends_at_its_limit():
    distances, limits = [0.0, 0.5, 1.0, 2.0], np.array([0.2, 0.2, 5.0, np.inf])
    points = torch.tensor(distances).view(-1, 1, 1, 1) / 2
    noise = IsotropicNoise.constant(0.5, points)
    model, streams = Linear(torch.ones(1)), Streams.of(0, range(4))
    free = certify(model, points, noise, Budget(n=2000), streams)
    held = certify(model, points, noise, Budget(n=2000), streams, limit=limits)
    assert free.radius[0] == 0 and free.radius[1] > 0.2
    assert held.radius.tolist() == [0, 0.2, *free.radius[2:]]
    assert (held.proxy_radius <= held.radius * 0.5).all() and held.log_volume[1] < 0
    for name in ("prediction", "count", "n", "p_lower"):
        assert getattr(held, name).tolist() == getattr(free, name).tolist()
    certain = certify(model, points, noise, LOOKS, streams, limit=limits).n
    assert certain[1] == LOOKS.sizes[0]  # more samples would add nothing


@pytest.mark.parametrize("limit", [[1.0, 1.0, 0.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [1.0]])
def test_a_limit_is_one_positive_number_per_image(limit):
    images = IMAGES[:3]
    noise = IsotropicNoise.constant(0.5, images)
    with pytest.raises(ValueError, match="limit must be 3 positive numbers, one per image, got"):
        certify(MODEL, images, noise, Budget(n=100), STREAMS[:3], limit=np.array(limit))


def test_bounds_are_those_of_the_count_and_the_samples_that_were_drawn():
    found = at_distances([0.3, 0.6, 0.9, 1.2, 2.0], LOOKS)
    for count, n, bound in zip(found.count, found.n, found.p_lower, strict=True):
        assert bound == clopper_pearson_lower(count, int(n), 0.001 / 5)


def test_images_do_not_depend_on_their_company_where_some_stop():
    together = at_distances([0.1, 1.0, 0.2], LOOKS)
    points = torch.tensor([[0.2 / 2]]).view(1, 1, 1, 1)
    noise = IsotropicNoise.constant(0.5, points)
    alone = certify(Linear(torch.ones(1)), points, noise, LOOKS, Streams.of(0, [2]))
    assert together.n[1] < together.n[2] and alone.n[0] == together.n[2]
    assert alone.count[0] == together.count[2]


def test_with_one_look_nothing_is_different():
    found = at_distances([0.6, 1.0], replace(LOOKS, looks=1))
    points = torch.tensor([0.6, 1.0]).view(-1, 1, 1, 1) / 2
    noise, streams = IsotropicNoise.constant(0.5, points), Streams.of(0, range(2))
    counts = class_counts(Linear(torch.ones(1)), points, noise, LOOKS.n, streams, Stage.ESTIMATE)
    assert found.count.tolist() == counts[:, 0].tolist()

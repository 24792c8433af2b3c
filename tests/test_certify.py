"""Certificates of classifiers whose exact regions are known, and how many are wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rddrs_dist import ABSTAIN, Budget, Certificate, Fit, IsotropicNoise, Streams, certify
from rddrs_dist.smoothing import Stage
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower
from tests.oracles import Linear, noises

EVENT = (1, 2, 3)
W = torch.tensor([1.0, -2.0, 0.5, 1.0, 0.0, 0.7])
MODEL = Linear(W, b=0.2)
IMAGES = torch.rand(20, *EVENT, generator=torch.Generator().manual_seed(0))
STREAMS = Streams.of(0, range(20))
NOISES = noises(IMAGES)
FIT = Fit.of(IsotropicNoise.constant(0.5, IMAGES))
TESTS = Budget(n0=20, n=6400, alpha=0.001, sequential_tests=5, tolerance=0.05)


def at_distances(
    distances: list[float] | np.ndarray,
    budget: Budget,
    limit: np.ndarray | None = None,
    seed: int = 0,
) -> Certificate:
    """At these distances from a hyperplane, on the side of 0, in units of sigma = 1/2."""
    points = torch.tensor(np.asarray(distances)).float().view(-1, 1, 1, 1) / 2
    fit = Fit.of(IsotropicNoise.constant(0.5, points))
    fit = fit if limit is None else replace(fit, limit=limit)
    streams = Streams.of(seed, range(len(points)))
    return certify(Linear(torch.ones(1)), points, fit, budget, streams)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_radius_is_the_mahalanobis_distance_to_the_boundary_from_below(noise):
    """For a linear classifier the exact radius is |w.x - b| / ||S^T w||: never exceeded."""
    region = certify(MODEL, IMAGES, Fit.of(noise), Budget(n=20_000), STREAMS).region
    margin, normals = MODEL.margin(IMAGES).double(), W.expand(20, 6).reshape(20, *EVENT)
    exact = (margin.abs() / noise.support(normals)).numpy()
    certified = region.prediction != ABSTAIN
    assert (region.radius <= exact).all()
    assert (region.support(normals) <= margin.abs().numpy()).all()
    assert np.array_equal(region.prediction[certified], (margin <= 0).numpy()[certified])
    near = certified & (exact < 2.5)
    assert near.sum() >= 5
    assert (region.radius > 0.8 * exact - 0.05)[near].all()
    assert region.noise is noise and torch.equal(region.centre, IMAGES)


def test_an_abstention_has_an_empty_region():
    found = at_distances([0.0], Budget(n=1000))
    assert found.p_lower[0] <= 0.5
    assert found.region.prediction.tolist() == [ABSTAIN] and found.region.radius.tolist() == [0]
    assert not found.region.contains(found.region.centre).any()


def test_selection_and_estimation_read_their_own_streams(monkeypatch):
    stages = []
    original = Streams.normal

    def spy(self, stage, *rest):
        stages.append(stage)
        return original(self, stage, *rest)

    monkeypatch.setattr(Streams, "normal", spy)
    certify(MODEL, IMAGES, FIT, Budget(n=1000), STREAMS)
    assert set(stages) == {Stage.SELECT, Stage.ESTIMATE}


def test_the_count_is_that_of_the_selected_class_even_where_another_leads():
    class Coin(nn.Module):
        """Answers 1 in the first 100 samples of an image and 0 from then on."""

        seen = 0

        def forward(self, images):
            self.seen += len(images)
            answer = torch.full((len(images),), int(self.seen <= 101))
            return nn.functional.one_hot(answer, 2).float() * 5 - 1

    found = certify(Coin().eval(), IMAGES[:1], FIT[:1], Budget(n=1000), STREAMS[:1])
    assert found.count.tolist() == [0]
    assert found.region.prediction.tolist() == [ABSTAIN]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"alpha": 0.0}, "alpha must be in"),
        ({"alpha": 1.0}, "alpha must be in"),
        ({"n0": 0}, "n0 must be at least 1"),
        ({"sequential_tests": 0}, "sequential_tests must be at least 1"),
        ({"tolerance": 0.0}, r"tolerance in \(0, 1\)"),
        ({"tolerance": 1.0}, r"tolerance in \(0, 1\)"),
        ({"n": 100, "sequential_tests": 9}, "= 9 wants an n of at least 256"),
        ({"n": 100_000, "sequential_tests": 19}, "= 19 wants an n of at least 262144"),
        ({"n": 9, "alpha": 0.001}, "the smallest n that can is 10"),
        ({"n": 4, "alpha": 0.05}, "the smallest n that can is 5"),
    ],
)
def test_impossible_budgets_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        Budget(**wrong)
    assert Budget(n=10, alpha=0.001).n == 10


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="is in training mode"):
        certify(Linear(W).train(), IMAGES, FIT, Budget(n=100), STREAMS)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (FIT.noise, r"got IsotropicNoise: pass the fit itself, or Fit\.of\(noise\)"),
        (None, "got NoneType: pass the fit itself"),
        (FIT[:3], "fit must be of 20 images, got one of 3"),
    ],
    ids=["noise", "none", "others"],
)
def test_what_is_no_fit_of_the_images_is_refused(wrong, text):
    """A noise without its fit would have lost the limit of its regions."""
    with pytest.raises(ValueError, match=text) as caught:
        certify(MODEL, IMAGES, wrong, Budget(n=100), STREAMS)
    assert "\n" not in str(caught.value)


def test_tests_come_after_halves_of_the_samples():
    assert TESTS.sizes == (400, 800, 1600, 3200, 6400)
    assert Budget(n=1001, sequential_tests=2).sizes == (501, 1001)
    assert Budget(n=1001).sizes == (1001,)
    assert TESTS.level == 0.001 / 5


def test_an_image_stops_where_more_samples_would_not_help():
    distances = [0.0, 0.1, 1.0, 1.3, 4.0]
    found = at_distances(distances, TESTS)
    full = at_distances(distances, replace(TESTS, sequential_tests=1))
    assert set(found.n) <= set(TESTS.sizes) and (full.n == 6400).all()
    assert found.n[1] == 6400  # near the boundary every sample counts
    assert (found.n[2:4] < 6400).all()
    # All samples are of the class: the radius still grows by more than a twentieth.
    assert found.n[4] == 6400 and found.count[4] == 6400
    # The tolerance, and what a fifth of alpha and other samples cost.
    assert (found.region.radius[2:] > 0.85 * full.region.radius[2:]).all()
    assert (found.region.radius < full.region.radius + 0.05).all()
    for count, n, bound in zip(found.count, found.n, found.p_lower, strict=True):
        assert bound == clopper_pearson_lower(count, int(n), 0.001 / 5)


def test_a_class_that_is_surely_not_the_most_frequent_is_given_up():
    n = 100
    counts = np.array([20, 50, 60, 90])
    free = np.full(4, np.inf)
    assert TESTS.goes_on(counts, n, free).tolist() == [False, True, True, True]
    assert not TESTS.goes_on(np.array([50, 6400]), 6400, free[:2]).any()
    held = np.array([0.1, 0.1, 0.1, 0.1])  # 90 of 100 are for more than that
    assert TESTS.goes_on(counts, n, held).tolist() == [False, True, True, False]


def test_a_region_ends_at_its_limit():
    distances, limits = [0.0, 0.5, 1.0, 2.0], np.array([0.2, 0.2, 5.0, np.inf])
    free, held = (at_distances(distances, Budget(n=2000), limit) for limit in (None, limits))
    assert free.region.radius[0] == 0 and free.region.radius[1] > 0.2
    assert held.region.radius.tolist() == [0, 0.2, *free.region.radius[2:]]
    assert (held.region.proxy_radius <= held.region.radius * 0.5).all()
    assert held.region.log_volume[1] < 0
    assert held.region.prediction.tolist() == free.region.prediction.tolist()
    for name in ("count", "n", "p_lower"):
        assert getattr(held, name).tolist() == getattr(free, name).tolist()
    certain = at_distances(distances, TESTS, limits).n
    assert certain[1] == TESTS.sizes[0]  # more samples would add nothing


def test_images_do_not_depend_on_their_company_where_some_stop():
    together = at_distances([0.1, 1.0, 0.2], TESTS)
    fit = Fit.of(together.region.noise)
    alone = certify(
        Linear(torch.ones(1)), together.region.centre[2:], fit[2:], TESTS, Streams.of(0, [2])
    )
    assert together.n[1] < together.n[2] and alone.n[0] == together.n[2]
    assert alone.count[0] == together.count[2]


# 20,000 certificates where they are wrong the most often.
ALPHA = 0.05
SMALL = Budget(n0=10, n=120, alpha=ALPHA)
GREEDY = Budget(n0=10, n=480, alpha=ALPHA, sequential_tests=4, tolerance=0.99)


def worst(count: int) -> np.ndarray:
    """Distances just below the radii that some count has, (count,).

    There that count and every larger one are too large a claim: with probability alpha, less what
    a wrong selection takes. Elsewhere fewer certificates are wrong.
    """
    p_lower = clopper_pearson_lower(np.arange(SMALL.n + 1), SMALL.n, ALPHA)
    radii = normal_quantile_lower(p_lower[p_lower > 0.5])
    return np.resize(radii * (1 - 1e-6), count)


def radii_and_truth(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Radii of certificates, and the true radius of what they claim."""
    distances = worst(count)
    found = at_distances(distances, SMALL, seed=seed).region
    # The smoothed classifier says 0 on this side, so that a claim of class 1 holds nowhere.
    return found.radius, np.where(found.prediction == 1, 0.0, distances)


def is_too_often(violations: int, count: int) -> bool:
    """Whether so many violations would be seen once in 10,000 times at the most."""
    return stats.binomtest(violations, count, ALPHA, alternative="greater").pvalue < 1e-4


def test_at_most_a_share_alpha_of_20_000_certificates_is_too_large():
    radius, true = radii_and_truth(20_000, seed=0)
    violations = int((radius > true).sum())
    assert not is_too_often(violations, 20_000)
    assert violations > 0.9 * 20_000 * ALPHA  # a larger share would have been seen


def wrong_at_the_boundary(count: int) -> int:
    """Certificates of points on the boundary, where none holds, that stop as soon as they can."""
    found = at_distances(np.full(count, 1e-9), GREEDY)
    assert len(set(found.n.tolist())) == GREEDY.sequential_tests
    return int((found.region.radius > 1e-8).sum())


def test_at_most_a_share_alpha_is_too_large_where_images_stop_early():
    assert not is_too_often(wrong_at_the_boundary(5000), 5000)


def test_tests_that_alpha_was_not_spent_on_fail_the_same_test(monkeypatch):
    monkeypatch.setattr(Budget, "level", property(lambda budget: budget.alpha))
    assert is_too_often(wrong_at_the_boundary(5000), 5000)


def test_the_best_of_five_certificates_fails_the_same_test():
    """Candidates must be chosen on other samples than those that certify them."""
    count = 1000
    best = np.max([radii_and_truth(count, seed)[0] for seed in range(5)], axis=0)
    assert is_too_often(int((best > worst(count)).sum()), count)


def test_counting_the_leading_class_fails_the_same_test():
    """The class must be chosen on other samples than those that are counted for it."""
    # On the boundary nothing may be certified.
    first = np.random.default_rng(0).binomial(SMALL.n, 0.5, 20_000)
    leading = np.maximum(first, SMALL.n - first)
    certified = clopper_pearson_lower(leading, SMALL.n, ALPHA) > 0.5
    assert is_too_often(int(certified.sum()), len(first))

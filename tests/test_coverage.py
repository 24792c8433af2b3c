"""Certificates that are wrong, counted: 20,000 of them where they are wrong the most often."""

import numpy as np
import torch
from scipy import stats

from rddrs_dist import Budget, Certificate, Fit, IsotropicNoise, Streams, certify
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower
from tests.oracles import Linear

SIGMA, ALPHA = 0.5, 0.05
BUDGET = Budget(n0=10, n=120, alpha=ALPHA)
GREEDY = Budget(n0=10, n=480, alpha=ALPHA, sequential_tests=4, tolerance=0.99)


def certificates(distances: np.ndarray, seed: int, budget: Budget) -> Certificate:
    """At points (B,) at these distances from a boundary, in units of sigma, on the side of 0."""
    points = torch.from_numpy(SIGMA * distances).float().view(-1, 1, 1, 1)
    fit = Fit.of(IsotropicNoise.constant(SIGMA, points))
    streams = Streams.of(seed, range(len(points)))
    return certify(Linear(torch.ones(1)), points, fit, budget, streams)


def worst(count: int) -> np.ndarray:
    """Distances just below the radii that some count has, (count,).

    There that count and every larger one are too large a claim: with probability alpha, less what
    a wrong selection takes. Elsewhere fewer certificates are wrong.
    """
    p_lower = clopper_pearson_lower(np.arange(BUDGET.n + 1), BUDGET.n, ALPHA)
    radii = normal_quantile_lower(p_lower[p_lower > 0.5])
    return np.resize(radii * (1 - 1e-6), count)


def radii_and_truth(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Radii of certificates, and the true radius of what they claim."""
    distances = worst(count)
    found = certificates(distances, seed, BUDGET).region
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
    found = certificates(np.full(count, 1e-9), 0, GREEDY)
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
    first = np.random.default_rng(0).binomial(BUDGET.n, 0.5, 20_000)
    leading = np.maximum(first, BUDGET.n - first)
    certified = clopper_pearson_lower(leading, BUDGET.n, ALPHA) > 0.5
    assert is_too_often(int(certified.sum()), len(first))

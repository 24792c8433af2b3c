"""Certificates that are wrong, counted: 100,000 of them against a boundary that is known."""

import numpy as np
import torch
from scipy import stats

from rddrs_dist import Budget, IsotropicNoise, Streams, certify
from rddrs_dist.stats import clopper_pearson_lower
from tests.oracles import Linear

SIGMA, ALPHA = 0.5, 0.05
BUDGET = Budget(n0=10, n=120, alpha=ALPHA)
# Far on one side of the boundary at 0 every certificate holds; what is near to it can fail.
FARTHEST = 1.5


def wrong(count: int, seed: int, budget: Budget = BUDGET) -> tuple[np.ndarray, np.ndarray]:
    """Radii of certificates on a line of points, and the true radius of what they claim."""
    points = torch.linspace(0, FARTHEST * SIGMA, count).view(-1, 1, 1, 1)
    noise = IsotropicNoise.constant(SIGMA, points)
    model = Linear(torch.ones(1))
    found = certify(model, points, noise, budget, Streams.of(seed, range(count)))
    distance = points.flatten().double().numpy() / SIGMA
    # The smoothed classifier says 0 on this side, so that a claim of class 1 holds nowhere.
    return found.radius, np.where(found.prediction == 1, 0.0, distance)


def is_too_often(violations: int, count: int) -> bool:
    """Whether so many violations would be seen once in 10,000 times at the most."""
    return stats.binomtest(violations, count, ALPHA, alternative="greater").pvalue < 1e-4


def test_at_most_a_share_alpha_of_100_000_certificates_is_too_large():
    radius, true = wrong(100_000, seed=0)
    assert (radius > 0).mean() > 0.5
    violations = int((radius > true).sum())
    assert 0 < violations < 100_000 * ALPHA
    assert not is_too_often(violations, 100_000)


GREEDY = Budget(n0=10, n=480, alpha=ALPHA, looks=4, tolerance=0.99)


def wrong_at_the_boundary(count: int) -> int:
    """Certificates of points on the boundary, where none holds, that stop as soon as they can."""
    points = torch.full((count, 1, 1, 1), 1e-9)
    noise = IsotropicNoise.constant(SIGMA, points)
    found = certify(Linear(torch.ones(1)), points, noise, GREEDY, Streams.of(0, range(count)))
    assert len(set(found.n.tolist())) == GREEDY.looks
    return int((found.radius > 1e-8).sum())


def test_at_most_a_share_alpha_is_too_large_where_images_stop_at_looks():
    assert not is_too_often(wrong_at_the_boundary(20_000), 20_000)


def test_looks_that_alpha_was_not_spent_on_fail_the_same_test(monkeypatch):
    monkeypatch.setattr(Budget, "level", property(lambda budget: budget.alpha))
    assert is_too_often(wrong_at_the_boundary(20_000), 20_000)


def test_the_best_of_five_certificates_fails_the_same_test():
    """Candidates must be chosen on other samples than those that certify them."""
    count = 4000
    best = np.max([wrong(count, seed)[0] for seed in range(5)], axis=0)
    _, true = wrong(count, 0)
    assert is_too_often(int((best > true).sum()), count)


def test_counting_the_leading_class_fails_the_same_test():
    """The class must be chosen on other samples than those that are counted for it."""
    # On the boundary nothing may be certified.
    first = np.random.default_rng(0).binomial(BUDGET.n, 0.5, 20_000)
    leading = np.maximum(first, BUDGET.n - first)
    certified = clopper_pearson_lower(leading, BUDGET.n, ALPHA) > 0.5
    assert is_too_often(int(certified.sum()), len(first))

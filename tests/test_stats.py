"""Bounds against scipy, 60-digit arithmetic and simulated coverage."""

import mpmath
import pytest
from scipy import stats

from rddrs_dist.stats import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    normal_quantile_lower,
    smallest_bounding_n,
    smallest_certifying_n,
)

CASES = [(k, n) for n in (10, 100, 1000, 100_000) for k in {0, 1, n // 2, n - 3, n - 1, n}]


@pytest.mark.parametrize(("count", "n"), CASES)
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_clopper_pearson_agrees_with_scipy(count, n, alpha):
    ours = clopper_pearson_lower(count, n, alpha).item()
    test = stats.binomtest(count, n, alternative="greater")
    assert ours == pytest.approx(test.proportion_ci(1 - alpha).low, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize(("count", "n"), [(7, 10), (95, 100), (999, 1000), (99_990, 100_000)])
def test_clopper_pearson_is_never_above_the_exact_bound(count, n):
    """P(Binomial(n, p_lower) >= count) <= alpha in 40 digits, and almost equal to it."""
    alpha = 0.001
    with mpmath.workdps(40):
        p = mpmath.mpf(clopper_pearson_lower(count, n, alpha).item())
        tail = mpmath.betainc(count, n - count + 1, 0, p, regularized=True)
        assert tail <= mpmath.mpf(alpha)
        assert tail > mpmath.mpf(alpha) * (1 - mpmath.mpf(10) ** -7)


@pytest.mark.parametrize("n", [1, 2, 135, 2000])
@pytest.mark.parametrize("alpha", [0.001, 0.5])
def test_the_upper_bound_is_never_below_the_exact_one(n, alpha):
    """P(Binomial(n, p_upper) <= count) <= alpha in 40 digits, and almost equal to it."""
    for count in {0, 1, n // 20, n - 2, n - 1} & set(range(n)):
        ours = clopper_pearson_upper(count, n, alpha).item()
        test = stats.binomtest(count, n, alternative="less")
        assert ours == pytest.approx(test.proportion_ci(1 - alpha).high, rel=1e-9, abs=1e-11)
        with mpmath.workdps(60):
            tail = mpmath.betainc(n - count, count + 1, 0, 1 - mpmath.mpf(ours), regularized=True)
            assert tail <= mpmath.mpf(alpha)
            assert tail > mpmath.mpf(alpha) * (1 - mpmath.mpf(10) ** -3)
    assert clopper_pearson_upper(n, n, alpha) == 1


@pytest.mark.parametrize(
    ("alpha", "bound", "n"), [(0.001, 0.05, 135), (0.01, 0.5, 7), (0.9, 0.9, 1)]
)
def test_smallest_bounding_n(alpha, bound, n):
    assert smallest_bounding_n(alpha, bound) == n
    assert clopper_pearson_upper(0, n, alpha) <= bound
    assert n == 1 or clopper_pearson_upper(0, n - 1, alpha) > bound


def test_all_successes_have_the_closed_form():
    assert clopper_pearson_lower(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    assert normal_quantile_lower(clopper_pearson_lower(100_000, 100_000, 0.001)) == pytest.approx(
        3.8115, abs=5e-5
    )


@pytest.mark.parametrize("p", [0.5 + 1e-12, 0.6, 0.9, 0.999, 0.99993, 1 - 1e-12])
def test_normal_quantile_is_never_above_the_exact_one(p):
    with mpmath.workdps(40):
        exact = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(p) - 1)
        ours = normal_quantile_lower(p).item()
        assert mpmath.mpf(ours) <= exact
        assert ours == pytest.approx(float(exact), rel=1e-9, abs=1e-14)


def test_no_radius_at_or_below_one_half():
    assert normal_quantile_lower([0.0, 0.3, 0.5]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("alpha", "n"), [(0.001, 10), (0.05, 5), (0.4, 2), (0.6, 1)])
def test_smallest_certifying_n(alpha, n):
    assert smallest_certifying_n(alpha) == n
    assert clopper_pearson_lower(n, n, alpha) > 0.5
    assert n == 1 or clopper_pearson_lower(n - 1, n - 1, alpha) <= 0.5


@pytest.mark.parametrize(
    ("count", "n", "alpha"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 0, 0.1), (1, 5, 0)]
)
def test_impossible_arguments_are_refused(count, n, alpha):
    with pytest.raises(ValueError, match="must be in"):
        clopper_pearson_lower(count, n, alpha)

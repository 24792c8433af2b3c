"""The two probabilities are never below a reference of 80 digits, and hardly above it."""

import mpmath
import pytest
from scipy import stats

from rddrs_dist.verify.exact import binomial_tail, normal_cdf


@pytest.mark.parametrize(
    ("count", "n", "p"),
    [
        (1, 1, 0.001),
        (7, 20, 0.5),
        (200, 200, 0.97),
        (150, 200, 0.9),
        (600, 1000, 0.57),
        (50_000, 100_000, 0.495),
        (99_000, 100_000, 0.989),
        (999_999, 1_000_000, 0.99999),
        (3, 10, 1e-30),
        (3, 10, 1 - 2**-53),
    ],
)
def test_the_binomial_tail_is_a_tight_upper_bound(count, n, p):
    with mpmath.workdps(80):
        odds = mpmath.mpf(p) / (1 - mpmath.mpf(p))
        term = mpmath.binomial(n, count) * mpmath.mpf(p) ** count
        total = term = term * (1 - mpmath.mpf(p)) ** (n - count)
        for k in range(count, n):
            term = term * (n - k) / (k + 1) * odds
            total += term
            if term < total * mpmath.mpf("1e-60") and k > n * p:
                break
        found = mpmath.mpf(str(binomial_tail(count, n, p)))
        assert 0 <= found - total <= total * mpmath.mpf("1e-38")


def test_the_binomial_tail_agrees_with_scipy_everywhere():
    for n in (1, 5, 40):
        for count in range(n + 1):
            for p in (0.0, 0.01, 0.3, 0.5, 0.99):
                wanted = stats.binom.sf(count - 1, n, p)
                assert float(binomial_tail(count, n, p)) == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("x", [0.0, 1e-300, 1e-9, 0.1, 1.0, 2.5, 3.8115, 8.2, 20.0, 39.9, 1e9])
def test_phi_is_a_tight_upper_bound(x):
    with mpmath.workdps(80):
        found, wanted = mpmath.mpf(str(normal_cdf(x))), mpmath.ncdf(mpmath.mpf(x))
        assert 0 <= found - wanted <= mpmath.mpf("1e-38")

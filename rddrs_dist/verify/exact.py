"""Two probabilities, never below the truth and good to 40 digits, in decimal arithmetic.

A bound of the producer lies within a relative 1e-12 of what is allowed, about what float64 can
tell: a check in float64 would have to forgive what it is there to find. Here both probabilities
are sums of positive terms, so that the relative error of a result is at most that of one
operation, 1e-59 (`decimal` has 60 digits), times their number, which is far below 1e8: 1e-51, and
1e-50 is added. What is left of a series is bounded by a geometric one.
"""

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from functools import lru_cache

# Arithmetic of 60 digits that does not underflow.
_DIGITS = Context(60, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
_ROUNDED = Decimal("1." + 49 * "0" + "1")  # written out: 1 + 1e-50 is 1 in 28 digits
# Terms of a series below this share of its sum are bounded together.
_NEGLIGIBLE = Decimal("1e-42")
# Beyond it the series is long, and Phi is 1 to more digits than a float64 p below 1 has.
_FAR = 40.0
_ROOT_2_PI = Decimal("2.506628274631000502415765284811045253006986740609938316629924")


def binomial_head(count: int, n: int, p: float) -> Decimal:
    """P(Binomial(n, p) <= count) for p in (0, 1], rounded up: the tail of the other trials."""
    return binomial_tail(n - count, n, _DIGITS.subtract(Decimal(1), Decimal(p)))


@lru_cache(maxsize=1 << 16)
def binomial_tail(count: int, n: int, p: float | Decimal) -> Decimal:
    """P(Binomial(n, p) >= count) for p in [0, 1), rounded up: its terms from the first one on."""
    if count == 0 or p == 0:
        return Decimal(int(count == 0))
    with localcontext(_DIGITS):
        success, failure = Decimal(p), 1 - Decimal(p)
        ways, least = Decimal(1), min(count, n - count)
        for j in range(1, least + 1):
            ways = ways * (n - least + j) / j
        term = total = ways * success**count * failure ** (n - count)
        for k in range(count, n):
            # Of the next term to this one; later ratios are smaller.
            above, below = (n - k) * success, (k + 1) * failure
            if term < _NEGLIGIBLE * total and below - above > _NEGLIGIBLE:
                total += 2 * term * above / (below - above)  # 2: the difference is rounded
                break
            term = term * above / below
            total += term
        return total * _ROUNDED


@lru_cache(maxsize=1 << 16)
def normal_cdf(x: float) -> Decimal:
    """Phi(x) for x >= 0, rounded up: 1/2 + phi(x) (x + x^3 / 3 + x^5 / 15 + ...)."""
    if x > _FAR:
        return Decimal(1)
    with localcontext(_DIGITS):
        square = Decimal(x) * Decimal(x)
        term = total = Decimal(x)
        divisor = 1
        # Until terms halve at least, so that what is left is no more than the last one.
        while term > _NEGLIGIBLE * total or 2 * square > divisor + 2:
            divisor += 2
            term = term * square / divisor
            total += term
        density = (-square / 2).exp() / _ROOT_2_PI
        return (Decimal("0.5") + density * (total + term)) * _ROUNDED

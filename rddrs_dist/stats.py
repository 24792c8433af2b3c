"""Confidence bounds and normal quantiles in float64, rounded to the safe side."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv, ndtri

# scipy's quantiles are good to about 1e-14; this margin makes the results lower bounds for certain
# and costs nothing that a figure could show.
_MARGIN = 1e-12


def clopper_pearson_lower(count: ArrayLike, n: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """One-sided lower confidence bound on a probability, exact and never rounded up.

    The bound is at most the largest p with P(Binomial(n, p) >= count) <= alpha, so that it exceeds
    the true probability with probability at most alpha.

    Args:
        count: Integer successes among n trials, any shape.
        n: Number of trials; one for all counts or one of each.
        alpha: Error probability, in (0, 1).

    Returns:
        Lower bounds of the shape of `count`; 0 where count is 0.

    Raises:
        ValueError: If a count is outside [0, n] or alpha outside (0, 1).

    References:
        Clopper, Pearson 1934, The use of confidence or fiducial limits.
    """
    count, n = _counts(count, n, alpha)
    # The beta law needs positive parameters; a count of 0 is put right below.
    bound = betaincinv(np.maximum(count, 1), n - count + 1, alpha)
    return np.where(count == 0, 0.0, bound * (1 - _MARGIN))


def clopper_pearson_upper(count: ArrayLike, n: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """One-sided upper confidence bound on a probability, exact and never rounded down.

    At least the smallest p with P(Binomial(n, p) <= count) <= alpha, and 1 where count is n. See
    `clopper_pearson_lower` for arguments and errors.
    """
    count, n = _counts(count, n, alpha)
    bound = betainccinv(count + 1, np.maximum(n - count, 1), alpha)
    return np.where(count == n, 1.0, np.minimum(bound * (1 + _MARGIN), 1.0))


def _counts(count: ArrayLike, n: ArrayLike, alpha: float) -> tuple[NDArray[np.int64], ...]:
    """Counts and numbers of trials as integers; a ValueError where they cannot be."""
    count, n = np.asarray(count, dtype=np.int64), np.asarray(n, dtype=np.int64)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if np.any(n < 1) or np.any(count < 0) or np.any(count > n):
        raise ValueError(f"counts must be in [0, n] with n >= 1, got n = {n} and {count}")
    return count, n


def normal_quantile_lower(p: ArrayLike) -> NDArray[np.float64]:
    """Phi^-1(p) rounded downward, and 0 where p <= 1/2.

    Args:
        p: Probabilities in [0, 1), any shape.
    """
    p = np.asarray(p, dtype=np.float64)
    quantile = ndtri(np.clip(p, 0.5, None))
    # Near p = 1/2 the error is absolute (that of p itself), elsewhere relative.
    return np.maximum(quantile * (1 - _MARGIN) - 1e-15, 0.0)


def smallest_certifying_n(alpha: float) -> int:
    """The smallest n at which n successes out of n give a lower bound above 1/2.

    Args:
        alpha: Error probability, in (0, 1).
    """
    n = max(1, math.ceil(math.log(alpha) / math.log(0.5)))
    while clopper_pearson_lower(n, n, alpha) <= 0.5:
        n += 1
    return n


def smallest_bounding_n(alpha: float, bound: float) -> int:
    """The smallest n at which 0 successes out of n give an upper bound of at most `bound`.

    Args:
        alpha: Error probability, in (0, 1).
        bound: Wanted bound, in (0, 1).
    """
    n = max(1, math.ceil(math.log(alpha) / math.log1p(-bound)))
    while clopper_pearson_upper(0, n, alpha) > bound:
        n += 1
    return n

"""What the numbers of a row claim, computed from other numbers of the same row.

Bounds are compared exactly: floats as the fractions they are, probabilities in 60 digits. Where a
bound is smaller than it need be by more than a relative 1e-9, that is sound but odd.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np

from rddrs_dist.verify import columns
from rddrs_dist.verify.exact import binomial_tail, normal_cdf
from rddrs_dist.verify.findings import Fault, Outcome, Row, odd, over_rows, wrong

ABSTAIN = -1
# Bounds that are lower than need be by more than this share are odd.
LOOSE = 1e-9
# What logarithms and exponentials in float64 may add; a share.
ROUNDING = 1e-12
_SIZES = ("l2_radius", "proxy_radius", "capped_proxy_radius")
_NOT_NEGATIVE = (
    *("count", "label", "index", "p_lower", "radius", *_SIZES, "min_axis", "mean_axis"),
    *("max_axis", "axes_beyond_domain", "fit_steps", "fit_seconds", "certify_seconds"),
)
# No p_lower below 1 gives a larger radius, no scale in single precision longer axes; more samples
# than that nobody draws.
_AT_MOST = {"radius": 40.0, "min_axis": 1e60, "mean_axis": 1e60, "max_axis": 1e60, "n": 10**8}


def judge_values(row: Row) -> Iterator[Fault]:
    """Numbers are finite and in their ranges, words are known."""
    for name in columns.FINITE:
        if row[name] is not None and not math.isfinite(row[name]):
            yield wrong(f"a finite {name}", row[name])
    for name in _NOT_NEGATIVE:
        if row[name] < 0:
            yield wrong(f"{name} of at least 0", row[name])
    if math.isnan(row["log_volume"]) or row["log_volume"] == math.inf:
        yield wrong("a finite log_volume or -inf", row["log_volume"])
    for name, most in _AT_MOST.items():
        if row[name] > most:
            yield wrong(f"{name} of at most {most:g}", row[name])
    if not row["count"] <= row["n"]:
        yield wrong(f"a count of at most n = {row['n']}", row["count"])
    if not row["p_lower"] < 1:
        yield wrong("p_lower below 1", row["p_lower"])
    if row["prediction"] < ABSTAIN:
        yield wrong("a class or -1 as prediction", row["prediction"])
    if row["fit_status"] not in columns.STATUSES:
        yield wrong(f"a fit_status of {', '.join(sorted(columns.STATUSES))}", row["fit_status"])


def check_p_lower(rows: Sequence[Row], looks: int) -> Outcome:
    """p_lower is a bound of level alpha / looks, so that one at each look has level alpha."""

    def judge(row: Row) -> Iterator[Fault]:
        yield from _bound_faults(row, Fraction(row["alpha"]) / looks)

    return over_rows("p_lower", rows, judge)


def _bound_faults(row: Row, level: Fraction) -> Iterator[Fault]:
    """P(Binomial(n, p_lower) >= count) <= level, which makes p_lower a bound of that level."""
    count, n, p = row["count"], row["n"], row["p_lower"]
    if count == 0:
        if p != 0:
            yield wrong("p_lower 0, as count is 0", p)
    elif (tail := binomial_tail(count, n, p)) > level:
        reached = f"{p!r}, at which it is {tail:.15g}"
        yield wrong(f"p_lower with P(Binomial({n}, p) >= {count}) <= {float(level)}", reached)
    elif (more := p * (1 + LOOSE)) < 1 and binomial_tail(count, n, more) <= level:
        yield odd(f"the largest p_lower that {count} of {n} allow", repr(p))


def judge_radius(row: Row) -> Iterator[Fault]:
    """Phi(radius) <= p_lower, no radius where that is at most one half, none above its limit."""
    radius, p, limit = row["radius"], row["p_lower"], row["radius_limit"]
    if limit is not None and not limit > 0:
        yield wrong("a radius_limit above 0, or null", repr(limit))
    if limit is not None and radius > limit:
        yield wrong(f"radius of at most radius_limit, {limit!r}", repr(radius))
    if radius > 0 and normal_cdf(radius) > Decimal(p):
        yield wrong(f"radius of at most Phi^-1({p!r})", repr(radius))
    # Near one half the producer's margin is absolute.
    elif p > 0.5 + ROUNDING and _is_loose(radius, p) and radius != limit:
        yield odd(f"radius Phi^-1({p!r})", repr(radius))


def _is_loose(radius: float, p: float) -> bool:
    """Whether p allows a radius that is visibly larger."""
    return normal_cdf(radius * (1 + LOOSE) + ROUNDING) <= Decimal(p)


def judge_sizes(row: Row) -> Iterator[Fault]:
    """l2 and proxy radius are at most radius times axis, and axes are in order."""
    for name, axis in (("l2_radius", "min_axis"), ("proxy_radius", "mean_axis")):
        product = Fraction(row["radius"]) * Fraction(row[axis])
        if Fraction(row[name]) > product:
            yield wrong(f"{name} of at most radius * {axis}, {float(product)!r}", repr(row[name]))
        elif row[name] < float(product) * (1 - LOOSE):
            yield odd(f"{name} radius * {axis}, {float(product)!r}", repr(row[name]))
    if row["capped_proxy_radius"] > row["proxy_radius"] * (1 + ROUNDING):
        wanted = f"capped_proxy_radius of at most proxy_radius, {row['proxy_radius']!r}"
        yield wrong(wanted, repr(row["capped_proxy_radius"]))
    if not row["min_axis"] <= row["mean_axis"] <= row["max_axis"]:
        found = ", ".join(repr(row[f"{name}_axis"]) for name in ("min", "mean", "max"))
        yield wrong("min_axis <= mean_axis <= max_axis", found)


def judge_given_noise(row: Row) -> Iterator[Fault]:
    """The noise of rs is sigma in single precision, that of ddrs is the same in all directions."""
    if row["error"] is not None:
        return
    axes = [row[f"{name}_axis"] for name in ("min", "mean", "max")]
    sigma = float(np.float32(row["sigma"]))
    if (row["method"] == "rs" or row["fit_status"] == "fallback") and set(axes) != {sigma}:
        yield wrong(f"axes of {sigma!r}", axes)
    if row["method"] == "ddrs" and len(set(axes)) > 1:
        yield wrong("axes of one length", axes)


def judge_abstention(row: Row) -> Iterator[Fault]:
    """Nothing is predicted exactly where p_lower is at most one half, and then nothing claimed."""
    abstains, p = row["prediction"] == ABSTAIN, row["p_lower"]
    if abstains != (row["radius"] == 0):
        yield wrong("radius 0 for an abstention and for nothing else", _claim(row))
    if not abstains and p <= 0.5:
        yield wrong("an abstention, as p_lower is at most 1/2", _claim(row))
    if abstains and p > 0.5 + ROUNDING:
        yield wrong("no abstention, as p_lower is above 1/2", _claim(row))
    if abstains:
        nothing = dict.fromkeys((*_SIZES, "axes_beyond_domain"), 0) | {"log_volume": -math.inf}
        for name, value in nothing.items():
            if row[name] != value:
                yield wrong(f"{name} {value} for an abstention", row[name])
        if row["others_inside"]:
            yield wrong("nothing inside an empty region", row["others_inside"])


def _claim(row: Row) -> str:
    """What a row predicts, and why."""
    return f"prediction {row['prediction']}, p_lower {row['p_lower']!r}, radius {row['radius']!r}"


def judge_error(row: Row) -> Iterator[Fault]:
    """A row with an error is an abstention of which nothing is known; no other row has failed."""
    failed, what = row["error"] is not None, ("null" if row["error"] is None else "a text")
    if failed != (row["fit_status"] == "failed"):
        yield wrong("an error where fit_status is failed, and only there", f"{what} in error")
    if failed != (row["scale_sha256"] is None):
        yield wrong("either an error or a scale_sha256", row["scale_sha256"])
    if failed:
        nothing = {"prediction": ABSTAIN, "count": 0, "p_lower": 0.0, "radius": 0.0}
        for name, value in nothing.items():
            if row[name] != value:
                yield wrong(f"{name} {value}, as the row has an error", row[name])


def check_ddrs_ball(rows: Sequence[Row], methods: Sequence[str]) -> Outcome:
    """contains_ddrs_ball is whether l2_radius reaches that of ddrs."""
    balls: Mapping[int, float] = {
        row["index"]: row["l2_radius"]
        for row in rows
        if row["method"] == "ddrs" and row["error"] is None
    }

    def judge(row: Row) -> Iterator[Fault]:
        ball = balls.get(row["index"]) if row["error"] is None else None
        wanted = None if ball is None else row["l2_radius"] >= ball
        if row["contains_ddrs_ball"] != wanted:
            yield wrong(f"contains_ddrs_ball {wanted}", row["contains_ddrs_ball"])

    return over_rows("ddrs ball", rows, judge)


def check_volumes(rows: Sequence[Row], d: int) -> Outcome:
    """log_volume is that of the ball of proxy_radius; nothing capped exceeds the domain.

    Args:
        rows: Rows to check.
        d: Elements of an image.
    """
    unit, widest = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1), math.sqrt(d)

    def judge(row: Row) -> Iterator[Fault]:
        yield from _volume_faults(row, d, unit)
        yield from _cap_faults(row, d, widest)

    return over_rows("volumes", rows, judge)


def _volume_faults(row: Row, d: int, unit: float) -> Iterator[Fault]:
    """Holds log_volume against proxy_radius; `unit` is the log volume of the unit ball."""
    if row["proxy_radius"] == 0:
        if row["log_volume"] != -math.inf:
            yield wrong("log_volume -inf, as proxy_radius is 0", row["log_volume"])
        return
    grown = d * math.log(row["proxy_radius"])
    slack = ROUNDING * (abs(unit) + abs(grown) + d)
    if row["log_volume"] > unit + grown + slack:
        yield wrong(f"log_volume of at most {unit + grown!r}", repr(row["log_volume"]))
    elif row["log_volume"] < unit + grown - slack:
        yield odd(f"log_volume {unit + grown!r}", repr(row["log_volume"]))


def _cap_faults(row: Row, d: int, widest: float) -> Iterator[Fault]:
    """Holds the capped radius and the axes beyond the domain against its diameter."""
    capped, beyond = row["capped_proxy_radius"], row["axes_beyond_domain"]
    if capped > widest * (1 + ROUNDING):
        yield wrong(f"capped_proxy_radius of at most {widest!r}", repr(capped))
    if beyond > d:
        yield wrong(f"at most {d} axes", beyond)
    longest = row["radius"] * row["max_axis"]
    if (beyond > 0) != (longest > widest) and abs(longest - widest) > ROUNDING * widest:
        wanted = f"axes beyond {widest:.6g}" if longest > widest else "no axis beyond the domain"
        yield wrong(f"{wanted}, as radius * max_axis is {longest!r}", beyond)
    if not beyond and capped < row["proxy_radius"] * (1 - ROUNDING):
        yield odd(f"capped_proxy_radius {row['proxy_radius']!r}, nothing being cut", repr(capped))

"""What a row says of the run and of its image, and what its numbers claim.

Each claim is computed from other numbers of the row, and from the stored scale. Bounds are
compared exactly: floats as the fractions they are, probabilities in 60 digits. Where a bound is
smaller than it need be by more than a relative 1e-9, that is sound but odd.
"""

import math
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa

from rddrs_dist.data import parse_indices
from rddrs_dist.results.columns import ABSTAIN, COLUMNS
from rddrs_dist.verify.exact import binomial_tail, normal_cdf
from rddrs_dist.verify.findings import Checked, Claim, Row, Severity, at, bounded, each_row, key_of
from rddrs_dist.verify.folder import MOST_IMAGES, Case
from rddrs_dist.verify.scales import mean

# Bounds that are lower than need be by more than this share are odd.
LOOSE = 1e-9
# What logarithms and exponentials in float64 may add; a share.
ROUNDING = 1e-12
_FITTED = frozenset({"closed_form", "converged", "max_steps", "deadline", "nonfinite", "blind"})
_STATUSES = _FITTED | {"fallback", "failed"}
_NUMBERS = tuple(one.name for one in COLUMNS if one.type in (pa.int64(), pa.float64()))
_ANY_FLOAT = ("log_volume", "fit_objective")  # -inf for nothing, NaN where nothing was fitted
_ANY_SIGN = (*_ANY_FLOAT, "prediction")
# No p_lower below 1 gives a larger radius, no scale in single precision longer axes; more samples
# than that nobody draws.
_AXES = ("min_axis", "mean_axis", "max_axis")
_AT_MOST = {"radius": 40.0, **dict.fromkeys(_AXES, 1e60), "n": 10**8}


def check_rows(case: Case) -> Checked:
    """Each image of the run has one row per method, in its own shard; no other has any."""
    indices = parse_indices(case.run.indices, MOST_IMAGES)
    methods = [method.name for method in case.run.methods]
    shards = {index: k // case.run.shard_size for k, index in enumerate(indices)}
    wanted = Counter((method, index) for index in indices for method in methods)
    found = Counter(map(key_of, case.rows))
    findings = []
    for key in sorted(wanted | found):
        findings += at(key, [(wanted[key] == found[key], f"{wanted[key]} rows", found[key])])
    for row in case.rows:
        shard = shards.get(row["index"], row["shard"])
        findings += at(key_of(row), [(row["shard"] == shard, f"shard {shard}", row["shard"])])
    return f"{len(case.rows)} rows", findings


def judge_settings(row: Row, case: Case) -> Iterator[Claim]:
    """A row was made with the noise, the samples, the confidence and the seed of the run."""
    run, budget = case.run, case.run.budget
    wanted = {"sigma": run.sigma, "n0": budget.n0, "alpha": budget.alpha, "seed": run.seed}
    for name, value in wanted.items():
        yield row[name] == value, f"{name} {value}", row[name]
    yield row["n"] in case.sizes, f"n {' or '.join(map(str, case.sizes))}", row["n"]
    inside = row["others_inside"]
    counted = row["error"] is not None or (inside is None) == (run.training_sha256 is None)
    yield counted, "others_inside where there are training images", inside


def check_verdicts(case: Case) -> Checked:
    """`correct` says whether the prediction is the label, one label per image."""
    labels: dict[int, int] = {}

    def judge(row: Row) -> Iterator[Claim]:
        own, right = row["label"], row["prediction"] == row["label"]
        label = labels.setdefault(row["index"], own)
        yield own == label, f"label {label}, as in another row of it", own
        yield row["correct"] == right, f"correct {right}", row["correct"]

    return each_row(case.rows, judge)


def check_labels(case: Case) -> Checked:
    """The data set is that of the run, and labels are its labels."""
    images, wanted = case.loaded("test"), case.run.data_sha256
    if images.sha256 != wanted:
        another = (False, f"the images of the run, sha256 {wanted}", images.sha256)
        return "0 rows", at(images.name, [another])
    labels = dict(enumerate(images.labels.tolist()))

    def judge(row: Row) -> Iterator[Claim]:
        label = labels.get(row["index"], f"of an image below {len(images)}")
        yield row["label"] == label, f"label {label}", row["label"]
        known = row["prediction"] < images.classes
        yield known, f"a class below {images.classes}", row["prediction"]

    return each_row(case.rows, judge)


def check_network(case: Case) -> Checked:
    """The network that was given is that of the run."""
    found, wanted = case.given_network.sha256, case.run.weights_sha256
    same = (found == wanted, f"the network of the run, sha256 {wanted}", found)
    return "1 file", at(str(case.options.checkpoint), [same])


def judge_values(row: Row, _: Case) -> Iterator[Claim]:
    """Numbers are finite and in their ranges, words are known."""
    for name in _NUMBERS:
        value = row[name]
        if value is not None and name not in _ANY_FLOAT:
            yield math.isfinite(value), f"a finite {name}", value
        if value is not None and name not in _ANY_SIGN:
            yield not value < 0, f"{name} of at least 0", value
    for name, most in _AT_MOST.items():
        yield not row[name] > most, f"{name} of at most {most:g}", row[name]
    status, volume = row["fit_status"], row["log_volume"]
    yield volume < math.inf, "a finite log_volume or -inf", volume
    yield row["count"] <= row["n"], f"a count of at most n = {row['n']}", row["count"]
    yield row["p_lower"] < 1, "p_lower below 1", row["p_lower"]
    yield row["prediction"] >= ABSTAIN, "a class or -1 as prediction", row["prediction"]
    yield status in _STATUSES, f"a fit_status of {', '.join(sorted(_STATUSES))}", status


def judge_p_lower(row: Row, case: Case) -> Iterator[Claim]:
    """P(Binomial(n, p_lower) >= count) <= alpha / tests, so that all tests have level alpha."""
    count, n, p = row["count"], row["n"], row["p_lower"]
    if count == 0:
        yield p == 0, "p_lower 0, as count is 0", p
        return
    level = Fraction(row["alpha"]) / case.run.budget.sequential_tests
    tail, more = binomial_tail(count, n, p), p * (1 + LOOSE)
    wanted = f"p_lower with P(Binomial({n}, p) >= {count}) <= {float(level)}"
    yield tail <= level, wanted, f"{p!r}, at which it is {tail:.15g}"
    tight = more >= 1 or binomial_tail(count, n, more) > level
    yield tight, f"the largest p_lower that {count} of {n} allow", repr(p), Severity.WARNING


def judge_radius(row: Row, _: Case) -> Iterator[Claim]:
    """Phi(radius) <= p_lower, no radius where that is at most one half, none above its limit."""
    radius, p, limit = row["radius"], row["p_lower"], row["radius_limit"]
    if limit is not None:
        yield limit > 0, "a radius_limit above 0, or null", repr(limit)
        yield radius <= limit, f"radius of at most radius_limit, {limit!r}", repr(radius)
    holds = radius == 0 or normal_cdf(radius) <= Decimal(p)
    yield holds, f"radius of at most Phi^-1({p!r})", repr(radius)
    # Near one half the producer's margin is absolute.
    if p > 0.5 + ROUNDING and radius != limit:
        tight = normal_cdf(radius * (1 + LOOSE) + ROUNDING) > Decimal(p)
        yield tight, f"radius Phi^-1({p!r})", repr(radius), Severity.WARNING


def judge_sizes(row: Row, _: Case) -> Iterator[Claim]:
    """l2 and proxy radius are at most radius times axis, and axes are in order."""
    for name, axis in (("l2_radius", "min_axis"), ("proxy_radius", "mean_axis")):
        most = Fraction(row["radius"]) * Fraction(row[axis])
        yield from bounded(name, row[name], float(most) * (1 - LOOSE), most)
    proxy, axes = row["proxy_radius"], [row[name] for name in _AXES]
    yield axes == sorted(axes), "min_axis <= mean_axis <= max_axis", axes
    volume = row["log_volume"]
    yield proxy > 0 or volume == -math.inf, "log_volume -inf of 0", volume


def judge_given_noise(row: Row, _: Case) -> Iterator[Claim]:
    """The noise of rs is sigma in single precision, that of ddrs is the same in all directions."""
    axes, sigma = {row[name] for name in _AXES}, float(np.float32(row["sigma"]))
    given = row["method"] == "rs" or row["fit_status"] == "fallback"
    if row["error"] is None:
        yield not given or axes == {sigma}, f"axes of {sigma!r}", axes
        yield row["method"] != "ddrs" or len(axes) == 1, "axes of one length", axes


def judge_abstention(row: Row, _: Case) -> Iterator[Claim]:
    """Nothing is predicted exactly where p_lower is at most one half, and then nothing claimed.

    A row with an error is an abstention of which nothing is known, and no other row has failed.
    """
    abstains, p = row["prediction"] == ABSTAIN, row["p_lower"]
    claim = f"prediction {row['prediction']}, p_lower {p!r}, radius {row['radius']!r}"
    inside = row["others_inside"]
    failed, status, sha256 = row["error"] is not None, row["fit_status"], row["scale_sha256"]
    nothing = abstains and row["count"] == 0
    yield abstains == (row["radius"] == 0), "radius 0 of an abstention and of no other", claim
    yield abstains or p > 0.5, "an abstention, as p_lower is at most 1/2", claim
    yield not abstains or p <= 0.5 + ROUNDING, "no abstention, as p_lower is above 1/2", claim
    yield not abstains or not inside, "no image in an empty region", inside
    yield failed == (status == "failed"), "fit_status failed with an error, and only then", status
    yield failed == (sha256 is None), "either an error or a scale_sha256", sha256
    yield nothing or not failed, "an abstention and count 0 with an error", claim


def judge_ddrs_ball(row: Row, case: Case) -> Iterator[Claim]:
    """contains_ddrs_ball is whether l2_radius reaches that of ddrs."""
    ddrs, found = case.by_key.get(("ddrs", row["index"])), row["contains_ddrs_ball"]
    known = ddrs is not None and ddrs["error"] is None and row["error"] is None
    wanted = row["l2_radius"] >= ddrs["l2_radius"] if ddrs is not None and known else None
    yield found == wanted, f"contains_ddrs_ball {wanted}", found


def judge_volumes(row: Row, case: Case) -> Iterator[Claim]:
    """log_volume is that of the ball of proxy_radius."""
    d, proxy = math.prod(case.event_shape), row["proxy_radius"]
    if proxy > 0:
        unit, grown = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1), d * math.log(proxy)
        slack = ROUNDING * (abs(unit) + abs(grown) + d)
        least, most = unit + grown - slack, unit + grown + slack
        yield from bounded("log_volume", row["log_volume"], least, most)


def check_scales(case: Case) -> Checked:
    """Each row has a scale, of the right size, finite, and of the hash that the row tells."""
    stored, rows = case.scales, case.by_key
    wanted = {key for key, row in rows.items() if row["scale_sha256"] is not None}
    findings = list(stored.findings)
    kept, other = stored.keys(), ("one without such a row", Severity.WARNING)
    for key in sorted(wanted | kept):
        findings += at(key, [(key in wanted, "scales of certified rows alone", *other)])
        findings += at(key, [(key in kept, "a stored scale, as other rows have", "none")])
    there = sorted(rows.keys() & kept)
    for key in there:
        packed, sha256 = stored.packed(key), rows[key]["scale_sha256"]
        found = f"{packed.values.size} of {packed.values.dtype} as {packed.kind}"
        claims = [
            (stored.find(key) is not None, "a finite, invertible float32 scale of it", found),
            (packed.sha256 == sha256, f"a scale of sha256 {sha256}", packed.sha256),
        ]
        findings += at(key, claims)
    return f"{len(there)} rows", findings


def check_axes(case: Case) -> Checked:
    """Axes are those of the stored scale."""

    def judge(row: Row) -> Iterator[Claim]:
        axes = case.axes[key_of(row)]
        for name, low, high in (
            ("min_axis", axes.below[0], axes.above[0]),
            ("mean_axis", mean(axes.below), axes.mean_above),
            ("max_axis", axes.below[-1], axes.above[-1]),
        ):
            yield from bounded(name, row[name], float(low) * (1 - LOOSE), float(high))

    return each_row((row for row in case.rows if key_of(row) in case.axes), judge)

"""Blindness and data radii: their bounds, where they are null, and the sections of stored scales.

Principal directions are computed anew, and sections from singular values of S^-1 V.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.verify.certificates import LOOSE, ROUNDING
from rddrs_dist.verify.exact import binomial_head
from rddrs_dist.verify.findings import (
    Checked,
    Claim,
    Missing,
    Row,
    Severity,
    bounded,
    each_row,
    key_of,
)
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.scales import Axes, Floats

# A region counts in tables up to this bound of its blindness, if nothing else is said.
SIGHTED = 0.05
_RADII = {"data_radius": 0.95, "data_radius_99": 0.99}
_EPS = float(np.finfo(np.float64).eps)
_CHUNK = 8192


@lru_cache(4)
def measured(count: int) -> list[int]:
    """Positions of the training images that measure blindness: SplitMix64 has a top bit of 1."""
    found, mask = [], (1 << 64) - 1
    for position in range(count):
        mixed = (position + 1) * 0x9E3779B97F4A7C15 & mask
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
        if (mixed ^ mixed >> 31) >> 63:
            found.append(position)
    return found


def judge_sight(row: Row, case: Case) -> Iterator[Claim]:
    """Null exactly where nothing is measured; the upper bound is that of blindness."""
    run, made = case.run, row["error"] is None
    measured = made and run.training_sha256 is not None and run.sight_samples > 0
    radii, blind, upper = [row[name] for name in _RADII], row["blindness"], row["blindness_upper"]
    for name in _RADII:
        known = (row[name] is not None) == measured
        yield known, f"a {name} where sight is measured, and null elsewhere", row[name]
    yield (blind is None) == (upper is None), "both blindness and its bound, or neither", upper
    certified = measured and row["prediction"] != ABSTAIN
    yield certified or blind is None, "no blindness of an abstention or unmeasured", blind
    if certified and blind is None:
        yield (
            not _has_others(case, row["prediction"]),
            "a blindness: there are other labels",
            blind,
        )
    if None not in radii:
        yield from _judge_radii(row)
    if blind is not None and upper is not None:
        yield from _judge_bound(row, run.sight_samples)


def _has_others(case: Case, label: int) -> bool:
    """Whether a measured training image has another label; no where the images are not there."""
    try:
        labels = case.training.labels
        return bool((labels[measured(len(labels))] != label).any())
    except Missing:
        return False


def _judge_radii(row: Row) -> Iterator[Claim]:
    """No section is narrower than the narrowest axis or wider than the widest."""
    ball, most = row["l2_radius"], row["radius"] * row["max_axis"] * (1 + ROUNDING)
    given = row["method"] in ("rs", "ddrs") or row["fit_status"] == "fallback"
    for name in _RADII:
        value = row[name]
        yield from bounded(name, value, ball * (1 - ROUNDING), most)
        yield not given or value == ball, f"{name} of l2_radius, {ball!r}", repr(value)


def _judge_bound(row: Row, samples: int) -> Iterator[Claim]:
    """P(Binomial(m, blindness_upper) <= count) <= alpha, for a count of m samples."""
    blind, upper, alpha = row["blindness"], row["blindness_upper"], Fraction(row["alpha"])
    count = round(blind * samples) if samples else -1
    share = 0 <= count <= samples and count / samples == blind
    yield share, f"blindness of a number of {samples} samples", repr(blind)
    yield blind <= upper <= 1, "blindness <= blindness_upper <= 1", repr((blind, upper))
    if not share or not 0 < upper <= 1:
        return
    wanted = f"blindness_upper with P(Binomial({samples}, p) <= {count}) <= {float(alpha)}"
    if count == samples:
        yield upper == 1, wanted, repr(upper)
        return
    head, less = binomial_head(count, samples, upper), upper * (1 - LOOSE)
    yield head <= alpha, wanted, f"{upper!r}, at which it is {head:.15g}"
    tight = binomial_head(count, samples, less) > alpha
    yield (
        tight,
        f"the smallest bound that {count} of {samples} allow",
        repr(upper),
        Severity.WARNING,
    )


@dataclass(frozen=True, eq=False)
class _Principal:
    """Principal directions of the training images."""

    basis: Floats  # (d, k), those of the largest variance first
    tilt: float  # how far rounding may turn their span, at most

    @classmethod
    def of(cls, images: Floats, share: float) -> "_Principal":
        """The fewest that hold a share of the variance of images (N, d) float32."""
        (_, d), chunks = images.shape, range(0, len(images), _CHUNK)
        centre = sum(images[i : i + _CHUNK].sum(0, dtype=np.float64) for i in chunks) / len(images)
        second = np.zeros((d, d))
        for start in chunks:
            part = images[start : start + _CHUNK] - centre
            second += part.T @ part
        values, vectors = np.linalg.eigh(second)
        held = np.cumsum(np.maximum(values[::-1], 0))
        k = min(int(np.searchsorted(held, share * held[-1])) + 1, d)
        gap = values[d - k] - values[d - k - 1] if k < d else np.inf
        tilt = 8 * d * _EPS * values[-1] / gap if gap > 0 else np.inf  # Davis and Kahan 1970
        return cls(vectors[:, ::-1][:, :k], tilt)

    def mean_axis(self, scale: Floats, axes: Axes) -> tuple[float, float]:
        """Of the section of S: bounds from singular values, with rounding."""
        inverse = 1 / max(axes.below[0], 1e-300)
        own = (
            self.basis / scale[:, None] if scale.ndim == 1 else np.linalg.solve(scale, self.basis)
        )
        found = float(np.exp(-np.log(np.linalg.svd(own, compute_uv=False)).mean()))
        condition = axes.above[-1] * inverse
        more = LOOSE + min((len(scale) * _EPS + self.tilt) * condition, 1.0)
        # What the run may have taken off for rounding.
        norms = np.sqrt((axes.above**2).sum() * (np.maximum(axes.below, 1e-300) ** -2.0).sum())
        less = more + 4 * len(scale) * _EPS * norms * (4 + np.sqrt(self.basis.shape[1]))
        return found * (1 - less), found * (1 + more)


def check_data_radii(case: Case) -> Checked:
    """data_radius is the proxy radius of the stored scale's section with principal directions."""
    rows = [
        row for row in case.rows if key_of(row) in case.axes and row["data_radius"] is not None
    ]
    images = case.training.images.reshape(len(case.training.images), -1)
    principal = {name: _Principal.of(images, share) for name, share in _RADII.items()}

    def judge(row: Row) -> Iterator[Claim]:
        key = key_of(row)
        for name in (name for name in principal if row[name] is not None):
            least, most = principal[name].mean_axis(case.scales.matrix(key), case.axes[key])
            most = Fraction(row["radius"]) * Fraction(float(most))
            yield from bounded(name, row[name], float(row["radius"] * least), most)

    return each_row(rows, judge)

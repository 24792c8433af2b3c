"""Certified accuracy as a function of the radius, with its lower confidence band."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rddrs_dist.analysis.sizes import certified, silent
from rddrs_dist.stats import clopper_pearson_lower

ALPHA_CURVE = 0.05
TAIL = 0.05  # below this accuracy a curve counts as a thin tail, which an axis may leave out
_SPREAD = 10.0  # an axis is at most this much longer than the second longest method needs
METHOD_ORDER = ("rs", "ddrs", "ancer", "rddrs", "rddrs_tr")
MAX_KNOTS = 1000


@dataclass(frozen=True, eq=False)
class Curve:
    """Certified accuracy of one method at one sigma, as an exact step function.

    The value on `(radii[k - 1], radii[k]]` is `accuracy[k]`; behind the last radius it is 0.

    Attributes:
        method: Name of the method.
        sigma: Noise level of the panel.
        metric: Name in `metrics.METRICS`, which gives the unit of the radii.
        radii: Array (R,), increasing, from 0 to just behind the largest size.
        accuracy: Array (R,): fraction of images certified at each radius.
        lower: Array (R,): pointwise one-sided lower confidence bound of the accuracy over
            the draw of the images, at level `ALPHA_CURVE`. It takes each certificate as
            right; each fails with probability at most the run's alpha.
        images: Number of images.
    """

    method: str
    sigma: float
    metric: str
    radii: np.ndarray
    accuracy: np.ndarray
    lower: np.ndarray
    images: int


def certified_accuracy(sizes: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Returns the fraction of sizes that reach each radius, compared exactly.

    Args:
        sizes: Array (N,) as `metrics.certified` returns it; -1 never counts.
        radii: Array (R,), 0 or more, in the unit of the sizes.

    Returns:
        Array (R,), `mean(sizes >= radius)`; nothing is rounded on the way.

    Raises:
        ValueError: If there is no size, a size is NaN, or a radius is negative or NaN.
    """
    sizes, radii = np.asarray(sizes, np.float64), np.asarray(radii, np.float64)
    return _reached(sizes, radii) / len(sizes)


def curve(
    frame: pd.DataFrame,
    metric: str,
    *,
    method: str,
    sigma: float,
    alpha: float = ALPHA_CURVE,
    knots: int = MAX_KNOTS,
) -> Curve:
    """Computes the curve of one method at one sigma.

    Args:
        frame: Rows as `read` returns them; other methods and sigmas are left out.
        metric: A name in `metrics.METRICS`.
        method: Name of the method.
        sigma: Noise level.
        alpha: Level of the pointwise lower band.
        knots: Most steps that are kept; see `_knots`.

    Raises:
        ValueError: If there is no such row or the metric is not known.
    """
    sizes = certified(select(frame, method=method, sigma=sigma), metric)
    radii = _knots(sizes, knots)
    counts = _reached(sizes, radii)
    return Curve(
        method=method,
        sigma=float(sigma),
        metric=metric,
        radii=radii,
        accuracy=counts / len(sizes),
        lower=clopper_pearson_lower(counts, len(sizes), alpha),
        images=len(sizes),
    )


def curves(
    frame: pd.DataFrame, metric: str, *, alpha: float = ALPHA_CURVE, knots: int = MAX_KNOTS
) -> list[Curve]:
    """Computes one curve per sigma and method, in the order of figures and tables.

    Args:
        frame: Rows as `read` or `read_many` returns them.
        metric: A name in `metrics.METRICS`.
        alpha: Level of the pointwise lower band.
        knots: Most steps that are kept of each.

    Returns:
        Curves by increasing sigma, then in the order of `METHOD_ORDER`; none of a log that lacks
        the metric.

    Raises:
        ValueError: If the metric is not known.
    """
    return [
        curve(frame, metric, method=method, sigma=sigma, alpha=alpha, knots=knots)
        for sigma, method in lines(frame)
        if not silent(select(frame, method=method, sigma=sigma), metric)
    ]


def lines(frame: pd.DataFrame) -> list[tuple[float, str]]:
    """Lists the pairs (sigma, method) of a frame in the order of figures and tables."""
    pairs = set(zip(frame["sigma"].tolist(), frame["method"].tolist(), strict=True))
    return [
        (sigma, method)
        for sigma in sorted({sigma for sigma, _ in pairs})
        for method in in_order(method for other, method in pairs if other == sigma)
    ]


def select(frame: pd.DataFrame, *, method: str, sigma: float) -> pd.DataFrame:
    """Returns the rows of one method at one sigma."""
    return frame.loc[(frame["method"] == method) & (frame["sigma"] == sigma)]


def in_order(methods: Iterable[str]) -> list[str]:
    """Sorts methods as every figure and table shows them: the published ones first."""
    rank = {method: position for position, method in enumerate(METHOD_ORDER)}
    return sorted(methods, key=lambda method: (rank.get(method, len(rank)), method))


def axis_end(panel: Iterable[Curve]) -> float:
    """Chooses the radius at which all curves, or all but one that runs far off, are thin."""
    thin = sorted(float(one.radii[one.accuracy >= TAIL].max(initial=0.0)) for one in panel)
    reached = [radius for radius in thin if radius > 0] or [0.0]
    return min(reached[-1], _SPREAD * reached[-2]) if len(reached) > 1 else reached[-1]


def to_frame(drawn: Iterable[Curve]) -> pd.DataFrame:
    """Puts curves into one long table, at full precision, for a CSV file.

    Returns:
        A frame with columns metric, sigma, method, images, radius, accuracy and lower.
    """
    return pd.concat(
        pd.DataFrame(
            {
                "metric": one.metric,
                "sigma": one.sigma,
                "method": one.method,
                "images": one.images,
                "radius": one.radii,
                "accuracy": one.accuracy,
                "lower": one.lower,
            }
        )
        for one in drawn
    ).reset_index(drop=True)


def _reached(sizes: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Counts the sizes that reach each radius: (N,), (R,) -> (R,) integers."""
    if sizes.ndim != 1 or not len(sizes) or np.isnan(sizes).any():
        raise ValueError(
            f"sizes must be one or more numbers without NaN, got shape {sizes.shape}; read a run "
            "that has rows for this method and sigma"
        )
    if not (radii >= 0).all():
        raise ValueError(f"radii must be 0 or more, got {radii.min()}; correct the radii")
    return len(sizes) - np.searchsorted(np.sort(sizes), radii, side="left")


def _knots(sizes: np.ndarray, limit: int) -> np.ndarray:
    """Chooses the radii of a curve: 0, every size, and the first number behind the largest.

    Of more sizes than `limit` as many are kept, evenly by rank. A step function drawn
    through fewer of its points takes the value of the next larger one, so it never lies above
    the full curve.
    """
    steps = np.unique(sizes[np.isfinite(sizes) & (sizes > 0)])
    if len(steps) > limit:
        steps = steps[np.linspace(0, len(steps) - 1, limit).round().astype(int)]
    behind = np.nextafter(steps[-1] if len(steps) else 0.0, np.inf)
    return np.concatenate([[0.0], steps, [behind]])

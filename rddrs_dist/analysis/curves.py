"""Certified accuracy as a function of the radius, with its lower confidence band."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rddrs_dist.analysis.lines import Line
from rddrs_dist.stats import clopper_pearson_lower

ALPHA_CURVE = 0.05
TAIL = 0.05  # below this accuracy a curve counts as a thin tail, which an axis may leave out
_SPREAD = 10.0  # an axis is at most this much longer than the second longest method needs
_SLACK = 1.5  # a tail that is at most this much longer is shown whole
MAX_KNOTS = 1000
P_LOWER = "p_lower"


@dataclass(frozen=True, eq=False)
class Curve:
    """Certified accuracy of one line, as an exact step function.

    The value on `(radii[k - 1], radii[k]]` is `accuracy[k]`; behind the last radius it is 0.

    Attributes:
        line: The line.
        size: Name in `sizes.SIZES`; or p_lower, whose radii are probabilities.
        radii: Array (R,), increasing, from 0 to just behind the largest size.
        accuracy: Array (R,): fraction of images certified at each radius.
        lower: Array (R,): pointwise one-sided lower confidence bound of the accuracy over
            the draw of the images, at level `ALPHA_CURVE`. It takes each certificate as
            right; each fails with probability at most the run's alpha.
    """

    line: Line
    size: str
    radii: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    lower: NDArray[np.float64]

    @property
    def reach(self) -> float:
        """The largest certified size."""
        return float(self.radii[-2])

    def beyond(self, radius: float) -> float:
        """The fraction of images that are certified farther than a radius."""
        behind = self.accuracy[np.searchsorted(self.radii, radius, side="right") :]
        return float(behind[0]) if len(behind) else 0.0


def certified_accuracy(
    sizes: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the fraction of sizes that reach each radius, compared exactly.

    Args:
        sizes: Array (N,) as `Line.certified` returns it; -1 never counts.
        radii: Array (R,), 0 or more, in the unit of the sizes.

    Returns:
        Array (R,), `mean(sizes >= radius)`; nothing is rounded on the way.
    """
    return _reached(sizes, radii) / len(sizes)


def curves(lines: Iterable[Line], size: str, *, knots: int = MAX_KNOTS) -> list[Curve]:
    """Computes the curves of all lines that have a size, in their order.

    Of more steps than `knots` as many are kept, evenly by rank.

    Raises:
        ValueError: If there is no such size.
    """
    sizes = ((line, line.certified(size)) for line in lines)
    return [_curve(line, size, own, knots) for line, own in sizes if own is not None]


def p_lower_curves(lines: Iterable[Line]) -> list[Curve]:
    """The share of images certified with at least each `p_lower`, of the lines that have it.

    Sun, Mao, Müller and Vechev 2024 (arXiv 2410.06895) ask for it: an average radius may come
    from a few images alone.
    """
    known = ((line, line.counted(P_LOWER)) for line in lines)
    return [_curve(line, P_LOWER, own, MAX_KNOTS) for line, own in known if own is not None]


def _curve(line: Line, size: str, sizes: NDArray[np.float64], knots: int) -> Curve:
    """The curve through sizes of which -1 never counts."""
    radii = _knots(sizes, knots)
    counts = _reached(sizes, radii)
    lower = clopper_pearson_lower(counts, len(sizes), ALPHA_CURVE)
    return Curve(line, size, radii, counts / len(sizes), lower)


def axis_end(panel: Sequence[Curve]) -> float:
    """Chooses the radius at which all curves, or all but one that runs far off, are thin.

    Returns the largest size where that is not far behind, and 0 where nothing is certified.
    """
    largest = max(one.reach for one in panel)
    thin = sorted(float(one.radii[one.accuracy >= TAIL].max(initial=0.0)) for one in panel)
    reached = [radius for radius in thin if radius > 0] or [largest]
    end = min(reached[-1], _SPREAD * reached[-2]) if len(reached) > 1 else reached[-1]
    return largest if largest <= _SLACK * end else end


def to_frame(drawn: Iterable[Curve]) -> pd.DataFrame:
    """Puts curves into one long table, one row per step, at full precision, for a CSV file.

    The column of the radii is called p_lower where that is what they are.
    """
    return pd.concat(
        pd.DataFrame(
            {
                "metric": one.size,
                "sigma": one.line.sigma,
                "method": one.line.method,
                "images": len(one.line),
                P_LOWER if one.size == P_LOWER else "radius": one.radii,
                "accuracy": one.accuracy,
                "lower": one.lower,
            }
        )
        for one in drawn
    ).reset_index(drop=True)


def _reached(sizes: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts the sizes that reach each radius: (N,), (R,) -> (R,) integers."""
    return len(sizes) - np.searchsorted(np.sort(sizes), radii, side="left")


def _knots(sizes: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """Chooses the radii of a curve: 0, every size, and the first number behind the largest."""
    steps = np.unique(sizes[np.isfinite(sizes) & (sizes > 0)])
    if len(steps) > limit:  # fewer take the value of the next larger one: never above the curve
        steps = steps[np.linspace(0, len(steps) - 1, limit).round().astype(int)]
    behind = np.nextafter(steps[-1] if len(steps) else 0.0, np.inf)
    return np.concatenate([[0.0], steps, [behind]])

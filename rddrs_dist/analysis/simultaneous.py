"""Sizes that hold for all images of a line at once, and not only for each by itself."""

import numpy as np
import pandas as pd

from rddrs_dist.results.reading import Source
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

_AXES = {"simultaneous_l2_radius": "min_axis", "simultaneous_proxy_radius": "mean_axis"}


def with_simultaneous(rows: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Adds sizes at level alpha / N, N images of a line: one sigma and method of a run.

    By the union bound all N certificates of a line hold with probability at least 1 - alpha. The
    class was selected before, and counts are those of the rows: nothing is drawn anew.

    Args:
        rows: Those of the line.
        source: Where they come from, which knows how often each count was tested.

    Returns:
        The rows with simultaneous_radius and the keys of `_AXES`; those of a log as they were,
        since it has no counts.
    """
    if source.digits is not None:
        return rows
    count, n = (rows[name].to_numpy(np.int64) for name in ("count", "n"))
    (alpha,) = set(rows["alpha"])
    shares = source.config.get("sequential_tests", 1) * len(rows)
    radius = normal_quantile_lower(clopper_pearson_lower(count, n, alpha / shares))
    radius = np.fmin(radius, rows["radius_limit"].to_numpy(np.float64))
    # What was an abstention stays one.
    radius = np.where(rows["radius"].to_numpy() > 0, radius, 0.0)
    products = {name: radius * rows[axis].to_numpy() for name, axis in _AXES.items()}
    below = {name: np.where(own > 0, np.nextafter(own, 0), 0.0) for name, own in products.items()}
    return rows.assign(simultaneous_radius=radius, **below)

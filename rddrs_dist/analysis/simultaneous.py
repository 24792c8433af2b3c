"""Sizes that hold for all images of a run at once, and not only for each by itself."""

import numpy as np
import pandas as pd

from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

COLUMNS = ("simultaneous_radius", "simultaneous_l2_radius", "simultaneous_proxy_radius")
_AXES = {"simultaneous_l2_radius": "min_axis", "simultaneous_proxy_radius": "mean_axis"}


def add(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds sizes at level alpha / N, N images of a line: one sigma and method of a run.

    By the union bound all N certificates of a line hold with probability at least 1 - alpha. The
    class was selected before, and counts are those of the rows: nothing is drawn anew.

    Args:
        frame: Rows as `read_many` returns them, with their `attrs`.

    Returns:
        The frame with `COLUMNS`, NaN in rows of imported logs, which have no counts.
    """
    made = frame.assign(**dict.fromkeys(COLUMNS, np.nan))
    made.attrs.update(frame.attrs)
    for _, rows in frame.groupby(["run", "sigma", "method"]):
        known = rows.loc[rows["count"].notna()]
        if len(known):
            looks = frame.attrs["runs"][known["run"].iloc[0]]["config"].get("looks", 1)
            made.loc[known.index, list(COLUMNS)] = _sizes(known, looks * len(known))
    return made


def _sizes(rows: pd.DataFrame, shares: int) -> np.ndarray:
    """The sizes of the rows, (N, 3), each with 1 / shares of its alpha."""
    count, n = (rows[name].to_numpy(np.int64) for name in ("count", "n"))
    (alpha,) = set(rows["alpha"])
    radius = normal_quantile_lower(clopper_pearson_lower(count, n, alpha / shares))
    radius = np.fmin(radius, rows["radius_limit"].to_numpy())
    # What was an abstention stays one.
    radius = np.where(rows["radius"].to_numpy() > 0, radius, 0.0)
    products = [radius * rows[axis].to_numpy() for axis in _AXES.values()]
    below = [np.where(product > 0, np.nextafter(product, 0), 0.0) for product in products]
    return np.stack([radius, *below], 1)

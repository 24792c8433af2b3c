"""Sizes of certified regions: one column of the result table per metric."""

import numpy as np
import pandas as pd

from rddrs_dist.results.columns import ABSTAIN

METRICS: dict[str, str] = {
    "proxy": "proxy_radius",  # of the ball with the region's volume
    "capped": "capped_proxy_radius",  # the same, axes cut at the diameter of the pixel domain
    "l2": "l2_radius",  # of the largest Euclidean ball inside the region
    "sound": "sound_proxy_radius",  # of the region that the soundness pass left
    "simultaneous": "simultaneous_proxy_radius",  # proxy, for all images at once
}


def available(frame: pd.DataFrame) -> tuple[str, ...]:
    """Returns the names in `METRICS` that all rows have.

    Sound needs a soundness pass, simultaneous is added on request (`simultaneous.add`).

    Lines of imported logs need not have them: they are left out of the figure of a metric that
    they lack, if another line has it.
    """
    own = [rows for _, rows in frame.groupby(["sigma", "method"], sort=False)] or [frame]
    return tuple(
        name
        for name, column in METRICS.items()
        if not all(silent(rows, name) for rows in own)
        and all(silent(rows, name) or _known(rows, column) for rows in own)
    )


def silent(rows: pd.DataFrame, metric: str) -> bool:
    """Tells whether the rows of one line are those of a log that lacks a size in `METRICS`."""
    # No log has counts of samples, and every row of a run has.
    of_log = rows["count"].isna().all()
    return bool(of_log) and not _known(rows, METRICS.get(metric, metric))


def _known(frame: pd.DataFrame, column: str) -> bool:
    """Tells whether every row has a value."""
    return column in frame and not np.isnan(frame[column].to_numpy(np.float64)).any()


def certified(frame: pd.DataFrame, metric: str) -> np.ndarray:
    """Returns each row's size where the prediction is right, and -1 where it is not.

    A wrong prediction or an abstention is -1 rather than 0, so that it does not count as
    certified at radius 0.

    Args:
        frame: Rows as `read` returns them, N of them.
        metric: A name in `METRICS`.

    Returns:
        Array (N,), float64, in units of the metric (pixels scaled to [0, 1]).

    Raises:
        ValueError: If the metric is not known.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}; choose one")
    right = frame["correct"].to_numpy(bool) & (frame["prediction"].to_numpy() != ABSTAIN)
    return np.where(right, frame[METRICS[metric]].to_numpy(np.float64), -1.0)


def average_certified_radius(frame: pd.DataFrame, metric: str) -> float:
    """Returns the mean certified size, with wrong predictions and abstentions as 0.

    Args:
        frame: Rows as `read` returns them; all count, at least one.
        metric: A name in `METRICS`.

    Raises:
        ValueError: If the metric is not known or there is no row.

    References:
        Zhai et al. 2020 (MACER), section 5.
    """
    if not len(frame):
        raise ValueError("a mean wants at least one row, got none; read a run with rows")
    return float(np.maximum(certified(frame, metric), 0.0).mean())

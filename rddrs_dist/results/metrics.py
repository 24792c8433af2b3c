"""Sizes of certified regions: one function from the result table to an array per metric."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from rddrs_dist.results.schema import ABSTAIN


def proxy(frame: pd.DataFrame) -> np.ndarray:
    """Returns the radius of the ball with the region's volume, one per row."""
    return frame["proxy_radius"].to_numpy(np.float64)


def l2(frame: pd.DataFrame) -> np.ndarray:
    """Returns the radius of the largest Euclidean ball inside the region, one per row."""
    return frame["l2_radius"].to_numpy(np.float64)


def sound(frame: pd.DataFrame) -> np.ndarray:
    """Returns the proxy radius of the sound region, one per row."""
    return frame["sound_proxy_radius"].to_numpy(np.float64)


METRICS: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "proxy": proxy,
    "l2": l2,
    "sound": sound,
}


def available(frame: pd.DataFrame) -> tuple[str, ...]:
    """Returns the names in `METRICS` that all rows have; sound needs a soundness pass."""
    column = "sound_proxy_radius"
    passed = column in frame and not np.isnan(frame[column].to_numpy(np.float64)).any()
    return tuple(name for name in METRICS if passed or name != "sound")


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
    return np.where(right, METRICS[metric](frame), -1.0)


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

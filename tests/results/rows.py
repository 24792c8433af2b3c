"""Makes synthetic rows of a run, with every column that there is."""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from rddrs_dist.results.columns import COLUMNS

_EMPTY = {pa.int64(): 0, pa.float64(): 0.0, pa.bool_(): False, pa.string(): ""}
_BLANK = {one.name: None if one.nullable else _EMPTY[one.type] for one in COLUMNS}
# A right prediction with radius 1 under isotropic noise.
_RIGHT: dict[str, Any] = {
    **{"label": 3, "sigma": 0.5, "prediction": 3, "correct": True, "fit_status": "converged"},
    **{"count": 980, "n": 1000, "n0": 100, "alpha": 0.001, "p_lower": 0.96, "radius": 2.0},
    **{
        "l2_radius": 1.0,
        "proxy_radius": 1.0,
        "data_radius": 1.0,
        "data_radius_99": 1.0,
        "log_volume": -3.5,
    },
    **{
        "min_axis": 0.5,
        "mean_axis": 0.5,
        "max_axis": 0.5,
        "blindness": 0.0,
        "blindness_upper": 0.01,
    },
    **{"others_inside": 0, "fit_objective": math.nan, "scale_sha256": "0" * 64},
    **{"fit_seconds": 0.25, "certify_seconds": 1.5},
}


def row(index: int | np.integer = 0, method: str = "rs", **changes: Any) -> dict[str, Any]:
    """Returns one whole row; columns that are not named here are null, zero or empty."""
    return _BLANK | _RIGHT | {"index": index, "method": method} | changes


def abstention(index: int, method: str = "rs", **changes: Any) -> dict[str, Any]:
    """Returns the row of an image on which the smoothed classifier abstained."""
    sizes = {"radius": 0.0, "l2_radius": 0.0, "proxy_radius": 0.0, "log_volume": -math.inf}
    return row(index, method, prediction=-1, correct=False, p_lower=0.4, **sizes) | changes


def sized(sizes: np.ndarray | list[float], method: str = "rs", **changes: Any) -> list[dict]:
    """Returns one row per size, with half of it as l2 radius; negative sizes are wrong rows."""
    made = []
    for index, size in enumerate(map(float, sizes)):
        change = {"proxy_radius": size, "l2_radius": size / 2} | changes
        if size < 0:
            change |= {"correct": False, "prediction": 5, "proxy_radius": 1.0, "l2_radius": 0.5}
        made.append(row(index, method, **change))
    return made

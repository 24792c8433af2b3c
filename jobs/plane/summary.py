"""What figure 1 shows, in numbers."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rddrs_dist import METHODS
from rddrs_dist.analysis.tables import aligned, floor_to

AREAS = ("certified_area", "exact_area")


def of_class(table: pd.DataFrame, own: int) -> pd.DataFrame:
    """The rows that are certified for the network's own class of the test point."""
    return table.loc[table["prediction"] == own]


def by_angle(table: pd.DataFrame) -> str:
    """Certified and exact area of each method at each angle."""
    methods = list(dict.fromkeys(table["method"]))
    kinds = ("certified", "exact")
    header = ("degrees", *(f"{METHODS[name].label} {kind}" for name in methods for kind in kinds))
    body = [
        (
            f"{angle:g}",
            *(f"{floor_to(area, 5):.5f}" for area in rows[list(AREAS)].to_numpy().ravel()),
        )
        for angle, rows in table.groupby("angle")
    ]
    return aligned([header, *body])


def spread(areas: NDArray[np.float64]) -> float:
    """(largest - smallest) / mean; NaN of none."""
    return float(np.ptp(areas) / areas.mean()) if len(areas) else float("nan")


def spreads(turned: pd.DataFrame, fresh: pd.DataFrame, alone: pd.DataFrame) -> pd.DataFrame:
    """How much the area of each method changes with the angle.

    Args:
        turned: Rows at all angles, from the same samples turned.
        fresh: Rows at all angles, from new samples at each.
        alone: Rows at no angle, from other samples each time.

    Returns:
        A frame with method; mean, least and most of the exact area, samples turned; its spread;
        that of the certified area of the same rows, with new samples at each angle, and over
        samples alone; and gap, the largest share of an exact area that a certified one lacks.
    """
    found = []
    for name, rows in turned.groupby("method", sort=False):
        certified, exact = rows[list(AREAS)].to_numpy(dtype=float).T
        new, same = (
            one.loc[one["method"] == name, "certified_area"].to_numpy(dtype=float)
            for one in (fresh, alone)
        )
        found.append(
            {
                "method": name,
                "mean": exact.mean(),
                "least": exact.min(),
                "most": exact.max(),
                "exact": spread(exact),
                "certified": spread(certified),
                "new": spread(new),
                "alone": spread(same),
                "gap": float((1 - certified / exact).max()),
            }
        )
    return pd.DataFrame(found)


def spreads_text(found: pd.DataFrame) -> str:
    """`spreads` as text."""
    sizes, shares = ("mean", "least", "most"), ("exact", "certified", "new", "alone", "gap")
    header = (
        *("method", "mean exact area", "least", "most", "spread", "of certified area"),
        *("with new samples", "not turned", "largest gap"),
    )
    body = [
        (
            METHODS[one["method"]].label,
            *(f"{floor_to(one[name], 5):.5f}" for name in sizes),
            *(f"{100 * one[name]:.3f} %" for name in shares),
        )
        for one in found.to_dict("records")
    ]
    title = "areas, samples turned with data and network; spread: (most - least) / mean"
    return f"{title}\n{aligned([header, *body])}"


def checks(table: pd.DataFrame) -> str:
    """What the exact probabilities say of the certificates."""
    above = sum(table["p_lower"] > table["p_exact"])
    smallest = table["smallest_p"].to_numpy().min()
    return (
        f"{above} of {len(table)} certificates have a p_lower above the exact probability\n"
        f"{table['changed'].sum()} of {table['points'].sum():,} points inside certified regions "
        "have an exact probability of the class of at most 1/2; the smallest is "
        f"{floor_to(smallest, 4):.4f}"
    )

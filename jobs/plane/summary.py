"""What figure 1 shows, in numbers."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rddrs_dist.analysis.tables import floor_to

AREAS = ("certified_area", "exact_area")


def of_class(table: pd.DataFrame, own: int) -> pd.DataFrame:
    """The rows that are certified for the network's own class of the test point."""
    return table.loc[table["prediction"] == own]


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
    title = "areas, samples turned with data and network; spread: (most - least) / mean"
    names = {
        "mean": "mean exact area",
        "exact": "spread",
        "certified": "of certified area",
        "new": "with new samples",
        "alone": "not turned",
        "gap": "largest gap",
    }
    table = found.rename(columns=names).to_string(index=False, float_format="{:.5f}".format)
    return f"{title}\n{table}"


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

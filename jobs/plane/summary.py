"""What figure 1 shows, in numbers."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rddrs_dist.results.styles import label
from rddrs_dist.results.tables import aligned, floor_to

AREAS = ("certified_area", "exact_area")


def of_class(table: pd.DataFrame, own: int) -> pd.DataFrame:
    """The rows that are certified for the network's own class of the test point."""
    return table.loc[table["prediction"] == own]


def by_angle(table: pd.DataFrame) -> str:
    """Certified and exact area of each method at each angle."""
    methods = list(dict.fromkeys(table["method"]))
    kinds = ("certified", "exact")
    header = ("degrees", *(f"{label(name)} {kind}" for name in methods for kind in kinds))
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


def spreads(table: pd.DataFrame, unturned: pd.DataFrame) -> pd.DataFrame:
    """How much the certified area of each method changes with the angle.

    Args:
        table: Rows at all angles.
        unturned: Rows at no angle, from other samples each time.

    Returns:
        A frame with method; mean, least and most of the certified area; its spread over the
        angles, and over samples alone; that of the exact area over the angles; and gap, the
        largest share of an exact area that the certified one lacks.
    """
    found = []
    for name, rows in table.groupby("method", sort=False):
        certified, exact = rows[list(AREAS)].to_numpy(dtype=float).T
        alone = unturned.loc[unturned["method"] == name, "certified_area"].to_numpy(dtype=float)
        found.append(
            {
                "method": name,
                "mean": certified.mean(),
                "least": certified.min(),
                "most": certified.max(),
                "angles": spread(certified),
                "samples": spread(alone),
                "exact": spread(exact),
                "gap": float((1 - certified / exact).max()),
            }
        )
    return pd.DataFrame(found)


def spreads_text(found: pd.DataFrame) -> str:
    """`spreads` as text."""
    sizes, shares = ("mean", "least", "most"), ("angles", "samples", "exact", "gap")
    header = (
        *("method", "mean area", "least", "most", "spread over angles", "over samples alone"),
        *("of exact area", "largest gap"),
    )
    body = [
        (
            label(one["method"]),
            *(f"{floor_to(one[name], 5):.5f}" for name in sizes),
            *(f"{100 * one[name]:.1f} %" for name in shares),
        )
        for one in found.to_dict("records")
    ]
    return f"certified areas; spread: (most - least) / mean\n{aligned([header, *body])}"


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


def turned_text(plain: pd.DataFrame, turned: pd.DataFrame) -> str:
    """By how much exact areas change where the samples are turned with data and network.

    Args:
        plain: Rows at no angle.
        turned: Rows of the same methods at another angle, from the same samples turned.
    """
    before = plain.set_index("method")["exact_area"]
    ratio = turned.set_index("method")["exact_area"] / before
    changes = [f"{label(str(name))} {100 * (ratio[name] - 1):+.3f} %" for name in before.index]
    angle = turned["angle"].iloc[0]
    return f"exact areas at {angle:g} degrees against 0, samples turned as well: " + ", ".join(
        changes
    )

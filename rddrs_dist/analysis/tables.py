"""Tables at chosen radii; what they print is floored, so no number promises too much."""

import math
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import pandas as pd

from rddrs_dist.analysis.curves import certified_accuracy
from rddrs_dist.analysis.lines import Line, available
from rddrs_dist.analysis.sizes import SIZES

_WHOLE = 2.0**53  # from here on floats have no digits behind the point
_FACTS = ("images", "abstentions", "nonfinite", "with_others_inside", "sighted", "not_sighted")
_SECONDS = ("fit_seconds", "certify_seconds")
_HEADINGS = {
    "abstentions": "abstained",
    "with_others_inside": "others inside",
    "sighted": "sighted %",
    "not_sighted": "not sighted",
    "fit_seconds": "fit s",
    "certify_seconds": "certify s",
}


def summary(lines: Sequence[Line], sizes: Sequence[str] = ()) -> pd.DataFrame:
    """Summarises lines, by default in the sizes shown by default: one row each, full precision.

    Returns:
        A frame with columns sigma, method, images, abstentions, nonfinite and with_others_inside
        (counts; the last of images whose region holds training images of another label),
        max_blindness (what a region may have to count), sighted (the share of regions that count),
        not_sighted (right predictions whose regions do not), for each size `<size>_acr`,
        `<size>_median` and `<size>@<radius>` (fractions), and the medians fit_seconds and
        certify_seconds per image; NaN where something is not known.

    Raises:
        ValueError: If there is no such size.
    """
    names, rows = tuple(sizes) or available(lines), []
    for line in lines:
        # Fits that blew up: their regions may be larger than any image space, and decide the ACR.
        ended = line.rows["fit_status"].tolist()
        known = all(isinstance(one, str) for one in ended)
        inside = line.column("others_inside")
        row: dict[str, float | str] = {
            "sigma": line.sigma,
            "method": line.method,
            "images": len(line),
            "abstentions": int(line.abstained.sum()),
            "nonfinite": ended.count("nonfinite") if known else math.nan,
            "with_others_inside": math.nan if np.isnan(inside).any() else int(np.sum(inside > 0)),
        } | sight(line)
        for size in names:
            radii, own = np.asarray(SIZES[size].radii), line.certified(size)
            reached = (
                np.full(len(radii), np.nan) if own is None else certified_accuracy(own, radii)
            )
            row |= {f"{size}_acr": line.average(size), f"{size}_median": line.median(size)}
            row |= zip((f"{size}@{radius:g}" for radius in radii), reached, strict=True)
        rows.append(row | {name: float(np.median(line.column(name))) for name in _SECONDS})
    return pd.DataFrame(rows)


def sight(line: Line) -> dict[str, float]:
    """How many regions of a line count; NaN where sight was not measured."""
    if not line.knows_sight:
        return dict.fromkeys(("max_blindness", "sighted", "not_sighted"), math.nan)
    regions = line.is_sighted[~line.abstained]
    return {
        "max_blindness": line.sighted,
        "sighted": float(regions.mean()) if len(regions) else math.nan,
        "not_sighted": int((line.right & ~line.is_sighted).sum()),
    }


def floor_to(value: float, digits: int) -> float:
    """Rounds down to a number of digits behind the point, and never up.

    Returns:
        The largest number of that many digits that is at most `value`, as its shortest
        decimal form shows it: 1.9057 gives 1.90 and 0.29 gives 0.29. Infinities and NaN stay.
    """
    value = float(value)
    if not math.isfinite(value) or abs(value) >= _WHOLE:
        return value
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def floored(value: float, digits: int = 3) -> str:
    """Prints a number rounded down, or - where it is not known."""
    return "-" if math.isnan(value) else f"{floor_to(value, digits):.{digits}f}"


def percent(share: float) -> str:
    """Prints a share in percent, floored as a fraction, since 100 * 0.29 is below 29."""
    return "-" if math.isnan(share) else f"{100 * floor_to(share, 3):.1f}"


def cell(name: str, value: float | str) -> str:
    """Prints a value of a summary with the digits of its column, floored."""
    if isinstance(value, str):
        return value
    if "@" in name or name == "sighted":
        return percent(value)
    if name in _FACTS:
        return floored(value, 0)
    return f"{value:g}" if name == "sigma" else floored(value)


def heading(name: str) -> str:
    """Shortens a column's name of a summary for print."""
    if "@" in name:
        return "@" + name.split("@")[1]
    if name.endswith(("_acr", "_median")):
        return "ACR" if name.endswith("_acr") else "median"
    return _HEADINGS.get(name, name)


def to_text(table: pd.DataFrame) -> str:
    """Renders a summary as aligned text for a terminal, one block per size."""
    blocks = [f"{title}\n{aligned(rows)}" for title, rows in _blocks(table)]
    return "\n\n".join(blocks) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Puts cells into columns, to the right of each."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, cells, widths)) for cells in rows)


def to_markdown(table: pd.DataFrame) -> str:
    """Renders a summary as Markdown tables, one per size."""
    blocks = [f"**{title}**\n\n{markdown(rows)}" for title, rows in _blocks(table)]
    return "\n\n".join(blocks) + "\n"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of rows of texts, the header first."""
    whole = [rows[0], ["---:"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in whole)


def _blocks(table: pd.DataFrame) -> list[tuple[str, list[list[str]]]]:
    """Splits a summary into one (title, lines of texts, header first) per size."""
    blocks = []
    for size in SIZES.values():
        at = [name for name in table.columns if name.startswith(f"{size.name}@")]
        if at:
            means = [f"{size.name}_acr", f"{size.name}_median"]
            names = ["sigma", "method", *_FACTS, *means, *at, *_SECONDS]
            body = [[cell(name, row[name]) for name in names] for row in table.to_dict("records")]
            title = f"{size.title}: certified accuracy in %, floored"
            blocks.append((title, [[heading(name) for name in names], *body]))
    return blocks

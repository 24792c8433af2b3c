"""Tables at chosen radii; what they print is floored, so no number promises too much."""

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import pandas as pd

from rddrs_dist.analysis.curves import certified_accuracy, lines, select
from rddrs_dist.analysis.sizes import (
    METRICS,
    available,
    average_certified_radius,
    certified,
    silent,
)
from rddrs_dist.results.columns import ABSTAIN

RADII: dict[str, tuple[float, ...]] = {
    "proxy": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0),
    "capped": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0),
    "l2": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5),
    "sound": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0),
    "simultaneous": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0),
}
TITLES = {
    "proxy": "Proxy radius",
    "capped": "Capped proxy radius",
    "l2": "l2 radius",
    "sound": "Sound proxy radius",
    "simultaneous": "Proxy radius, all images at once",
}
_WHOLE = 2.0**53  # from here on floats have no digits behind the point
_COUNTS = ("images", "abstentions", "nonfinite", "swallowing")
_KEYS = ("sigma", "method", *_COUNTS)
_SECONDS = ("fit_seconds", "certify_seconds")


def summary(
    frame: pd.DataFrame, radii: Mapping[str, Sequence[float]] | None = None
) -> pd.DataFrame:
    """Summarises a run: one row per sigma and method, at full precision.

    Args:
        frame: Rows as `read` or `read_many` returns them.
        radii: For each metric, the radii at which certified accuracy is wanted; by default `RADII`
            for all that the rows have.

    Returns:
        A frame with columns sigma, method, images, abstentions, nonfinite and swallowing (counts;
        the last of images whose region holds training images with another label; NaN where that
        is not known, as are all numbers that an imported log does not give), for each metric
        `<metric>_acr` and `<metric>@<radius>` (fractions), capped_acr (that of the proxy radius
        with semi-axes cut at the domain's diameter), and the medians fit_seconds and
        certify_seconds per image.

    Raises:
        ValueError: If a metric is not known or a radius is negative.
    """
    wanted = {name: RADII[name] for name in available(frame)} if radii is None else radii
    return pd.DataFrame(
        [
            {"sigma": sigma, "method": method}
            | _line(select(frame, method=method, sigma=sigma), wanted)
            for sigma, method in lines(frame)
        ]
    )


def floor_to(value: float, digits: int) -> float:
    """Rounds down to a number of decimal digits, and never up.

    Args:
        value: Any float; infinities and NaN are returned as they are.
        digits: Digits behind the point, 0 or more.

    Returns:
        The largest number of that many digits that is at most `value`, as its shortest
        decimal form shows it: 1.9057 gives 1.90 and 0.29 gives 0.29.
    """
    value = float(value)
    if not math.isfinite(value) or abs(value) >= _WHOLE:
        return value
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR))


def to_text(table: pd.DataFrame) -> str:
    """Renders a summary as aligned text for a terminal, one block per metric."""
    blocks = []
    for title, header, body in _blocks(table):
        blocks.append(title + "\n" + aligned([header, *body]))
    return "\n\n".join(blocks) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Puts cells into columns, to the right of each."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, cells, widths)) for cells in rows)


def to_markdown(table: pd.DataFrame) -> str:
    """Renders a summary as Markdown tables, one per metric."""
    blocks = []
    for title, header, body in _blocks(table):
        printed = map(_markdown_line, [header, ["---:"] * len(header), *body])
        blocks.append("\n".join([f"**{title}**", "", *printed]))
    return "\n\n".join(blocks) + "\n"


def _line(rows: pd.DataFrame, radii: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Summarises the rows of one sigma and method."""
    line: dict[str, float] = {
        "images": len(rows),
        "abstentions": int(np.sum(rows["prediction"].to_numpy() == ABSTAIN)),
    }
    # Fits that blew up: their regions may be larger than any image space, and decide the ACR.
    ended = rows["fit_status"].tolist()
    known = all(isinstance(one, str) for one in ended)
    line["nonfinite"] = ended.count("nonfinite") if known else math.nan
    inside = rows["others_inside"].to_numpy(np.float64)
    line["swallowing"] = math.nan if np.isnan(inside).any() else int(np.sum(inside > 0))
    capped = rows["capped_proxy_radius"].to_numpy(np.float64)
    right = rows["correct"].to_numpy(bool)
    unknown = np.isnan(capped).any()  # also where nothing is right, as 0 would be a claim
    line["capped_acr"] = math.nan if unknown else float(np.where(right, capped, 0.0).mean())
    for metric, wanted in radii.items():
        line |= _sizes(rows, metric, wanted)
    return line | {name: float(np.median(rows[name].to_numpy())) for name in _SECONDS}


def _sizes(rows: pd.DataFrame, metric: str, radii: Sequence[float]) -> dict[str, float]:
    """Mean size and certified accuracies of one line, NaN for a log that lacks the metric."""
    names = [f"{metric}_acr", *(f"{metric}@{radius:g}" for radius in radii)]
    if silent(rows, metric):
        return dict.fromkeys(names, math.nan)
    reached = certified_accuracy(certified(rows, metric), np.asarray(radii))
    return dict(zip(names, [average_certified_radius(rows, metric), *reached], strict=True))


def _blocks(table: pd.DataFrame) -> list[tuple[str, list[str], list[list[str]]]]:
    """Splits a summary into one (title, header, lines) of texts per metric."""
    blocks = []
    for metric in METRICS:
        sizes = [
            name for name in table.columns if name.startswith((f"{metric}@", f"{metric}_acr"))
        ]
        if any("@" in name for name in sizes):  # summaries have capped_acr without its radii too
            capped = ["capped_acr"] if metric == "proxy" else []
            names = [*_KEYS, *sizes, *capped, *_SECONDS]
            header = [_heading(name) for name in names]
            body = [[_cell(name, row[name]) for name in names] for row in table.to_dict("records")]
            title = f"{TITLES.get(metric, metric)}: certified accuracy in %, floored"
            blocks.append((title, header, body))
    return blocks


def _heading(name: str) -> str:
    """Shortens a column's name for print."""
    if "@" in name:
        return "@" + name.split("@")[1]
    short = {"abstentions": "abstained", "fit_seconds": "fit s", "certify_seconds": "certify s"}
    if name == "capped_acr":
        return "capped ACR"
    return "ACR" if name.endswith("_acr") else short.get(name, name)


def _cell(name: str, value: float | str) -> str:
    """Prints a value with the digits of its column, floored."""
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    if "@" in name:  # floored as a fraction, since 100 * 0.29 is below 29
        return f"{100 * floor_to(value, 3):.1f}"
    if name in _COUNTS:
        return str(int(value))
    return f"{value:g}" if name == "sigma" else f"{floor_to(value, 3):.3f}"


def _markdown_line(cells: Sequence[str]) -> str:
    """Joins cells into one line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"

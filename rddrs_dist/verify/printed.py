"""Printed tables: no number in them is above what the rows give, nor a whole last digit below."""

import csv
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

from scipy.stats import beta, norm

from rddrs_dist.verify.certificates import ABSTAIN
from rddrs_dist.verify.findings import Fault, Finding, Outcome, Row, Severity, located, odd, wrong
from rddrs_dist.verify.folder import Config

# Sums in another order differ by less than this share.
_ORDER = 1e-12
# Bounds for all images at once are computed anew in float64, and may differ by more.
_COMPUTED = 1e-9
_TITLES = {
    "Proxy radius": "proxy",
    "Capped proxy radius": "capped",
    "l2 radius": "l2",
    "Sound proxy radius": "sound",
    "Proxy radius, all images at once": "simultaneous",
}
_HEADINGS = {
    "abstained": "abstentions",
    "capped ACR": "capped_acr",
    "fit s": "fit_seconds",
    "certify s": "certify_seconds",
}
_SIZES = {
    "proxy": "proxy_radius",
    "l2": "l2_radius",
    "capped": "capped_proxy_radius",
    "sound": "sound_proxy_radius",
    "simultaneous": "simultaneous_proxy_radius",
}
_AT = re.compile(rf"({'|'.join(_SIZES)})@([0-9.e+-]+)")


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        where: File and line, in words.
        cells: Printed text by the column's name in a CSV file.
        percent: Whether certified accuracy is printed in percent.
    """

    where: str
    cells: Mapping[str, str]
    percent: bool


def with_sizes(rows: Sequence[Row], sound: Mapping[tuple[str, int], Row], looks: int) -> list[Row]:
    """Rows with the sizes that tables have and rows have not.

    Args:
        rows: All rows of the run.
        sound: Rows of its soundness pass by method and image; those without one get no size.
        looks: Looks of a certificate.
    """
    images = Counter(row["method"] for row in rows)
    found: list[Row] = []
    for row in rows:
        made = sound.get((row["method"], row["index"]), {}).get("sound_proxy_radius", math.nan)
        known = {"sound_proxy_radius": made} if math.isfinite(made) else {}
        for_all = _simultaneous(row, looks * images[row["method"]])
        found.append({**row, **known, "simultaneous_proxy_radius": for_all})
    return found


def _simultaneous(row: Row, shares: int) -> float:
    """The proxy radius at a share of alpha; an abstention stays one, a limit one too."""
    if not row["radius"] > 0:
        return 0.0
    p_lower = beta.ppf(row["alpha"] / shares, row["count"], row["n"] - row["count"] + 1)
    limit = math.inf if row["radius_limit"] is None else row["radius_limit"]
    return min(max(float(norm.ppf(p_lower)), 0.0), limit) * row["mean_axis"]


def check_table(path: Path, rows: Sequence[Row], config: Config) -> Outcome:
    """Recomputes every number of a table that `rddrs curves` wrote.

    Args:
        path: A table.csv or table.md.
        rows: All rows of the run, see `with_sizes`.
        config: Its configuration.

    Raises:
        ValueError: If the file is no such table.
    """
    lines = list(_csv_lines(path) if path.suffix == ".csv" else _markdown_lines(path))
    if not lines:
        raise ValueError(
            f"{path} must be a table.csv or table.md that `rddrs curves` wrote, got no line of "
            "one; pass another file"
        )
    findings: list[Finding] = []
    for one in lines:
        findings += located("table", one.where, _line_faults(one, rows, config))
    return Outcome("table", f"{sum(len(one.cells) for one in lines)} cells", tuple(findings))


def _csv_lines(path: Path) -> Iterator[Line]:
    """Lines of a CSV file."""
    with path.open(newline="") as file:
        for cells in csv.DictReader(file):
            if {"sigma", "method"} <= cells.keys():
                yield Line(f"{path.name}, {cells['method']}", cells, percent=False)


def _markdown_lines(path: Path) -> Iterator[Line]:
    """Lines of the Markdown tables of a file, under their titles."""
    metric, header = None, None
    for text in path.read_text().splitlines():
        if text.startswith("**"):
            title, header = text.strip("*").split(":")[0], None
            metric = _TITLES.get(title, title)
        cells = [cell.strip() for cell in text.strip().strip("|").split("|")]
        if metric is None or not text.startswith("|") or set(text) <= set("|-: "):
            continue
        if header is None:
            header = [_name(cell, metric) for cell in cells]
        else:
            named = dict(zip_longest(header, cells[: len(header)], fillvalue=""))
            if {"sigma", "method"} <= named.keys():
                yield Line(f"{path.name}, {metric}, {named['method']}", named, percent=True)


def _name(heading: str, metric: str) -> str:
    """A heading's column in a CSV file."""
    if heading.startswith("@"):
        return metric + heading
    return f"{metric}_acr" if heading == "ACR" else _HEADINGS.get(heading, heading)


def _line_faults(one: Line, rows: Sequence[Row], config: Config) -> Iterator[Fault]:
    """What is wrong in one line."""
    cells = dict(one.cells)
    sigma, method = cells.pop("sigma"), cells.pop("method")
    if sigma not in (repr(config.sigma), f"{config.sigma:g}") or method not in config.methods:
        yield odd("lines of this run alone", f"sigma {sigma}, {method}, which is not checked")
        return
    own = [row for row in rows if row["method"] == method]
    if not own:
        yield wrong(f"rows of {method} behind the line", "none")
        return
    values = {name: _value(name, own) for name in cells}
    for name, value in values.items():
        if value is not None:
            yield from _cell_faults(name, cells[name], value, one.percent)
    if unknown := ", ".join(name for name, value in values.items() if value is None):
        yield Fault(Severity.NOTE, "columns that are known here", f"{unknown}: not checked")


def _cell_faults(name: str, text: str, value: Fraction | float, percent: bool) -> Iterator[Fault]:
    """Holds one printed number against the exact one."""
    if isinstance(value, float):  # NaN or infinite
        if text not in (("", "nan", "-") if math.isnan(value) else (str(value),)):
            yield wrong(f"{name} {value}", text)
        return
    try:
        printed, step = Fraction(text or ""), _last_digit(text)
    except (ValueError, ZeroDivisionError):
        yield wrong(f"{name} as a number", text or "nothing")
        return
    exact = value * 100 if percent and "@" in name else value
    slack = abs(exact) * Fraction(_COMPUTED if name.startswith("simultaneous") else _ORDER)
    if printed > exact + slack:
        yield wrong(f"{name} of at most {float(exact)!r}", text)
    elif printed + step < exact - slack:
        yield wrong(f"{name} {float(exact)!r}, rounded down", text)


def _last_digit(text: str) -> Fraction:
    """What one unit of the last printed digit is worth; nothing for whole numbers."""
    digits, _, power = text.lower().partition("e")
    behind = digits.partition(".")[2]
    return Fraction(10) ** (int(power or 0) - len(behind)) if behind else Fraction(0)


def _value(name: str, rows: Sequence[Row]) -> Fraction | float | None:
    """The exact value of a column over the rows of one method; None where it is not known."""
    counts = {
        "images": lambda row: True,
        "abstentions": lambda row: row["prediction"] == ABSTAIN,
        "nonfinite": lambda row: row["fit_status"] == "nonfinite",
    }
    if name in counts:
        return Fraction(sum(map(counts[name], rows)))
    if name == "swallowing":
        inside = [row["others_inside"] for row in rows]
        return math.nan if None in inside else Fraction(sum(k > 0 for k in inside))
    if name in ("fit_seconds", "certify_seconds"):
        return Fraction(statistics.median(row[name] for row in rows))
    if name.endswith("_acr") and name.removesuffix("_acr") in _SIZES:
        size = _SIZES[name.removesuffix("_acr")]
        if not all(size in row for row in rows):
            return None
        return sum((Fraction(row[size]) for row in rows if _right(row)), Fraction()) / len(rows)
    if (match := _AT.fullmatch(name)) and all(_SIZES[match[1]] in row for row in rows):
        radius = float(match[2])
        reached = [row for row in rows if _right(row) and row[_SIZES[match[1]]] >= radius]
        return Fraction(len(reached), len(rows))
    return None


def _right(row: Row) -> bool:
    """Whether a row counts as certified at radius 0."""
    return row["prediction"] == row["label"] and row["prediction"] != ABSTAIN

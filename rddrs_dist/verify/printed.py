"""Printed tables: no number in them is above what the rows give, nor a whole last digit below."""

import csv
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

from scipy.stats import beta, norm

from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.verify.findings import Checked, Finding, Missing, Row, Severity, at, odd, wrong
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.scales import key_of

# Sums in another order differ by less than this share.
_ORDER = 1e-12
# Bounds for all images at once are computed anew in float64, and may differ by more.
_COMPUTED = 1e-9
_HEADINGS = {
    "abstained": "abstentions",
    "others inside": "with_others_inside",
    "capped ACR": "capped_acr",
    "fit s": "fit_seconds",
    "certify s": "certify_seconds",
}
_COUNTED = {
    "images": lambda row: True,
    "abstentions": lambda row: row["prediction"] == ABSTAIN,
    "nonfinite": lambda row: row["fit_status"] == "nonfinite",
    "with_others_inside": lambda row: row["others_inside"] > 0,
}
_OF_A_SIZE = re.compile(rf"({'|'.join(SIZES)})(_acr|@([0-9.e+-]+))")
# Place of a line of a table, and its texts by the name of their column in a CSV file.
_Line = tuple[str, Mapping[str, str]]


def check_table(case: Case, path: Path) -> Checked:
    """Recomputes every number of a table.csv or table.md that `rddrs curves` wrote.

    Raises:
        ValueError: If the file is no such table.
        Missing: If rows hold no numbers.
    """
    in_percent = path.suffix != ".csv"
    lines = [one for one in _lines(path) if {"sigma", "method"} <= one[1].keys()]
    if not lines:
        raise ValueError(
            f"{path} must be a table.csv or table.md that `rddrs curves` wrote, got no line of "
            "one; pass another file"
        )
    if len(case.rows) < sum(len(part.rows) for part in case.parts.values()):
        raise Missing(f"{path}: some rows hold no numbers to compute it from")
    rows = list(_with_sizes(case))
    findings = [
        one
        for where, cells in lines
        for one in at(where, _line_findings(case, rows, cells, in_percent))
    ]
    return f"{sum(len(cells) for _, cells in lines)} cells", findings


def _with_sizes(case: Case) -> Iterator[Row]:
    """Rows with the sizes that tables have and rows have not, as far as they are known."""
    images = Counter(row["method"] for row in case.rows)
    for row in case.rows:
        made = case.disjoint.get(key_of(row), {}).get("disjoint_proxy_radius", math.nan)
        known = {"disjoint_proxy_radius": made} if math.isfinite(made) else {}
        for_all = _simultaneous(row, case.tests * images[row["method"]])
        yield {**row, **known, "simultaneous_proxy_radius": for_all}


def _simultaneous(row: Row, shares: int) -> float:
    """The proxy radius at a share of alpha; an abstention stays one, a limit one too."""
    if not row["radius"] > 0:
        return 0.0
    p_lower = beta.ppf(row["alpha"] / shares, row["count"], row["n"] - row["count"] + 1)
    limit = math.inf if row["radius_limit"] is None else row["radius_limit"]
    return min(max(float(norm.ppf(p_lower)), 0.0), limit) * row["mean_axis"]


def _lines(path: Path) -> Iterator[_Line]:
    """Lines of a CSV file, or of the Markdown tables of a file, under their titles."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            yield from ((f"{path.name}, {one.get('method')}", one) for one in csv.DictReader(file))
        return
    names = {size.title: size.name for size in SIZES.values()}
    for block in re.split(r"^\*\*", path.read_text(), flags=re.MULTILINE)[1:]:
        title = block.split(":")[0]
        size = names.get(title, title)
        lines = [line for line in block.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
        header = [_column(cell, size) for cell in cells[0]] if cells else []
        for own in cells[2:]:
            named = dict(zip_longest(header, own[: len(header)], fillvalue=""))
            yield f"{path.name}, {size}, {named.get('method')}", named


def _column(heading: str, size: str) -> str:
    """A heading's column in a CSV file."""
    if heading.startswith("@"):
        return size + heading
    return f"{size}_acr" if heading == "ACR" else _HEADINGS.get(heading, heading)


def _line_findings(
    case: Case, rows: Sequence[Row], named: Mapping[str, str], in_percent: bool
) -> Iterator[Finding]:
    """What is wrong in one line."""
    cells, run = dict(named), case.run
    sigma, method = cells.pop("sigma"), cells.pop("method")
    if sigma not in (repr(run.sigma), f"{run.sigma:g}") or method not in {
        one.name for one in run.methods
    }:
        yield odd("lines of this run alone", f"sigma {sigma}, {method}, which is not checked")
        return
    own = [row for row in rows if row["method"] == method]
    if not own:
        yield wrong(f"rows of {method} behind the line", "none")
        return
    values = {name: _value(name, own) for name in cells}
    for name, value in values.items():
        if value is not None:
            percent = 100 if in_percent and "@" in name else 1
            yield from _cell_findings(name, cells[name], value * percent)
    if unknown := ", ".join(name for name, value in values.items() if value is None):
        found = f"{unknown}: not checked"
        yield Finding(Severity.NOTE, "columns that are known here", found)


def _cell_findings(name: str, text: str, value: Fraction | float) -> Iterator[Finding]:
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
    slack = abs(value) * Fraction(_COMPUTED if name.startswith("simultaneous") else _ORDER)
    if printed > value + slack:
        yield wrong(f"{name} of at most {float(value)!r}", text)
    elif printed + step < value - slack:
        yield wrong(f"{name} {float(value)!r}, rounded down", text)


def _last_digit(text: str) -> Fraction:
    """What one unit of the last printed digit is worth; nothing for whole numbers."""
    digits, _, power = text.lower().partition("e")
    behind = digits.partition(".")[2]
    return Fraction(10) ** (int(power or 0) - len(behind)) if behind else Fraction(0)


def _value(name: str, rows: Sequence[Row]) -> Fraction | float | None:
    """The exact value of a column over the rows of one method; None where it is not known."""
    if name == "with_others_inside" and any(row["others_inside"] is None for row in rows):
        return math.nan
    if name in _COUNTED:
        return Fraction(sum(map(_COUNTED[name], rows)))
    if name in ("fit_seconds", "certify_seconds"):
        return Fraction(statistics.median(row[name] for row in rows))
    match = _OF_A_SIZE.fullmatch(name)
    if match is None or not all(SIZES[match[1]].column in row for row in rows):
        return None
    right = (row for row in rows if row["prediction"] == row["label"])
    sizes = [row[SIZES[match[1]].column] for row in right]
    if match[2] == "_acr":
        return sum(map(Fraction, sizes), Fraction()) / len(rows)
    return Fraction(sum(size >= float(match[3]) for size in sizes), len(rows))

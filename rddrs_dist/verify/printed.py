"""Printed tables: no number in them is above what the rows give, nor a whole last digit below."""

import csv
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import scipy  # its stats at their first use: they take a second to load

from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.verify.findings import Checked, Claim, Missing, Row, Severity, at, key_of
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.sight import SIGHTED

# Sums in another order differ by less than this share.
_ORDER = 1e-12
# Bounds for all images at once are computed anew in float64, and may differ by more.
_COMPUTED = 1e-9
_HEADINGS = {
    "abstained": "abstentions",
    "others inside": "with_others_inside",
    "ACR": "_acr",  # of the size that the title names
    "median": "_median",  # likewise
    "sighted %": "sighted",
    "not sighted": "not_sighted",
    "fit s": "fit_seconds",
    "certify s": "certify_seconds",
}
_COUNTED = {
    "images": lambda row: True,
    "abstentions": lambda row: row["prediction"] == ABSTAIN,
    "nonfinite": lambda row: row["fit_status"] == "nonfinite",
    "with_others_inside": lambda row: row["others_inside"] > 0,
}
# What a Markdown table says of the bound of blindness up to which regions count.
_BOUND = re.compile(r"blindness at most ([0-9.e+-]+) \(upper")
_ALL = "All rows count, sighted or not"
_OF_A_SIZE = re.compile(rf"({'|'.join(SIZES)})(_acr|_median|@([0-9.e+-]+))")


def check_table(case: Case, path: Path) -> Checked:
    """Recomputes every number of a table.csv or table.md that `rddrs curves` wrote."""
    lines = [one for one in _lines(path) if {"sigma", "method"} <= one[1].keys()]
    if not lines:
        raise ValueError(
            f"{path} must be a table.csv or table.md that `rddrs curves` wrote, got no line of "
            "one; pass another file"
        )
    if len(case.rows) < sum(len(part.rows) for part in case.parts.values()):
        raise Missing(f"{path}: some rows hold no numbers to compute it from")
    percent = 1 if path.suffix == ".csv" else 100
    rows, findings = _with_sizes(case), []
    for where, cells in lines:
        findings += at(where, _line_claims(case, rows, cells, percent))
    return f"{sum(len(cells) for _, cells in lines)} cells", findings


def _with_sizes(case: Case) -> list[Row]:
    """Rows with the sizes that tables have and rows have not, as far as they are known."""
    images = Counter(row["method"] for row in case.rows)
    rows = []
    for row in case.rows:
        made = case.disjoint.get(key_of(row), {}).get("disjoint_proxy_radius", math.nan)
        known = {"disjoint_proxy_radius": made} if math.isfinite(made) else {}
        radius = 0.0  # at a share of alpha: an abstention stays one, a limit one too
        if row["radius"] > 0:
            share = row["alpha"] / case.run.budget.sequential_tests / images[row["method"]]
            p_lower = scipy.stats.beta.ppf(share, row["count"], row["n"] - row["count"] + 1)
            limit = math.inf if row["radius_limit"] is None else row["radius_limit"]
            radius = min(max(float(scipy.stats.norm.ppf(p_lower)), 0.0), limit)
        rows.append({**row, **known, "simultaneous_proxy_radius": radius * row["mean_axis"]})
    return rows


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The place of each line of a CSV file, or of Markdown tables, and its texts by column."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            yield from ((f"{path.name}, {one.get('method')}", one) for one in csv.DictReader(file))
        return
    names, text = {size.title: size.name for size in SIZES.values()}, path.read_text()
    bound = _BOUND.search(text)
    most = "1" if _ALL in text else bound[1] if bound else ""
    for block in re.split(r"^\*\*", text, flags=re.MULTILINE)[1:]:
        title = block.split(":")[0]
        size = names.get(title, title)
        lines = [line.strip("| ").split("|") for line in block.splitlines() if line[:1] == "|"]
        cells = [[cell.strip() for cell in line] for line in lines] or [[]]
        columns = [_HEADINGS.get(one, one) for one in cells[0]]
        columns = [
            size + one if one.startswith(("@", "_acr", "_median")) else one for one in columns
        ]
        for own in cells[2:]:
            named = dict(zip_longest(columns, own[: len(columns)], fillvalue=""))
            named["max_blindness"] = most
            yield f"{path.name}, {size}, {named.get('method')}", named


def _line_claims(
    case: Case, rows: Sequence[Row], named: Mapping[str, str], percent: int
) -> Iterator[Claim]:
    """What one line claims; accuracies are printed times `percent`."""
    cells, run = dict(named), case.run
    sigma, method = cells.pop("sigma"), cells.pop("method")
    known = sigma in (repr(run.sigma), f"{run.sigma:g}")
    if not known or method not in {one.name for one in run.methods}:
        other = f"sigma {sigma}, {method}, which is not checked"
        yield False, "lines of this run alone", other, Severity.WARNING
        return
    own = [row for row in rows if row["method"] == method]
    yield own, f"rows of {method} behind the line", "none"
    values = {}
    if own:
        most = _most_blind(own, cells.pop("max_blindness", ""))
        values = {name: _value(name, own, most) for name in cells}
    for name, value in values.items():
        if value is not None:
            share = "@" in name or name == "sighted"
            yield from _cell_claims(name, cells[name], value * (percent if share else 1))
    unknown = ", ".join(name for name, value in values.items() if value is None)
    yield not unknown, "columns that are known here", f"{unknown}: not checked", Severity.NOTE


def _cell_claims(name: str, text: str, value: Fraction | float) -> Iterator[Claim]:
    """A printed number is the exact one, rounded down."""
    if isinstance(value, float):  # NaN or infinite
        known = ("", "nan", "-") if math.isnan(value) else (str(value),)
        yield text in known, f"{name} {value}", text
        return
    try:
        printed = Fraction(Decimal(text or ""))
    except (ValueError, ArithmeticError):
        yield False, f"{name} as a number", text or "nothing"
        return
    # What one unit of the last printed digit is worth; nothing for whole numbers.
    step = Fraction(10) ** int(Decimal(text).as_tuple().exponent) if "." in text else 0
    slack = abs(value) * Fraction(_COMPUTED if name.startswith("simultaneous") else _ORDER)
    yield printed <= value + slack, f"{name} of at most {float(value)!r}", text
    yield printed + step >= value - slack, f"{name} {float(value)!r}, rounded down", text


def _most_blind(rows: Sequence[Row], printed: str) -> float:
    """The bound of blindness up to which regions count, infinite where none is known.

    It is what a table says, or else the usual one.
    """
    regions = [row for row in rows if row["prediction"] != ABSTAIN]
    if regions and all(row["blindness_upper"] is None for row in regions):
        return math.inf
    return float(printed or SIGHTED)


def _is_sighted(row: Row, most: float) -> bool:
    """Whether the region of a row counts."""
    upper = row["blindness_upper"]
    return most >= 1 or (upper is not None and upper <= most)


def _value(name: str, rows: Sequence[Row], most: float) -> Fraction | float | None:
    """The exact value of a column over the rows of one method; None where it is not known.

    Regions count up to a bound of their blindness.
    """
    right = [row for row in rows if row["prediction"] == row["label"]]
    if name in ("sighted", "not_sighted") and most == math.inf:
        return math.nan
    if name == "not_sighted":
        return Fraction(sum(not _is_sighted(row, most) for row in right))
    if name == "sighted":
        regions = [row for row in rows if row["prediction"] != ABSTAIN]
        count = sum(_is_sighted(row, most) for row in regions)
        return Fraction(count, len(regions)) if regions else math.nan
    if name == "with_others_inside" and any(row["others_inside"] is None for row in rows):
        return math.nan
    if name in _COUNTED:
        return Fraction(sum(map(_COUNTED[name], rows)))
    if name in ("fit_seconds", "certify_seconds"):
        return Fraction(statistics.median(row[name] for row in rows))
    match = _OF_A_SIZE.fullmatch(name)
    if match is None or not all(SIZES[match[1]].column in row for row in rows):
        return None
    column = SIZES[match[1]].column
    if any(row[column] is None for row in rows):
        return math.nan
    sizes = [row[column] for row in right if _is_sighted(row, most)]
    if match[2] == "_median":
        others = [0.0] * (len(rows) - len(sizes))
        return Fraction(statistics.median(map(Fraction, sizes + others)))
    if match[2] == "_acr":
        return sum(map(Fraction, sizes), Fraction()) / len(rows)
    return Fraction(sum(size >= float(match[3]) for size in sizes), len(rows))

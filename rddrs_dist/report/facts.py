"""What a report tells in tables: provenance, radii, cost, endings."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rddrs_dist.analysis import tables
from rddrs_dist.analysis.curves import lines, select
from rddrs_dist.analysis.logs.marks import marks, printed
from rddrs_dist.analysis.sizes import available
from rddrs_dist.analysis.status import progress
from rddrs_dist.analysis.styles import label
from rddrs_dist.report.charts import is_log_line
from rddrs_dist.results.columns import ABSTAIN

_NUMBER = re.compile(r"[-\d.,:e+]+|–|inf|nan")
_RADII_NOTE = (
    "ACR: average certified radius, 0 where wrong or abstained. @R: % of the images certified at "
    "radius R. Floored, never rounded; ★ largest of its column among the methods shown (logs of "
    "rounded radii have none)."
)


@dataclass(frozen=True)
class Cell:
    """A printed value.

    Attributes:
        text: What is printed.
        best: Whether it is the best of its column.
        value: What competes for that, before flooring; None where nothing does.
    """

    text: str
    best: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        title: What stands above it.
        header: Names of the columns.
        rows: Cells of each line; the first names it.
        note: What stands below it.
        metric: Name in `metrics.METRICS` that it is about; shown while that one is chosen.
        methods: Method of each line, where lines belong to methods.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    metric: str | None = None
    methods: Sequence[str] = field(default=())

    @property
    def words(self) -> list[bool]:
        """Whether each column holds words, which start at the left, and not numbers."""
        columns = zip(*self.rows, strict=True)
        return [not all(_NUMBER.fullmatch(cell.text) for cell in own) for own in columns]


def provenance(
    frame: pd.DataFrame, calls: pd.DataFrame
) -> list[tuple[str, list[tuple[str, str]]]]:
    """How each run was made: configuration, hashes, time and machines.

    Args:
        frame: Rows as `read_many` returns them.
        calls: Those of `attempts.events`.

    Returns:
        (folder, (name, value)s).
    """
    found = []
    for folder, attrs in frame.attrs["runs"].items():
        config: Mapping[str, Any] = attrs["config"]
        settings = config.get("settings") or {}
        plain = {name: value for name, value in config.items() if name != "settings"}
        facts = {"run_id": attrs["run_id"], "complete": attrs["complete"]}
        facts |= _making(Path(folder), calls.loc[calls["run"] == folder]) | plain
        facts |= attrs["metadata"]
        facts |= {
            f"{method}.{name}": value
            for method, own in settings.items()
            for name, value in own.items()
        }
        found.append((folder, [(name, _printed(value)) for name, value in facts.items()]))
    return found


def _making(folder: Path, calls: pd.DataFrame) -> dict[str, Any]:
    """When, on what machines and with how many actors a run was made, as far as it tells."""
    told, known = {}, progress(folder)
    if len(calls):
        told["first call"] = _moment((calls["ended"] - calls["seconds"]).to_numpy().min())
        told["last call"] = _moment(calls["ended"].to_numpy().max())
        told["machines"] = sorted(set(calls["node"]) - {""})
    if known:
        told["last driver"] = f"{_moment(known['started'])} to {_moment(known['updated'])}"
        told["actors"] = f"{known['actors']} of {known['wanted']}"
    return told


def _moment(seconds: float) -> str:
    """Unix time as a date."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _printed(value: Any) -> str:
    """A value of a configuration as text."""
    if value is None:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def at_radii(frame: pd.DataFrame) -> list[Table]:
    """Certified accuracy at chosen radii, one table per metric and sigma, the best starred."""
    table = tables.summary(frame)
    found = []
    for metric in available(frame):
        wanted = [f"{metric}_acr", *(n for n in table.columns if n.startswith(f"{metric}@"))]
        names = [n for n in wanted if not n.endswith("@0") or metric == "proxy"]
        sigmas = sorted(set(table["sigma"]))
        for sigma in sigmas:
            own = table.loc[table["sigma"] == sigma]
            note = _RADII_NOTE if sigma == sigmas[-1] else ""
            found.append(_starred(own, names, f"σ = {sigma:g}", metric, note, frame))
    return found


def _starred(
    own: pd.DataFrame,
    names: Sequence[str],
    title: str,
    metric: str,
    note: str,
    frame: pd.DataFrame,
) -> Table:
    """The lines of one sigma; whoever is largest in a column, before flooring, has the star.

    Radii of logs that are rounded there compete with none.
    """
    known = printed(frame)
    rounded = {name for name, mark in marks(frame).items() if mark.rounded}
    exact = ~own["method"].isin(list(rounded))
    best = {name: own.loc[exact, name].max() for name in names}
    rows = [
        [Cell(known[line["method"]])]
        + [_competing(name, line[name], best[name], line["method"] in rounded) for name in names]
        for line in own.to_dict("records")
    ]
    header = [
        "method",
        *("ACR" if "@" not in name else "@" + name.split("@")[1] for name in names),
    ]
    return Table(title, header, rows, note, metric, own["method"].tolist())


def _competing(name: str, value: float, best: float, rounded: bool) -> Cell:
    """A radius or share with its star, if it has one."""
    if rounded or not value > 0:
        return Cell(_size(name, value))
    return Cell(_size(name, value), value == best, float(value))


def _size(name: str, value: float) -> str:
    """A radius, or a share in percent; a dash where a log does not know it."""
    if np.isnan(value):
        return "–"
    if "@" in name:
        return f"{100 * tables.floor_to(value, 3):.1f}"
    return f"{tables.floor_to(value, 3):.3f}"


def cost(frame: pd.DataFrame) -> list[Table]:
    """Seconds per image of each method; nothing of logs."""
    rows = []
    keys = [one for one in lines(frame) if not is_log_line(frame, *one)]
    for sigma, method in keys:
        own = select(frame, method=method, sigma=sigma)
        fit, certificate = (
            own[name].to_numpy(np.float64) for name in ("fit_seconds", "certify_seconds")
        )
        both = fit + certificate
        numbers = (np.median(fit), np.median(certificate), np.max(both), np.sum(both) / 3600)
        samples = f"{float(np.mean(own['n'])):,.0f}"
        rows.append(
            [Cell(text) for text in (label(method), f"{sigma:g}", f"{len(own):,}", samples)]
            + [Cell(f"{number:,.3f}") for number in numbers]
        )
    header = (
        *("method", "σ", "images", "samples of a certificate, mean", "fit s", "certify s"),
        *("slowest s", "hours in all"),
    )
    note = (
        "Per image: medians, and the largest sum. ANCER and RDDRS start from DDRS, whose fit is "
        "not in theirs. Images of a shard share its mean."
    )
    whole = Table("", header, rows, note, methods=[method for _, method in keys])
    return [whole] if rows else []


def endings(frame: pd.DataFrame) -> Table:
    """Abstentions, wrong predictions and how the fits ended."""
    rows, known = [], printed(frame)
    for sigma, method in lines(frame):
        own = select(frame, method=method, sigma=sigma)
        abstained = own["prediction"].to_numpy() == ABSTAIN
        statuses = Counter(own["fit_status"].dropna())
        ended = ", ".join(f"{statuses[name]:,} {name}" for name in sorted(statuses)) or "–"
        numbers = (
            np.sum(own["correct"].to_numpy(bool)),
            np.sum(~own["correct"].to_numpy(bool) & ~abstained),
            np.sum(abstained),
            own["error"].notna().sum(),
        )
        counts = [f"{number:,}" for number in numbers]
        counts += [_total(own, name) for name in ("axes_beyond_domain", "others_inside")]
        rows.append([Cell(text) for text in (known[method], f"{sigma:g}", *counts, ended)])
    header = (
        *("method", "σ", "right", "wrong", "abstained", "failed", "axes beyond the domain"),
        *("training images of another label inside", "how fits ended"),
    )
    return Table("", header, rows, methods=[method for _, method in lines(frame)])


def _total(rows: pd.DataFrame, column: str) -> str:
    """Sum of a column of counts; a dash where some are not known."""
    values = rows[column].to_numpy(np.float64)
    return "–" if np.isnan(values).any() else f"{int(values.sum()):,}"

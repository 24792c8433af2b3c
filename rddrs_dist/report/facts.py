"""What a report tells in tables: provenance, radii, cost, endings, the disjoint pass."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from rddrs_dist.analysis import tables
from rddrs_dist.analysis.lines import Line, available, by_sigma, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.analysis.status import progress
from rddrs_dist.results import Source, disjoint

_NUMBER = re.compile(r"[-\d.,:e+]+|–|inf|nan")
_NEAREST = 10  # pairs of regions that are listed
_UNKNOWN = "–"
_RADII_NOTE = (
    "ACR: average certified radius, 0 where wrong or abstained. @R: % of the images certified at "
    "radius R. Floored, never rounded; ★ largest of its column among the methods shown (logs of "
    "rounded radii have none)."
)


class Cell(NamedTuple):
    """A printed value.

    Attributes:
        text: What is printed.
        value: What competes for the star of its column, before flooring; None where nothing does.
    """

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        header: Names of the columns.
        rows: Cells of each row; the first names it.
        methods: Method of each row, where rows belong to methods.
        title: What stands above it.
        note: What stands below it.
        size: Name in `sizes.SIZES` that it is about; shown while that one is chosen.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    methods: Sequence[str] = ()
    title: str = ""
    note: str = ""
    size: str | None = None

    @classmethod
    def of(cls, header: Sequence[str], texts: Sequence[Sequence[str]], **rest: Any) -> Self:
        """A table of plain texts."""
        return cls(header, [[Cell(text) for text in row] for row in texts], **rest)

    @property
    def words(self) -> list[bool]:
        """Whether each column holds words, which start at the left, and not numbers."""
        columns = zip(*self.rows, strict=True)
        return [not all(_NUMBER.fullmatch(cell.text) for cell in own) for own in columns]


def provenance(
    lines: Sequence[Line], calls: pd.DataFrame
) -> list[tuple[str, list[tuple[str, str]]]]:
    """How each run was made: configuration, hashes, time and machines.

    Args:
        lines: Those of the page.
        calls: Those of `attempts.events`.

    Returns:
        (folder, (name, value)s).
    """
    found = []
    for source in sources(lines):
        settings = source.config.get("settings") or {}
        facts = {"run_id": source.run_id, "complete": source.complete}
        facts |= _making(source, calls.loc[calls["run"] == str(source.folder)])
        facts |= {name: value for name, value in source.config.items() if name != "settings"}
        facts |= source.metadata
        facts |= {
            f"{method}.{name}": value
            for method, own in settings.items()
            for name, value in own.items()
        }
        texts = [(name, _printed(value)) for name, value in facts.items()]
        found.append((str(source.folder), texts))
    return found


def _making(source: Source, calls: pd.DataFrame) -> dict[str, Any]:
    """When, on what machines and with how many actors a run was made, as far as it tells."""
    told: dict[str, Any] = {}
    if len(calls):
        told["first call"] = _moment((calls["ended"] - calls["seconds"]).to_numpy().min())
        told["last call"] = _moment(calls["ended"].to_numpy().max())
        told["machines"] = sorted(set(calls["node"]) - {""})
    if source.digits is None and (known := progress(source.folder)):
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


def at_radii(lines: Sequence[Line]) -> list[Table]:
    """Certified accuracy at chosen radii, one table per size and sigma."""
    panels = by_sigma(lines)
    return [
        _starred(panel, size, _RADII_NOTE if sigma == max(panels) else "")
        for size in available(lines)
        for sigma, panel in panels.items()
    ]


def _starred(panel: Sequence[Line], size: str, note: str) -> Table:
    """The lines of one sigma; on the page whoever is largest in a column has its star.

    Radii of logs that are rounded there compete with none.
    """
    found = tables.summary(panel, [size]).to_dict("records")
    names = [name for name in found[0] if name.startswith((f"{size}@", f"{size}_acr"))]
    names = [name for name in names if name != f"{size}@0" or size == "proxy"]
    rows = []
    for line, own in zip(panel, found, strict=True):
        rows.append([Cell(line.label)])
        for name in names:
            printed = tables.percent if "@" in name else tables.floored
            competes = not line.rounded and own[name] > 0
            text = printed(own[name], unknown=_UNKNOWN)
            rows[-1].append(Cell(text, float(own[name]) if competes else None))
    header = ["method", *(tables.heading(name) for name in names)]
    methods = [line.method for line in panel]
    return Table(header, rows, methods, f"σ = {panel[0].sigma:g}", note, size)


def cost(lines: Sequence[Line]) -> list[Table]:
    """Seconds per image of each method; nothing of logs."""
    rows, own = [], [line for line in lines if not line.is_log]
    for line in own:
        fit, certificate = line.column("fit_seconds"), line.column("certify_seconds")
        both = fit + certificate
        numbers = (np.median(fit), np.median(certificate), np.max(both), np.sum(both) / 3600)
        samples = f"{np.mean(line.column('n')):,.0f}"
        rows.append([line.label, f"{line.sigma:g}", f"{len(line):,}", samples])
        rows[-1] += [f"{number:,.3f}" for number in numbers]
    header = (
        *("method", "σ", "images", "samples of a certificate, mean", "fit s", "certify s"),
        *("slowest s", "hours in all"),
    )
    note = (
        "Per image: medians, and the largest sum. ANCER and RDDRS start from DDRS, whose fit is "
        "not in theirs. Images of a shard share its mean."
    )
    return [Table.of(header, rows, methods=[one.method for one in own], note=note)] if own else []


def endings(lines: Sequence[Line]) -> Table:
    """Abstentions, wrong predictions and how the fits ended."""
    rows = []
    for line in lines:
        statuses = Counter(line.rows["fit_status"].dropna())
        ended = ", ".join(f"{statuses[name]:,} {name}" for name in sorted(statuses))
        numbers = (
            line.right,
            ~line.right & ~line.abstained,
            line.abstained,
            line.rows["error"].notna().to_numpy(),
            line.column("axes_beyond_domain"),
            line.column("others_inside"),
        )
        totals = [float(np.sum(own)) for own in numbers]
        texts = [_UNKNOWN if np.isnan(total) else f"{total:,.0f}" for total in totals]
        rows.append([line.label, f"{line.sigma:g}", *texts, ended or _UNKNOWN])
    header = (
        *("method", "σ", "right", "wrong", "abstained", "failed", "axes beyond the domain"),
        *("training images of another label inside", "how fits ended"),
    )
    return Table.of(header, rows, methods=[line.method for line in lines])


def rows_of(lines: Sequence[Line]) -> pd.DataFrame:
    """The rows of all runs in one frame, with run (its folder) and name (of the method)."""
    told = [
        line.rows.assign(run=str(line.source.folder), name=line.label)
        for line in lines
        if not line.is_log
    ]
    return pd.concat(told) if told else pd.DataFrame()


def conflicts(lines: Sequence[Line]) -> list[Table]:
    """What the disjoint pass found; nothing where none was made."""
    own = [line for line in lines if "disjoint_radius" in line.rows]
    passes = {one.folder: disjoint.facts(one.folder) or {} for one in sources(own)}
    rows, methods = [], []
    for line in own:
        for told in passes[line.source.folder].get("methods", ()):
            if told["method"] == line.method:
                before, after = line.average("proxy"), line.average("disjoint")
                counts = (f"{told[name]:,}" for name in ("regions", "pairs", "conflicts"))
                kept = tables.percent(after / before) if before else _UNKNOWN
                sizes = (tables.floored(before), tables.floored(after), kept)
                rows.append([line.label, str(line.source.folder), *counts, *sizes])
                methods.append(line.method)
    if not rows:
        return []
    header = (
        *("method", "run", "regions", "pairs of different predictions", "that overlap"),
        *("ACR before", "ACR disjoint", "kept %"),
    )
    rules = sorted({facts["rule"] for facts in passes.values() if facts})
    note = f"Rule: {', '.join(rules)}. ACR in proxy radius."
    return [Table.of(header, rows, methods=methods, note=note), _nearest(rows_of(own))]


def _nearest(frame: pd.DataFrame) -> Table:
    """The pairs of regions that come closest to each other, or overlap most."""
    found = frame.loc[frame["nearest_conflict"].notna()]
    found = found.sort_values("contact_factor", kind="stable")
    # Two regions that are nearest to each other are one pair.
    pairs = found[["index", "nearest_conflict"]].to_numpy(float)
    pairs = found.assign(low=pairs.min(1), high=pairs.max(1))
    found = found.loc[~pairs.duplicated(["run", "method", "low", "high"]).to_numpy()]
    rows = [
        [
            *(one["name"], one["run"], str(one["index"]), str(int(one["nearest_conflict"]))),
            *(tables.floored(one["contact_factor"], 4), one["witness"]),
            *(tables.floored(one[SIZES[size].column]) for size in ("proxy", "disjoint")),
        ]
        for one in found.head(_NEAREST).to_dict("records")
    ]
    header = (
        *("method", "run", "image", "and image", "contact factor", "witness"),
        *("proxy radius", "disjoint"),
    )
    note = "Contact factor: both regions scaled by it touch; below 1 they overlap."
    methods = found["method"].head(_NEAREST).tolist()
    return Table.of(header, rows, methods=methods, title="Nearest pairs", note=note)

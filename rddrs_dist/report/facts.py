"""What a report tells in tables: provenance, radii, cost, endings, attempts, the disjoint pass."""

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rddrs_dist.analysis import inside, tables
from rddrs_dist.analysis.lines import Line, available, by_sigma, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.analysis.status import progress
from rddrs_dist.results import disjoint
from rddrs_dist.run.events import SCHEMA, read_events

_NUMBER = re.compile(r"[-\d.,:e+]+|inf|nan")
_HELD = 20  # images of each method that tell what its regions hold
_NEAREST = 10  # pairs of regions that are listed
_AGAIN = 20  # images that were tried again
_SLOWEST = 10
_REASON = 80  # characters


@dataclass(frozen=True)
class Table:
    """A table of a page; one without rows is not shown.

    Attributes:
        rows: Texts of each row by the names of their columns; the first names the row, and what
            has a method is shown while that one is chosen.
        title: What stands above it.
        note: What stands below it.
        size: Name in `sizes.SIZES` that it is about; shown while that one is chosen.
        values: What competes for the star of each column, before flooring, by row.
    """

    rows: Sequence[Mapping[str, str]]
    title: str = ""
    note: str = ""
    size: str | None = None
    values: Sequence[Mapping[str, float]] = ()

    @property
    def words(self) -> dict[str, bool]:
        """Whether each column holds words, which start at the left, and not numbers."""
        return {
            name: not all(_NUMBER.fullmatch(row[name]) for row in self.rows)
            for name in self.rows[0]
        }


def provenance(lines: Sequence[Line], calls: pd.DataFrame) -> dict[str, dict[str, str]]:
    """How each run was made, by its folder: configuration, hashes, time and machines."""
    found = {}
    for source in sources(lines):
        facts: dict[str, Any] = {"run_id": source.run_id, "complete": source.complete}
        own = calls.loc[calls["run"] == str(source.folder)]
        if len(own):
            facts["first call"] = _moment((own["ended"] - own["seconds"]).min())
            facts["last call"] = _moment(own["ended"].max())
            facts["machines"] = sorted(set(own["node"]) - {""})
        if source.digits is None and (known := progress(source.folder)):
            facts["last driver"] = f"{_moment(known['started'])} to {_moment(known['updated'])}"
            facts["actors"] = f"{known['actors']} of {known['wanted']}"
        facts |= {name: value for name, value in source.config.items() if name != "settings"}
        facts |= source.metadata
        for method, settings in (source.config.get("settings") or {}).items():
            facts |= {f"{method}.{name}": value for name, value in settings.items()}
        found[str(source.folder)] = {name: _printed(value) for name, value in facts.items()}
    return found


def _moment(seconds: Any) -> str:
    """Unix time as a date."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _printed(value: Any) -> str:
    """A value of a configuration as text."""
    if value is None:
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def at_radii(lines: Sequence[Line]) -> list[Table]:
    """Certified accuracy at chosen radii, one table per size and sigma.

    On the page whoever is largest in a column has its star; rounded radii compete with none.
    """
    found = []
    for size, (sigma, panel) in product(available(lines), by_sigma(lines).items()):
        shown = tables.summary(panel, [size])
        shown = shown.filter(regex=rf"^(sighted$|{size}(@|_acr|_median))")
        rows, values = [], []
        for line, own in zip(panel, shown.to_dict("records"), strict=True):
            cells = {tables.heading(name): tables.cell(name, own[name]) for name in shown}
            rows.append({"method": line.label} | cells)
            above = {
                tables.heading(name): own[name]
                for name in shown
                if own[name] > 0 and name != "sighted"
            }
            values.append({} if line.rounded else above)
        found.append(Table(rows, f"σ = {sigma:g}", size=size, values=values))
    return found


def held(lines: Sequence[Line], data_root: Path | None) -> Table:
    """What the regions of some images hold; a reason alone where scales or data are missing."""
    runs = [line for line in lines if not line.is_log]
    try:
        found = inside.of_lines(runs, data_root, _HELD) if runs else pd.DataFrame()
    except (ValueError, FileNotFoundError) as error:
        return Table([], note=f"Not known: {error}.")
    note = f"{inside.notes()} Of {_HELD} images of a method at most, evenly by index."
    return Table(inside.medians(runs, found), note=note) if runs else Table([])


def cost(lines: Sequence[Line]) -> Table:
    """Seconds per image of each method; nothing of logs."""
    rows = []
    for line in (line for line in lines if not line.is_log):
        fit, certificate = line.column("fit_seconds"), line.column("certify_seconds")
        both = fit + certificate
        rows.append(
            {
                "method": line.label,
                "σ": f"{line.sigma:g}",
                "images": f"{len(line):,}",
                "samples of a certificate, mean": f"{np.mean(line.column('n')):,.0f}",
                "fit s": f"{np.median(fit):,.3f}",
                "certify s": f"{np.median(certificate):,.3f}",
                "slowest s": f"{np.max(both):,.3f}",
                "hours in all": f"{np.sum(both) / 3600:,.3f}",
            }
        )
    return Table(rows)


def endings(lines: Sequence[Line]) -> Table:
    """Abstentions, wrong predictions and how the fits ended."""
    rows = []
    for line in lines:
        statuses = Counter(line.rows["fit_status"].dropna())
        ended = ", ".join(f"{statuses[name]:,} {name}" for name in sorted(statuses))
        counted = {
            "right": line.right.sum(),
            "wrong": (~line.right & ~line.abstained).sum(),
            "abstained": line.abstained.sum(),
            "failed": line.rows["error"].notna().sum(),
            "right, not sighted": tables.sight(line)["not_sighted"],
            "training images of another label inside": line.column("others_inside").sum(),
        }
        texts = {name: "-" if np.isnan(one) else f"{one:,.0f}" for name, one in counted.items()}
        named = {"method": line.label, "σ": f"{line.sigma:g}"}
        rows.append(named | texts | {"how fits ended": ended or "-"})
    return Table(rows)


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
    rows = []
    for line in own:
        methods = {one["method"]: one for one in passes[line.source.folder].get("methods", ())}
        if told := methods.get(line.method):
            before, after = line.average("proxy"), line.average("disjoint")
            rows.append(
                {
                    "method": line.label,
                    "run": str(line.source.folder),
                    "regions": f"{told['regions']:,}",
                    "pairs of different predictions": f"{told['pairs']:,}",
                    "that overlap": f"{told['conflicts']:,}",
                    "ACR before": tables.floored(before),
                    "ACR disjoint": tables.floored(after),
                    "kept %": tables.percent(after / before) if before else "-",
                }
            )
    if not rows:
        return []
    rules = sorted({facts["rule"] for facts in passes.values() if facts})
    note = f"Rule: {', '.join(rules)}. ACR in proxy radius."
    return [Table(rows, note=note), _nearest(rows_of(own))]


def _nearest(frame: pd.DataFrame) -> Table:
    """The pairs of regions that come closest to each other, or overlap most."""
    found = frame.loc[frame["nearest_conflict"].notna()]
    found = found.sort_values("contact_factor", kind="stable")
    # Two regions that are nearest to each other are one pair.
    pairs = found[["index", "nearest_conflict"]].to_numpy(float)
    pairs = found.assign(low=pairs.min(1), high=pairs.max(1))
    found = pairs.drop_duplicates(["run", "method", "low", "high"]).head(_NEAREST)
    rows = [
        {
            "method": one["name"],
            "run": one["run"],
            "image": str(one["index"]),
            "and image": str(int(one["nearest_conflict"])),
            "contact factor": tables.floored(one["contact_factor"], 4),
            "witness": one["witness"],
            "proxy radius": tables.floored(one[SIZES["proxy"].column]),
            "disjoint": tables.floored(one[SIZES["disjoint"].column]),
        }
        for one in found.to_dict("records")
    ]
    note = "Contact factor: both regions scaled by it touch; below 1 they overlap."
    return Table(rows, title="Nearest pairs", note=note)


def events(lines: Sequence[Line]) -> pd.DataFrame:
    """All calls of the runs of lines, one row per image and call, in order of time.

    Beside the columns of `read_events` it has run (its folder) and lost: the image's share of the
    seconds of a call that was not done.
    """
    runs = [one.folder for one in sources(lines) if one.digits is None]
    known = [read_events(run).to_pandas().assign(run=str(run)) for run in runs]
    if not (found := [one for one in known if len(one)]):
        return SCHEMA.empty_table().to_pandas().assign(run="", lost=0.0)
    calls = pd.concat(found).sort_values("ended", kind="stable")
    # Nothing numbers calls, but no two take the same time to the last digit.
    images = calls.groupby(["run", "shard", "seconds"])["index"].transform("size")
    return calls.assign(lost=np.where(calls["outcome"] == "done", 0.0, calls["seconds"] / images))


def attempts(lines: Sequence[Line], calls: pd.DataFrame) -> list[Table]:
    """What came of all attempts, and the images that were tried again; nothing of logs."""
    rows = []
    for run, own in calls.groupby("run", sort=False):
        counts, failed = Counter(own["outcome"]), own.loc[own["outcome"] != "done"]
        rows.append(
            {
                "run": str(run),
                "attempts": f"{len(own):,}",
                "done": f"{counts['done']:,}",
                "failed": f"{counts['failed']:,}",
                "late": f"{counts['late']:,}",
                "actor lost": f"{counts['lost']:,}",
                "images tried again": f"{failed['index'].nunique():,}",
                "seconds lost": f"{failed['lost'].sum():,.1f}",
            }
        )
    return [Table(rows), _again(rows_of(lines), calls)]


def _again(frame: pd.DataFrame, calls: pd.DataFrame) -> Table:
    """The images that were tried again, those that lost most time first."""
    failed = calls.loc[calls["outcome"] != "done"]
    lost = failed.groupby(["run", "index"])["lost"].sum().sort_values(ascending=False)
    rows = []
    for run, index in lost.index.tolist()[:_AGAIN]:
        own, ended = (
            one.loc[(one["run"] == run) & (one["index"] == index)] for one in (calls, frame)
        )
        outcomes = own["outcome"] + np.where(own["resort"], " (last resort)", "")
        why = own.loc[own["outcome"] != "done", "reason"].iloc[-1]
        rows.append(
            {
                "image": str(index),
                "run": run,
                "attempts": str(len(own)),
                "lost s": f"{own['lost'].sum():,.1f}",
                "ended": ", ".join(outcomes),
                "how fits ended then": ", ".join(sorted(set(ended["fit_status"].dropna()))) or "-",
                "why": textwrap.shorten(why, _REASON, placeholder="…"),
            }
        )
    more = f"The {_AGAIN} that lost most time, of {len(lost):,}." if len(lost) > _AGAIN else ""
    return Table(rows, title="Images tried again", note=more)


def slowest(lines: Sequence[Line], calls: pd.DataFrame) -> Table:
    """The fits and certificates that took longest, with what their images lost before."""
    frame = rows_of(lines)
    if not len(frame):
        return Table([])
    tried = calls.groupby(["run", "index"])["lost"].agg(["size", "sum"]).reset_index()
    timed = frame.merge(tried, how="left", on=["run", "index"])
    methods = timed.groupby(["run", "index"])["method"].transform("size")
    lost = timed["sum"].fillna(0.0) / methods
    spent = timed["fit_seconds"] + timed["certify_seconds"] + lost
    timed = timed.assign(lost=lost, spent=spent).nlargest(_SLOWEST, "spent")
    rows = [
        {
            "image": str(one["index"]),
            "method": one["name"],
            "σ": f"{one['sigma']:g}",
            "fit s": f"{one['fit_seconds']:,.2f}",
            "certify s": f"{one['certify_seconds']:,.2f}",
            "lost s": f"{one['lost']:,.2f}",
            "attempts": tables.floored(one["size"], 0),
            "fit ended": one["fit_status"] or "-",
        }
        for one in timed.to_dict("records")
    ]
    return Table(rows)

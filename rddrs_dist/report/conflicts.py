"""What the soundness pass has found, in tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rddrs_dist.analysis import tables
from rddrs_dist.analysis.sizes import METRICS, average_certified_radius
from rddrs_dist.analysis.styles import label
from rddrs_dist.report.facts import Cell, Table
from rddrs_dist.results import disjoint as sound

_NEAREST = 10  # pairs that are listed


def conflicts(frame: pd.DataFrame) -> list[Table]:
    """What the soundness pass found; nothing where none was made."""
    # Of a run that is there twice, one has all rows.
    passes = {folder: sound.facts(Path(folder)) for folder in dict.fromkeys(frame["run"])}
    rows, methods = [], []
    for folder, facts in passes.items():
        own = frame.loc[frame["run"] == folder]
        for line in facts["methods"] if facts else ():
            rows.append([Cell(label(line["method"])), Cell(folder), *_pass(line, own)])
            methods.append(line["method"])
    if not rows:
        return []
    header = (
        *("method", "run", "regions", "pairs of different predictions", "that overlap"),
        *("ACR before", "ACR sound", "kept %"),
    )
    rules = sorted({facts["rule"] for facts in passes.values() if facts})
    note = f"Rule: {', '.join(rules)}. ACR in proxy radius."
    whole = Table("", header, rows, note, methods=methods)
    return [whole, _nearest(frame)]


def _pass(line: Mapping[str, Any], frame: pd.DataFrame) -> list[Cell]:
    """What the pass did to one method."""
    own = frame.loc[frame["method"] == line["method"]]
    before, after = (average_certified_radius(own, metric) for metric in ("proxy", "sound"))
    sizes = [f"{tables.floor_to(size, 3):.3f}" for size in (before, after)]
    kept = f"{100 * tables.floor_to(after / before, 3):.1f}" if before else "–"
    counts = [f"{line[name]:,}" for name in ("regions", "pairs", "conflicts")]
    return [Cell(text) for text in (*counts, *sizes, kept)]


def _nearest(frame: pd.DataFrame) -> Table:
    """The pairs of regions that come closest to each other, or overlap most."""
    found = frame.loc[frame["nearest_conflict"].notna()].sort_values("mu", kind="stable")
    # Two regions that are nearest to each other are one pair.
    pairs = found[["index", "nearest_conflict"]].to_numpy(float)
    pairs = found.assign(low=pairs.min(1), high=pairs.max(1))
    found = found.loc[~pairs.duplicated(["run", "method", "low", "high"])].head(_NEAREST)
    rows = [
        [
            Cell(label(one["method"])),
            Cell(one["run"]),
            Cell(str(one["index"])),
            Cell(str(int(one["nearest_conflict"]))),
            Cell(f"{tables.floor_to(one['mu'], 4):.4f}"),
            Cell(one["witness"]),
            *(Cell(f"{tables.floor_to(one[METRICS[m]], 3):.3f}") for m in ("proxy", "sound")),
        ]
        for one in found.to_dict("records")
    ]
    header = ("method", "run", "image", "and image", "μ", "witness", "proxy radius", "sound")
    note = "μ: factor by which both regions scale until they touch; below 1 they overlap."
    return Table(
        "Nearest pairs",
        header,
        rows,
        note,
        methods=found["method"].tolist(),
    )

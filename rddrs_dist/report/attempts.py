"""How often images were tried, what came of it and what time it took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rddrs_dist.analysis.lines import Line, sources
from rddrs_dist.report.facts import Table, rows_of
from rddrs_dist.run.events import SCHEMA, read_events

_AGAIN = 20  # images that are listed
_SLOWEST = 10
_REASON = 80  # characters


def events(lines: Sequence[Line]) -> pd.DataFrame:
    """All calls of the runs of lines, one row per image and call, in order of time.

    Returns:
        The columns of `read_events`, run (its folder), and lost: the image's share of the seconds
        of a call that was not done.
    """
    runs = [one.folder for one in sources(lines) if one.digits is None]
    found = [read_events(run).to_pandas().assign(run=str(run)) for run in runs]
    if not any(map(len, found)):
        return SCHEMA.empty_table().to_pandas().assign(run="", lost=0.0)
    calls = pd.concat([one for one in found if len(one)]).sort_values("ended", kind="stable")
    # Nothing numbers calls, but no two take the same time to the last digit.
    images = calls.groupby(["run", "shard", "seconds"])["index"].transform("size")
    return calls.assign(lost=np.where(calls["outcome"] == "done", 0.0, calls["seconds"] / images))


def attempts(lines: Sequence[Line], calls: pd.DataFrame) -> list[Table]:
    """What came of all attempts, and the images that were tried again; nothing of logs."""
    rows = []
    for run in dict.fromkeys(calls["run"]):
        own = calls.loc[calls["run"] == run]
        counts, failed = Counter(own["outcome"]), own.loc[own["outcome"] != "done"]
        numbers = [len(own), *(counts[name] for name in ("done", "failed", "late", "lost"))]
        texts = [f"{number:,}" for number in (*numbers, failed["index"].nunique())]
        rows.append([run, *texts, f"{failed['lost'].sum():,.1f}"])
    if not rows:
        return []
    header = (
        *("run", "attempts", "done", "failed", "late", "actor lost"),
        *("images tried again", "seconds lost"),
    )
    note = (
        "An attempt is one image in one call of an actor; the images of a call that was not done "
        "share the seconds that it took."
    )
    return [Table.of(header, rows, note=note), *_again(rows_of(lines), calls)]


def _again(frame: pd.DataFrame, calls: pd.DataFrame) -> list[Table]:
    """The images that were tried again, those that lost most time first."""
    failed = calls.loc[calls["outcome"] != "done"]
    lost = failed.groupby(["run", "index"])["lost"].sum().sort_values(ascending=False)
    if not len(lost):
        return []
    rows = [_tried(run, index, calls, frame) for run, index in lost.index.tolist()[:_AGAIN]]
    header = ("image", "run", "attempts", "lost s", "ended", "how fits ended then", "why")
    more = f"The {_AGAIN} that lost most time, of {len(lost):,}." if len(lost) > _AGAIN else ""
    return [Table.of(header, rows, title="Images tried again", note=more)]


def _tried(run: str, index: int, calls: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """The row of an image."""
    own, rows = (one.loc[(one["run"] == run) & (one["index"] == index)] for one in (calls, frame))
    statuses = ", ".join(sorted(set(rows["fit_status"].dropna()))) or "–"
    ended = ", ".join(
        f"{name} (last resort)" if resort else name
        for name, resort in zip(own["outcome"], own["resort"], strict=True)
    )
    why = " ".join(own.loc[own["outcome"] != "done", "reason"].tolist()[-1].split())
    why = why if len(why) <= _REASON else why[: _REASON - 1] + "…"
    return [str(index), run, str(len(own)), f"{own['lost'].sum():,.1f}", ended, statuses, why]


def slowest(lines: Sequence[Line], calls: pd.DataFrame) -> list[Table]:
    """The fits and certificates that took longest, with what their images lost before."""
    frame = rows_of(lines)
    if not len(frame):
        return []
    tried = calls.groupby(["run", "index"])["lost"].agg(["size", "sum"]).reset_index()
    timed = frame.merge(tried, how="left", on=["run", "index"])
    methods = timed.groupby(["run", "index"])["method"].transform("size")
    timed = timed.assign(attempts=timed["size"], lost=timed["sum"].fillna(0.0) / methods)
    spent = timed["fit_seconds"] + timed["certify_seconds"] + timed["lost"]
    timed = timed.assign(spent=spent).nlargest(_SLOWEST, "spent")
    rows = [_slow(one) for one in timed.to_dict("records")]
    header = ("image", "method", "σ", "fit s", "certify s", "lost s", "attempts", "fit ended")
    note = (
        "lost: in attempts at the image that were not done, in equal shares of its methods. The "
        "images of a shard share its mean."
    )
    return [Table.of(header, rows, methods=timed["method"].tolist(), note=note)]


def _slow(one: Mapping[Any, Any]) -> list[str]:
    """A row of the slowest images."""
    seconds = (f"{one[name]:,.2f}" for name in ("fit_seconds", "certify_seconds", "lost"))
    known = "–" if np.isnan(one["attempts"]) else str(int(one["attempts"]))
    return [
        *(str(one["index"]), one["name"], f"{one['sigma']:g}"),
        *(*seconds, known, one["fit_status"] or "–"),
    ]

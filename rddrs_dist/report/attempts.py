"""How often images were tried, what came of it and what time it took."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rddrs_dist.analysis.logs.marks import is_log
from rddrs_dist.analysis.styles import label
from rddrs_dist.report.facts import Cell, Table
from rddrs_dist.run.events import SCHEMA, read_events

_AGAIN = 20  # images that are listed
_SLOWEST = 10
_REASON = 80  # characters


def events(frame: pd.DataFrame) -> pd.DataFrame:
    """All calls of the runs in a frame, one row per image and call, in order of time.

    Returns:
        The columns of `read_events`, run, and lost: the image's share of the seconds of a call
        that was not done.
    """
    folders = [
        folder
        for folder, attrs in frame.attrs["runs"].items()
        if not is_log(attrs) and folder in set(frame["run"])
    ]
    found = [read_events(Path(one)).to_pandas().assign(run=one) for one in folders]
    if not any(map(len, found)):
        return SCHEMA.empty_table().to_pandas().assign(run="", lost=0.0)
    calls = pd.concat([one for one in found if len(one)]).sort_values("ended", kind="stable")
    # Nothing numbers calls, but no two take the same time to the last digit.
    images = calls.groupby(["run", "shard", "seconds"])["index"].transform("size")
    return calls.assign(lost=np.where(calls["outcome"] == "done", 0.0, calls["seconds"] / images))


def attempts(frame: pd.DataFrame, calls: pd.DataFrame) -> list[Table]:
    """What came of all attempts, and the images that were tried again; nothing of logs."""
    runs = dict.fromkeys(calls["run"])
    rows = []
    for folder in runs:
        own = calls.loc[calls["run"] == folder]
        counts, failed = Counter(own["outcome"]), own.loc[own["outcome"] != "done"]
        numbers = (len(own), *(counts[name] for name in ("done", "failed", "late", "lost")))
        again = (failed["index"].nunique(), f"{failed['lost'].sum():,.1f}")
        texts = [f"{number:,}" for number in numbers] + [f"{again[0]:,}", again[1]]
        rows.append([Cell(folder), *map(Cell, texts)])
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
    return [Table("", header, rows, note), *_again(frame, calls)]


def _again(frame: pd.DataFrame, calls: pd.DataFrame) -> list[Table]:
    """The images that were tried again, those that lost most time first."""
    failed = calls.loc[calls["outcome"] != "done"]
    lost = failed.groupby(["run", "index"])["lost"].sum().sort_values(ascending=False)
    if not len(lost):
        return []
    keys = lost.index.tolist()[:_AGAIN]
    rows = [_tried(run, index, calls, frame) for run, index in keys]
    header = ("image", "run", "attempts", "lost s", "ended", "how fits ended then", "why")
    more = f"The {_AGAIN} that lost most time, of {len(lost):,}." if len(lost) > _AGAIN else ""
    return [Table("Images tried again", header, rows, more)]


def _tried(run: str, index: int, calls: pd.DataFrame, frame: pd.DataFrame) -> list[Cell]:
    """The line of an image."""
    own, rows = (one.loc[(one["run"] == run) & (one["index"] == index)] for one in (calls, frame))
    statuses = ", ".join(sorted(set(rows["fit_status"].dropna()))) or "–"
    ended = ", ".join(
        f"{name} (last resort)" if resort else name
        for name, resort in zip(own["outcome"], own["resort"], strict=True)
    )
    why = " ".join(own.loc[own["outcome"] != "done", "reason"].tolist()[-1].split())
    why = why if len(why) <= _REASON else why[: _REASON - 1] + "…"
    lost = f"{own['lost'].to_numpy().sum():,.1f}"
    return [Cell(text) for text in (str(index), run, str(len(own)), lost, ended, statuses, why)]


def slowest(frame: pd.DataFrame, calls: pd.DataFrame) -> list[Table]:
    """The fits and certificates that took longest, with what their images lost before."""
    tried = calls.groupby(["run", "index"])["lost"].agg(["size", "sum"]).reset_index()
    timed = frame.loc[frame["count"].notna()].merge(tried, how="left", on=["run", "index"])
    if not len(timed):
        return []
    methods = timed.groupby(["run", "index"])["method"].transform("size")
    timed = timed.assign(attempts=timed["size"], lost=timed["sum"].fillna(0.0) / methods)
    spent = timed["fit_seconds"] + timed["certify_seconds"] + timed["lost"]
    timed = timed.loc[spent.nlargest(_SLOWEST).index]
    rows = [_slow(one) for one in timed.to_dict("records")]
    header = (*("image", "method", "σ", "fit s", "certify s", "lost s", "attempts", "fit ended"),)
    note = (
        "lost: in attempts at the image that were not done, in equal shares of its methods. The "
        "images of a shard share its mean."
    )
    return [Table("", header, rows, note, methods=timed["method"].tolist())]


def _slow(one: Mapping[Any, Any]) -> list[Cell]:
    """A line of the slowest images."""
    seconds = (f"{one[name]:,.2f}" for name in ("fit_seconds", "certify_seconds", "lost"))
    known = "–" if np.isnan(one["attempts"]) else str(int(one["attempts"]))
    ended = one["fit_status"] or "–"
    texts = (str(one["index"]), label(one["method"]), f"{one['sigma']:g}", *seconds, known, ended)
    return [Cell(text) for text in texts]

"""What tells imported logs from runs: in legends and captions, and where logs are refused."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rddrs_dist.analysis.styles import label
from rddrs_dist.results.columns import IMPORTED

_EXACT_DIGITS = 15  # as many as every number of double precision keeps


@dataclass(frozen=True)
class Mark:
    """What is known of the log of a line.

    Attributes:
        method: Name of the line.
        digits: Significant digits of its radii.
    """

    method: str
    digits: int

    @property
    def rounded(self) -> bool:
        """Whether radii may be above those that were computed."""
        return self.digits < _EXACT_DIGITS

    @property
    def name(self) -> str:
        """What a legend says."""
        return f"{self.method} ({'rounded' if self.rounded else 'log'})"


def is_log(attrs: Mapping[Any, Any]) -> bool:
    """Tells whether the `attrs` of a folder are those of an imported log."""
    return IMPORTED in attrs.get("metadata", {})


def folders(frame: pd.DataFrame) -> list[Mapping[Any, Any]]:
    """Returns the `attrs` of each folder in a frame, as `read` or `read_many` returns it."""
    return list(frame.attrs.get("runs", {"": frame.attrs}).values())


def marks(frame: pd.DataFrame) -> dict[str, Mark]:
    """Returns what is known of the logs in a frame, by the names of their lines.

    Args:
        frame: Rows as `read` or `read_many` returns them, with their `attrs`.
    """
    found: dict[str, Mark] = {}
    for attrs in folders(frame):
        if is_log(attrs):
            method = attrs["config"]["method"]
            mark = Mark(method, json.loads(attrs["metadata"][IMPORTED])["digits"])
            # One name may stand for a log per sigma.
            found[method] = min(found.get(method, mark), mark, key=lambda one: one.digits)
    return found


def printed(frame: pd.DataFrame) -> dict[str, str]:
    """Returns the printed name of every method of a frame, logs with their mark."""
    known = marks(frame)
    methods = sorted(set(frame["method"].tolist()))
    return {name: known[name].name if name in known else label(name) for name in methods}


def sentences(known: Iterable[Mark]) -> list[str]:
    """Returns what a caption or a table says of logs, one sentence for all that are alike."""
    alike: dict[str, list[str]] = {}
    for mark in sorted(known, key=lambda own: own.method):
        rounded = f", rounded to {mark.digits} significant digits there" if mark.rounded else ""
        alike.setdefault(rounded, []).append(mark.method)
    return [_sentence(methods, rounded) for rounded, methods in alike.items()]


def _sentence(methods: Sequence[str], rounded: str) -> str:
    """What is said of some logs."""
    names = " and ".join([", ".join(methods[:-1]), methods[-1]]) if methods[1:] else methods[0]
    what = "logs" if methods[1:] else "a log"
    networks = "their networks are" if methods[1:] else "its network is"
    return f"Radii of {names} are those of {what}{rounded}; {networks} not known."


def refuse(attrs: Mapping[Any, Any], folder: Path, wanted: str) -> None:
    """Raises where a folder holds a log and a run is wanted.

    Args:
        attrs: Those of the frame that `read` returns.
        folder: The folder.
        wanted: What a log is not, in words.

    Raises:
        ValueError: If it holds a log.
    """
    if is_log(attrs):
        raise ValueError(
            f"{wanted} is wanted, got an imported log in {folder}; give a folder that `rddrs "
            "certify` wrote"
        )

"""What a run's folder tells of the run while it goes on and once it has ended."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rddrs_dist.analysis import tables
from rddrs_dist.analysis.curves import lines, select
from rddrs_dist.analysis.logs.marks import marks, sentences
from rddrs_dist.results import files as parts
from rddrs_dist.results.columns import canonical_json
from rddrs_dist.results.reading import read

PROGRESS = "_progress.json"
SUMMARY = "_summary.json"
_KEYS = (
    *("images", "done", "before", "started", "updated"),
    *("actors", "wanted", "retries", "losses"),
)
# A driver writes its progress every few seconds; one that is silent for longer is gone.
_SILENT_SECONDS = 60.0
_USUAL = frozenset({"closed_form", "converged", "max_steps"})
_SLOWEST = 5
_HEADER = (
    *("method", "images", "certified %", "ACR", "abstained"),
    *("unusual fits", "fit s", "certify s"),
)
_LEGEND = (
    "certified %: right at radius 0; ACR: mean proxy radius; both floored, of the images so far; "
    "seconds: medians"
)


def progress(out: Path) -> dict[str, Any] | None:
    """Reads what the driver last told of its progress.

    Args:
        out: Folder of the run.

    Returns:
        What `write_progress` was given; None where no driver has written any.

    Raises:
        ValueError: If the file is not JSON or lacks a number.
    """
    path = out / PROGRESS
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _unreadable(path, parts.reason(error)) from error
    known = found if isinstance(found, dict) else {}
    lacking = [key for key in _KEYS if not isinstance(known.get(key), int | float)]
    if lacking:
        raise _unreadable(path, f"no number for {', '.join(lacking)}")
    return known


def write_progress(out: Path, **values: float) -> None:
    """Writes the driver's progress, whole or not at all.

    Args:
        out: Folder of the run.
        values: images (of the run), done (images finished), before (those finished when this
            driver started), started and updated (unix time), actors (ready), wanted (actors
            asked for), retries and losses (actors lost).

    Raises:
        OSError: If it could not be written; what was there before is untouched.
    """
    parts.replace_json(out / PROGRESS, values)


def status(out: Path, now: float) -> str:
    """Tells how far a run is and how it goes; safe while a driver writes.

    Args:
        out: Folder of the run.
        now: The time, as unix time.

    Returns:
        Lines of text: the state, one line per method over the images that are on disk, and the
        slowest images.

    Raises:
        ValueError: If the folder holds no run, or a file of the run cannot be read.
    """
    _check_folder(out)
    # Asked before the rows are read: those of a complete run are then all among them.
    complete = (out / parts.SUCCESS).exists()
    known = progress(out)
    frame = _finished(out)
    state = _state(_kept(frame), known, complete, now)
    if frame is None:
        return state + "\n\nno part is finished yet\n"
    if logs := marks(frame):
        state = "\n".join(["imported log, " + state, *sentences(logs.values())])
    return "\n\n".join([state, _methods(frame), _slowest(frame)]) + "\n"


def summary(frame: pd.DataFrame, run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of summary.json.

    Args:
        frame: Rows as `read` returns them.
        run: What else is to be told of the run, as plain values or numpy scalars.

    Returns:
        Plain JSON values: `run` as given and `methods`, the rows of `tables.summary`. What is
        not known (NaN) or not finite is None, since JSON has no word for either.

    Raises:
        ValueError: If something in `run` is not JSON.
    """
    methods = tables.summary(frame).to_dict("records")
    return json.loads(canonical_json(_plain({"run": run, "methods": methods})))


def _check_folder(out: Path) -> None:
    """Raises where a folder holds nothing of a run."""
    if not out.is_dir():
        got = "a file" if out.exists() else "no such folder"
    elif (out / parts.CONFIG).exists() or parts.part_paths(out):
        return
    else:
        got = f"a folder with neither {parts.CONFIG} nor part-*.parquet"
    raise ValueError(
        f"{out} must be the folder of a run, got {got}; give the folder that was --out"
    )


def _unreadable(path: Path, got: str) -> ValueError:
    """Makes the error for a file of progress that no driver can have written."""
    return ValueError(
        f"{path} must be the JSON of a driver's progress, got {got}; remove it, a driver "
        "writes it again"
    )


def _finished(out: Path) -> pd.DataFrame | None:
    """Reads the parts that are on disk; None where there is none."""
    while found := parts.part_paths(out):
        try:
            return read(out)
        except (FileNotFoundError, ValueError):
            # A driver that starts sets bad parts aside, perhaps just after we listed them.
            if found.keys() <= parts.part_paths(out).keys():
                raise
    return None


def _kept(frame: pd.DataFrame | None) -> int:
    """Counts the images on disk that --resume would not try again."""
    return 0 if frame is None else len(set(frame["index"][frame["error"].isna()]))


def _state(kept: int, known: Mapping[str, Any] | None, complete: bool, now: float) -> str:
    """Says in one line whether the run goes on, how far it is and how fast."""
    if known is None:
        unknown = f"not complete: {kept} images, no {PROGRESS} tells of a driver"
        return f"complete: {kept}/{kept} images" if complete else unknown
    silent = now - known["updated"]
    running = not complete and silent <= _SILENT_SECONDS
    rate = _rate(known)
    # A driver knows of images whose part is not whole yet; without one, what is on disk counts.
    done = known["done"] if running else kept
    facts = [f"{done}/{known['images']} images", f"{60 * rate:.1f} images/min"]
    if running:
        left = known["images"] - done
        facts.append(f"ETA {_duration(left / rate) if rate else 'unknown'}")
    facts.append(f"actors {known['actors']}/{known['wanted']}")
    facts += [f"{name} {known[name]}" for name in ("retries", "losses")]
    if complete or running:
        return f"{'complete' if complete else 'running'}: {', '.join(facts)}"
    return f"stopped {_duration(silent)} ago: {', '.join(facts)}; go on with --resume"


def _rate(known: Mapping[str, Any]) -> float:
    """Returns the images per second of the last driver, without those of earlier ones."""
    seconds = known["updated"] - known["started"]
    return (known["done"] - known["before"]) / seconds if seconds > 0 else 0.0


def _duration(seconds: float) -> str:
    """Prints seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _methods(frame: pd.DataFrame) -> str:
    """Prints one line per method over the images so far, and what its columns mean."""
    table = tables.summary(frame, {"proxy": (0.0,)}).to_dict("records")
    unusual = [_unusual(select(frame, method=m, sigma=sigma)) for sigma, m in lines(frame)]
    body = [_cells(line, text) for line, text in zip(table, unusual, strict=True)]
    return tables.aligned([_HEADER, *body]) + "\n" + _LEGEND


def _cells(line: Mapping[Any, Any], unusual: str) -> list[str]:
    """Prints the numbers of one method, floored."""
    return [
        line["method"],
        str(line["images"]),
        _number(100 * tables.floor_to(line["proxy@0"], 3), 1),  # as a fraction, see tables.py
        _number(tables.floor_to(line["proxy_acr"], 3), 3),
        str(line["abstentions"]),
        unusual,
        *(
            _number(tables.floor_to(line[name], 3), 3)
            for name in ("fit_seconds", "certify_seconds")
        ),
    ]


def _number(floored: float, digits: int) -> str:
    """Prints a number, or that a log does not know it."""
    return "-" if math.isnan(floored) else f"{floored:.{digits}f}"


def _unusual(rows: pd.DataFrame) -> str:
    """Counts the fits that did not end as fits should, by how they ended."""
    counts = Counter(ending for ending in rows["fit_status"].dropna() if ending not in _USUAL)
    return ", ".join(f"{counts[ending]} {ending}" for ending in sorted(counts)) or "-"


def _slowest(frame: pd.DataFrame) -> str:
    """Prints the images that took longest."""
    timed = frame.assign(seconds=frame[["fit_seconds", "certify_seconds"]].sum(axis=1))
    slow = timed.nlargest(_SLOWEST, "seconds").to_dict("records")
    body = [[str(one["index"]), one["method"], f"{one['seconds']:.3f}"] for one in slow]
    title = "slowest images, fit and certificate together; images of a shard share its mean"
    return title + "\n" + tables.aligned([("index", "method", "seconds"), *body])


def _plain(value: Any) -> Any:
    """Turns numpy scalars into Python's, and numbers that JSON lacks into None."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain

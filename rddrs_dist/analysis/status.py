"""What a run's folder tells of the run while it goes on and once it has ended."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rddrs_dist.analysis import captions, tables
from rddrs_dist.analysis.lines import Line, lines_of
from rddrs_dist.results import files
from rddrs_dist.results.reading import read_run

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


def progress(out: Path) -> dict[str, float] | None:
    """Reads what `write_progress` last wrote to the folder of a run; None where that is nothing.

    Raises:
        ValueError: If the file is not JSON or lacks a number.
    """
    path = out / PROGRESS
    try:
        known = json.loads(path.read_bytes())
        return {key: known[key] + 0 for key in _KEYS}
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be the JSON of a driver's progress with {', '.join(_KEYS)}, got "
            f"{files.reason(error)}; remove it, a driver writes it again"
        ) from error


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
    files.replace_json(out / PROGRESS, values)


def status(out: Path, now: float) -> str:
    """Tells how far a run is and how it goes at a unix time; safe while a driver writes.

    It tells the state, the table of proxy radii over the images that are on disk, how many regions
    are sighted, the fits that did not end as fits should, and the slowest images.

    Raises:
        FileNotFoundError: If the folder holds no run.
        ValueError: If a file of the run cannot be read.
    """
    if not (out / files.CONFIG).exists():
        files.run_parts(out)
    # Asked before the rows are read: those of a complete run are then all among them.
    complete = (out / files.SUCCESS).exists()
    known = progress(out)
    lines = _lines_on_disk(out)
    # Those that --resume would not try again.
    kept = [line.rows.loc[line.rows["error"].isna(), "index"] for line in lines]
    state = _state(len(set().union(*kept)), known, complete, now)
    if not lines:
        return f"{state}\n\nno part is finished yet\n"
    table = tables.to_text(tables.summary(lines, ["proxy"]))
    notes = "".join(f"{sentence}\n" for sentence in captions.notes(lines, ["proxy"]))
    return f"{state}\n\n{table}\n{notes}{_unusual(lines)}\n{_slowest(lines)}"


def summary(lines: Sequence[Line], run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of summary.json: `run`, plain JSON values, and its table as `methods`.

    What is not known (NaN) or not finite is None, since JSON has no word for either.
    """
    table = tables.summary(lines).replace([math.inf, -math.inf], math.nan).astype(object)
    return {"run": run, "methods": table.where(table.notna(), None).to_dict("records")}


def _lines_on_disk(out: Path) -> list[Line]:
    """Reads the parts that are on disk; no line where there is none."""
    while found := files.part_paths(out):
        try:
            return lines_of(*read_run(out, with_disjoint=False))
        except (FileNotFoundError, ValueError):
            # A driver that starts sets bad parts aside, perhaps just after we listed them.
            if found.keys() <= files.part_paths(out).keys():
                raise
    return []


def _state(kept: int, known: Mapping[str, float] | None, complete: bool, now: float) -> str:
    """Says in one line whether the run goes on, how far it is and how fast."""
    if known is None:
        unknown = f"not complete: {kept} images, no {PROGRESS} tells of a driver"
        return f"complete: {kept}/{kept} images" if complete else unknown
    quiet = now - known["updated"]
    running = not complete and quiet <= _SILENT_SECONDS
    # The rate is that of the last driver, without the images of earlier ones.
    seconds = known["updated"] - known["started"]
    rate = (known["done"] - known["before"]) / seconds if seconds > 0 else 0.0
    # A driver knows of images whose part is not whole yet; without one, what is on disk counts.
    done = known["done"] if running else kept
    facts = [f"{done}/{known['images']} images", f"{60 * rate:.1f} images/min"]
    if running:
        left = known["images"] - done
        facts.append(f"ETA {_duration(left / rate) if rate else 'unknown'}")
    facts.append(f"actors {known['actors']}/{known['wanted']}")
    facts.append(f"retries {known['retries']}, losses {known['losses']}")
    if complete or running:
        return f"{'complete' if complete else 'running'}: {', '.join(facts)}"
    return f"stopped {_duration(quiet)} ago: {', '.join(facts)}; go on with --resume"


def _duration(seconds: float) -> str:
    """Prints seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _unusual(lines: Sequence[Line]) -> str:
    """Prints how many fits of each line did not end as fits should; nothing where all did."""
    told = ""
    for line in lines:
        endings = Counter(line.rows["fit_status"].dropna())
        if unusual := [f"{endings[name]} {name}" for name in sorted(endings.keys() - _USUAL)]:
            told += f"unusual fits of {line.method}: {', '.join(unusual)}\n"
    return told


def _slowest(lines: Sequence[Line]) -> str:
    """Prints the images that took longest."""
    frame = pd.concat([line.rows for line in lines])
    timed = frame.assign(seconds=frame[["fit_seconds", "certify_seconds"]].sum(axis=1))
    slow = timed.nlargest(_SLOWEST, "seconds").to_dict("records")
    body = [[str(one["index"]), one["method"], f"{one['seconds']:.3f}"] for one in slow]
    title = "slowest images, fit and certificate together; images of a shard share its mean"
    return f"{title}\n{tables.aligned([('index', 'method', 'seconds'), *body])}\n"

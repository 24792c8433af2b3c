"""Rows of a run as logs that the scripts of other projects read."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tyro.conf import Positional

from rddrs_dist.analysis.curves import lines, select
from rddrs_dist.analysis.logs.formats import FORMATS, Format
from rddrs_dist.analysis.sizes import METRICS
from rddrs_dist.results import files as parts


@dataclass(frozen=True)
class Export:
    """Write the rows of a run as tab-separated logs, one per method.

    Attributes:
        dir: Folder written by `rddrs certify`.
        out: Folder for the logs; made if missing.
        format: cohen-tsv, the columns of locuslab/smoothing, with one radius; or ancer-tsv, those
            of ANCER, with l2 and proxy radius.
        radius: The radius of cohen-tsv: l2, proxy, capped, or sound after `rddrs soundness`.
    """

    dir: Positional[Path]
    out: Path
    format: Literal["cohen-tsv", "ancer-tsv"] = "cohen-tsv"
    radius: Literal["l2", "proxy", "capped", "sound"] = "l2"


def export(
    frame: pd.DataFrame, folder: Path, *, kind: str = "cohen-tsv", radius: str = "l2"
) -> list[Path]:
    """Writes one log per sigma and method, such as `rs-sigma-0.25.tsv`.

    Radii are the shortest decimals that read back as the stored numbers, not rounded to 3 digits
    as in the logs of others. An abstention is predict -1 and radius 0.0 there as here.

    Args:
        frame: Rows as `read` or `read_many` returns them.
        folder: Where the logs go; made if missing. Logs of the same names are replaced.
        kind: cohen-tsv or ancer-tsv.
        radius: Name in `metrics.METRICS` of the radius of cohen-tsv; the names of the logs have it
            where it is not l2.

    Returns:
        The paths written.

    Raises:
        ValueError: If rows lack a size that the log wants, or the folder holds a run or is a file.
        OSError: If a log could not be written; it is then not there, or as it was.
    """
    _check_folder(folder)
    columns = _columns(FORMATS[kind], radius)
    texts = {}
    for sigma, method in lines(frame):
        name = f"{method}-sigma-{sigma}{_suffix(kind, radius)}.tsv"
        rows = select(frame, method=method, sigma=sigma)
        texts[name] = _text(name, rows, FORMATS[kind], columns)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        parts.replace(folder / name, text.encode(), then="export again")
    return [folder / name for name in texts]


def _suffix(kind: str, radius: str) -> str:
    """What tells logs of one method apart by their columns and their radius."""
    if kind != "cohen-tsv":
        return "-" + kind.removesuffix("-tsv")
    return "" if radius == "l2" else f"-{radius}"


def _check_folder(folder: Path) -> None:
    """Raises where logs cannot go to a folder, or would stand among the data of a run."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"logs go to a folder, got the file {folder}; pass another --out")
    parts.refuse_run(folder, "logs")


def _columns(kind: Format, radius: str) -> Mapping[str, str]:
    """Our column behind each column of sizes of a log."""
    columns = {theirs: own[0] for theirs, own in kind.sizes.items()}
    return columns | {"radius": METRICS[radius]} if kind.name == "cohen-tsv" else columns


def _text(name: str, rows: pd.DataFrame, kind: Format, columns: Mapping[str, str]) -> str:
    """A whole log."""
    for own in columns.values():
        if own not in rows or not np.isfinite(rows[own].to_numpy(np.float64)).all():
            raise ValueError(
                f"{name} wants {own} of every image, got rows without it; choose another --radius "
                "or --format (sound wants `rddrs soundness` first)"
            )
    ordered = rows.sort_values("index").to_dict("records")
    return "\n".join([kind.header, *_lines(ordered, kind, columns)]) + "\n"


def _lines(rows: list[dict[Any, Any]], kind: Format, columns: Mapping[str, str]) -> Iterator[str]:
    """The lines of a log below its header."""
    for row in rows:
        cells = {
            "idx": str(row["index"]),
            "label": str(row["label"]),
            "predict": str(row["prediction"]),
            "correct": str(int(row["correct"])),
            "time": str(datetime.timedelta(seconds=row["certify_seconds"])),
        } | {theirs: repr(float(row[own])) for theirs, own in columns.items()}
        yield "\t".join(cells[name] for name in kind.columns)

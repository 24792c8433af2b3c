"""Logs of other projects as a folder of rows that is read and drawn like a run."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from rddrs_dist.analysis.curves import METHOD_ORDER
from rddrs_dist.analysis.logs.formats import COHEN
from rddrs_dist.analysis.logs.marks import Mark
from rddrs_dist.analysis.logs.parsing import Log, read_logs
from rddrs_dist.analysis.sizes import METRICS
from rddrs_dist.analysis.styles import label
from rddrs_dist.results import files as parts
from rddrs_dist.results.columns import IMPORTED, SCHEMA, canonical_json
from rddrs_dist.results.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,39}")


@dataclass(frozen=True)
class Import:
    """Make a folder of results of the log of another project, to be drawn beside runs.

    Attributes:
        files: Logs of one run that locuslab/smoothing, DDRS or ANCER wrote, radii in the l2 norm.
        out: Folder to make, as `rddrs curves` takes it.
        name: What the line is called; none of our methods.
        sigma: Standard deviation of the base noise; no log has it.
        dataset: Name of the data set, as in --dataset of the runs to draw it beside.
        n: Samples that estimated.
        n0: Samples that selected.
        alpha: Probability with which a certificate may be wrong.
        radius: Which radius a log with a single one has: ball, that of a certified ball, which is
            both the l2 and the proxy radius; or one of l2, proxy and capped for a log that
            `rddrs export --radius` made.
    """

    files: Positional[tuple[Path, ...]]
    out: Path
    name: str
    sigma: float
    dataset: str | None = None
    n: int | None = None
    n0: int | None = None
    alpha: float | None = None
    radius: Literal["ball", "l2", "proxy", "capped"] = "ball"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "--name must be up to 40 letters, digits, spaces and . _ + -, a letter or digit "
                f"first, got {self.name!r}; choose another"
            )
        taken = {name.casefold() for own in METHOD_ORDER for name in (own, label(own))}
        if self.name.casefold() in taken:
            raise ValueError(
                f"--name must not be one of our methods, got {self.name!r}: a figure would show "
                "the log as if it were a run; choose another, such as cohen"
            )
        for name, low, high in (
            ("sigma", 0, math.inf),
            ("alpha", 0, 1),
            ("n", 0, math.inf),
            ("n0", 0, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not low < value < high:
                limits = "above 0" + (" and below 1" if high == 1 else " and finite")
                raise ValueError(f"--{name} must be {limits}, got {value}; correct it")


def import_log(options: Import) -> tuple[int, Mark]:
    """Reads a log and writes its rows; what the log does not know is null.

    Returns:
        The number of images, and how figures mark the log.

    Raises:
        ValueError: If a file is no log (see `read_logs`), has two radii where one was named, or
            the folder is in use.
        OSError: If a file could not be read or written.
    """
    log = read_logs(options.files)
    rows = list(_rows(options, log))
    _check_new(options.out)
    config = _config(options, log)
    text = canonical_json(config)
    metadata = {IMPORTED: canonical_json(config[IMPORTED])}
    run_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    with Store.open(options.out, run_id=run_id, config=config, metadata=metadata) as store:
        store.write(0, rows)
        store.complete({})
    return len(rows), Mark(options.name, log.digits)


def _check_new(out: Path) -> None:
    """Raises where the folder holds rows already."""
    if out.is_dir() and ((out / parts.CONFIG).exists() or parts.part_paths(out)):
        raise ValueError(
            f"--out must be a new or an empty folder, got {out}, which holds rows; name another"
        )


def _config(options: Import, log: Log) -> dict[str, Any]:
    """What is recorded of an import."""
    return {
        IMPORTED: {
            "format": log.format.name,
            "radius": options.radius,
            "digits": log.digits,
            "files": [dict(file) for file in log.files],
        },
        "method": options.name,
        "dataset": options.dataset,
        "sigma": options.sigma,
        "n": options.n,
        "n0": options.n0,
        "alpha": options.alpha,
    }


def _rows(options: Import, log: Log) -> Iterator[dict[str, Any]]:
    """The rows of a log, in the columns of a run."""
    sizes = _sizes(options, log)
    told = {name: getattr(options, name) for name in ("sigma", "n", "n0", "alpha")}
    for line in log.lines:
        yield (
            dict.fromkeys(SCHEMA.names)
            | told
            | {
                "index": line["idx"],
                "label": line["label"],
                "method": options.name,
                "prediction": line["predict"],
                "correct": line["correct"],
                "certify_seconds": line["time"],
                "shard": 0,
            }
            | {own: line[theirs] for theirs, names in sizes.items() for own in names}
        )


def _sizes(options: Import, log: Log) -> Mapping[str, Sequence[str]]:
    """For each column of sizes of a log those of ours that it fills."""
    if options.radius == "ball":
        return log.format.sizes
    if log.format is not COHEN:
        raise ValueError(
            f"--radius {options.radius} wants a log of {COHEN.name}, got one of "
            f"{log.format.name}, whose columns say which radii they are; leave --radius out"
        )
    return {"radius": (METRICS[options.radius],)}

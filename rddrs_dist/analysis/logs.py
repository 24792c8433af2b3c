"""Logs of other projects: read as lines of a figure, and written of our own lines.

A log has one line per image, cells separated by tabs; radii and sigmas in pixels scaled to [0, 1],
printed with `{:.3}`: 3 significant digits, rounded to the nearest and so upward as often as
downward. `correct` is 0 or 1; an abstention has `predict` -1, `radius` 0.0 and `correct` 0. `time`
is a `datetime.timedelta` as text, or plain seconds in older logs, of certification without any
fit. Neither data set, split, network, sigma of the base noise, n0, n, alpha nor norm is in a log.

- cohen-tsv: code/certify.py of github.com/locuslab/smoothing, with logs under data/certify (ten of
  them with time in seconds). So also ddsmoothing/scripts/certify_dataset.py of
  github.com/MotasemAlfarra/Data_Dependent_Randomized_Smoothing, and code/certify.py of
  github.com/jh-jeong/smoothing-consistency, with logs of MNIST under data/certify/mnist.
- ddrs-tsv: certify_ds.py of github.com/MotasemAlfarra/Data_Dependent_Randomized_Smoothing;
  `sigma` is that of the image.
- ancer-tsv: scripts/certify_dataset.py of github.com/MotasemAlfarra/ANCER; `radius` is the
  smallest axis times the gap, `radius_proxy` the geometric mean of the axes times the gap.
"""

import datetime
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rddrs_dist.analysis.lines import Line, in_order
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.methods import METHODS
from rddrs_dist.results import files
from rddrs_dist.results.columns import ABSTAIN, SCHEMA
from rddrs_dist.results.reading import Source

ROUNDED_DIGITS = 3  # of `{:.3}`
# A ball inside an ellipsoid is no larger than it, but for two roundings to 3 digits and ANCER's
# product of thousands of roots in single precision.
_SLACK = 1.02
RADII = ("l2", "proxy", "disjoint")
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]*)?(?:e(?:-[0-9]{1,3}|\+?[0-9]{1,2}))?"
_WHOLE = "[0-9]{1,18}"
_WORD = re.compile(
    rf"(?P<name>[A-Za-z0-9][A-Za-z0-9 ._+-]{{0,39}})@(?P<sigma>{_NUMBER})"
    rf"(:(?P<radius>{'|'.join(RADII)}))?=(?P<file>.+)"
)

# Columns of each kind of log, and those of our own that each of its sizes fills.
KINDS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "cohen-tsv": (
        ("idx", "label", "predict", "radius", "correct", "time"),
        {"radius": ("l2_radius", "proxy_radius")},
    ),
    "ddrs-tsv": (
        ("idx", "label", "predict", "radius", "correct", "sigma", "time"),
        {
            "radius": ("l2_radius", "proxy_radius"),
            "sigma": ("min_axis", "mean_axis", "max_axis"),
        },
    ),
    "ancer-tsv": (
        ("idx", "label", "predict", "radius", "radius_proxy", "correct", "min_sigma", "time"),
        {"radius": ("l2_radius",), "radius_proxy": ("proxy_radius",), "min_sigma": ("min_axis",)},
    ),
}
# What the cells of each column look like, and what they are in words and as numbers.
_COUNTING = (_WHOLE, "a whole number, 0 or more", "int64")
_SIZED = (_NUMBER, "a finite number, 0 or more", "float64")
_CELLS = {
    "idx": _COUNTING,
    "label": _COUNTING,
    "predict": (f"{ABSTAIN}|{_WHOLE}", "a class, or -1 for an abstention", "int64"),
    "correct": ("[01]", "0 or 1", "int64"),
    "time": (
        rf"(?:[0-9]+ days?, )?[0-9]+:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]{{6}})?|{_NUMBER}",
        "seconds, or H:MM:SS.ffffff",
        "str",
    ),
    **dict.fromkeys(("radius", "radius_proxy", "sigma", "min_sigma"), _SIZED),
}
_OURS = {"idx": "index", "predict": "prediction", "time": "certify_seconds"}


def read_logs(words: Sequence[str]) -> list[Line]:
    """Reads logs named as NAME@SIGMA=FILE, each as one line.

    A log with a single radius is one of balls, whose l2 radius and proxy radius are equal; of logs
    that `export` wrote, NAME@SIGMA:RADIUS=FILE says which radius it is.

    Raises:
        ValueError: If a word is none of these, or a file cannot be read; see `read_log`.
    """
    found = []
    for word in words:
        match = _WORD.fullmatch(word)
        if not match or not (sigma := float(match["sigma"])):
            raise ValueError(
                "--logs wants NAME@SIGMA=FILE or NAME@SIGMA:RADIUS=FILE, NAME of up to 40 "
                "letters, digits, spaces and . _ + -, SIGMA above 0, RADIUS one of "
                f"{', '.join(RADII)}, got {word!r}; correct it"
            )
        found.append(read_log(Path(match["file"]), match["name"], sigma, match["radius"]))
    return in_order(found)


def read_log(path: Path, name: str, sigma: float, radius: str | None = None) -> Line:
    """Reads a log as one line; what it does not know is null.

    Args:
        path: The file.
        name: What the line is called; none of our methods.
        sigma: Standard deviation of the base noise, which no log has.
        radius: One of `RADII` that the single radius of a log is; that of balls if None.

    Raises:
        ValueError: If the name is that of a method, or the file is none of the known logs, is cut
            off, holds a cell that is not what its column wants or contradicts another, cannot be
            read, or an image comes twice.
    """
    taken = {word.casefold() for own in METHODS.values() for word in (own.name, own.label)}
    if name.casefold() in taken:
        raise ValueError(
            f"a log must not be called like one of our methods, got {name!r}: a figure would show "
            "it as if it were a run; choose another name, such as cohen"
        )
    kind, log, digits = _read(path)
    sizes = KINDS[kind][1]
    if radius is not None and kind != "cohen-tsv":
        raise ValueError(
            f"{path} must be a log of cohen-tsv where its radius is named, got one of {kind}, "
            f"whose columns say which radii they are; leave :{radius} out"
        )
    if radius is not None:
        sizes = {"radius": (SIZES[radius].column,)}
    log = log.sort_values("idx", ignore_index=True)
    filled = {ours: log[theirs] for theirs, columns in sizes.items() for ours in columns}
    rows = log.drop(columns=list(sizes)).rename(columns=_OURS)
    rows = rows.assign(method=name, **filled, sigma=sigma)
    rows = rows.reindex(columns=list(dict.fromkeys([*SCHEMA.names, *rows.columns])))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Line(sigma, name, rows, Source(path, sha256, {}, {}, digits=digits))


def _read(path: Path) -> tuple[str, pd.DataFrame, int]:
    """Reads a file: its kind, its cells, and the significant digits of its radii."""
    header, *lines = _text(path) or [""]
    kind = next((kind for kind, (own, _) in KINDS.items() if header == "\t".join(own)), None)
    if kind is None:
        known = "; ".join(f"{' '.join(own)} ({name})" for name, (own, _) in KINDS.items())
        raise ValueError(
            f"{path}, line 1: a header is wanted, separated by tabs, one of: {known}; got "
            f"{header[:80]!r}; give a log of certification"
        )
    if not lines:
        raise ValueError(f"{path} must have a line for at least one image, got a header alone")
    columns, cells = list(KINDS[kind][0]), [line.split("\t") for line in lines]
    log = pd.DataFrame({"text": lines, "got": list(map(len, cells))})
    log["place"] = [f"{path}, line {number}" for number in range(2, len(lines) + 2)]
    wanted = f"{len(columns)} cells separated by tabs are wanted ({' '.join(columns)})"
    _check(log, log["got"] == len(columns), wanted + ", got {got} in {text!r:.80}")
    log[columns] = cells
    for name in columns:
        pattern, wanted, _ = _CELLS[name]
        fault = f"{name} must be {wanted}, got {{{name}!r}}"
        _check(log, log[name].str.fullmatch(pattern), fault)
    radii = pd.concat([log[name] for name in columns if "radius" in name])
    digits = radii.str.split("e").str[0].str.replace(".", "").str.strip("0").str.len().max()
    log = log.astype({name: _CELLS[name][2] for name in columns})
    seconds = [text if ":" in text else f"{text} s" for text in log["time"]]
    log["time"] = pd.to_timedelta(seconds).total_seconds()
    log["proxy"] = log["radius_proxy" if "radius_proxy" in log else "radius"]
    log["right"] = (log["predict"] == log["label"]).astype(int)
    nothing = (log["radius"] == 0) & (log["proxy"] == 0)
    _check(log, ~log.duplicated("idx"), "every idx must come once, got {idx} again")
    fault = "an abstention (predict -1) must have radius 0, got {radius} and {proxy}"
    _check(log, nothing | (log["predict"] != ABSTAIN), fault)
    fault = "correct must be {right} where label is {label} and predict {predict}, got {correct}"
    _check(log, log["correct"] == log["right"], fault)
    fault = "radius_proxy must be at least radius, which is {radius}, got {proxy}"
    _check(log, log["radius"] <= _SLACK * log["proxy"], fault)
    log["correct"] = log["correct"] == 1
    return kind, pd.DataFrame(log[columns]), max(ROUNDED_DIGITS, int(digits))


def _text(path: Path) -> list[str]:
    """The lines of a file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"log {path} does not exist; give another file to --logs") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} must be a log of text, got {files.reason(error)}; give another file"
        ) from error
    lines = text.replace("\r\n", "\n").split("\n")
    if last := lines.pop():
        raise ValueError(
            f"{path}, line {len(lines) + 1}: a log ends with the end of a line, got {last!r} and "
            "then nothing, as where its script was stopped; take the line away, or end it"
        )
    return lines


def _check(log: pd.DataFrame, good: Any, fault: str) -> None:
    """Raises at the first line that is not good; the fault takes its cells by their names."""
    for line in log.loc[~good].head(1).to_dict("records"):
        named = {str(name): cell for name, cell in line.items()}
        raise ValueError(f"{line['place']}: {fault.format(**named)}; mend or remove the line")


def export(
    lines: Sequence[Line], folder: Path, *, kind: str = "cohen-tsv", radius: str = "l2"
) -> list[Path]:
    """Writes one log per line, such as `rs-sigma-0.25.tsv`; logs of the same names are replaced.

    Radii are the shortest decimals that read back as the stored numbers, not rounded to 3 digits
    as in the logs of others. An abstention is predict -1 and radius 0.0 there as here. Rows go out
    as they are, sighted or not: no such log has a place for blindness.

    Args:
        lines: The lines.
        folder: Where the logs go; made if missing.
        kind: cohen-tsv or ancer-tsv.
        radius: One of `RADII`, the radius of cohen-tsv, in the names of the logs unless it is l2.

    Raises:
        ValueError: If rows lack a size that the log wants, or the folder holds a run or is a file.
        OSError: If a log could not be written; it is then not there, or as it was.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"logs go to a folder, got the file {folder}; pass another --out")
    files.refuse_run(folder, "logs")
    sizes = {theirs: ours[0] for theirs, ours in KINDS[kind][1].items()}
    suffix = f"-{kind.removesuffix('-tsv')}"
    if kind == "cohen-tsv":
        sizes, suffix = {"radius": SIZES[radius].column}, "" if radius == "l2" else f"-{radius}"
    texts = {}
    for line in lines:
        name = f"{line.method}-sigma-{line.sigma}{suffix}.tsv"
        for column in sizes.values():
            if not np.isfinite(line.column(column)).all():
                raise ValueError(
                    f"{name} wants {column} of every image, got rows without it; choose another "
                    "--radius or --format (disjoint wants `rddrs disjoint` first)"
                )
        cells = {
            "idx": line.rows["index"],
            "label": line.rows["label"],
            "predict": line.rows["prediction"],
            "correct": line.rows["correct"].astype(int),
            "time": [str(datetime.timedelta(seconds=s)) for s in line.rows["certify_seconds"]],
        } | {theirs: line.rows[ours] for theirs, ours in sizes.items()}
        log = pd.DataFrame(cells)[list(KINDS[kind][0])]
        texts[name] = log.to_csv(sep="\t", index=False, lineterminator="\n")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        files.replace(folder / name, text.encode(), then="export again")
    return [folder / name for name in texts]

"""Reads logs line by line; what is not as those projects write it is refused with its place."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rddrs_dist.analysis.logs.formats import (
    CELLS,
    FORMATS,
    ROUNDED_DIGITS,
    Format,
    digits,
)
from rddrs_dist.results import files as parts
from rddrs_dist.results.columns import ABSTAIN

# A ball inside an ellipsoid is no larger than it, but for two roundings to 3 digits and ANCER's
# product of thousands of roots in single precision.
_SLACK = 1.02


@dataclass(frozen=True, eq=False)
class Log:
    """One or more files that together are the log of one run.

    Attributes:
        format: Its kind.
        lines: One mapping per image, from columns of the log to their values.
        digits: Most significant digits of a radius in it, 3 or more.
        files: Name and sha256 of each file.
    """

    format: Format
    lines: Sequence[Mapping[str, Any]]
    digits: int
    files: Sequence[Mapping[str, str]]


def read_logs(paths: Sequence[Path]) -> Log:
    """Reads logs of one kind as one.

    Args:
        paths: Files, at least one; no image may be in them twice.

    Raises:
        ValueError: If a file is none of the known logs, is cut off, holds a cell that is not what
            its column wants or contradicts another, cannot be read, or an image comes twice.
    """
    if not paths:
        raise ValueError("a log is wanted, got no file; name one")
    read = [_read(path) for path in paths]
    kinds = sorted({one.format.name for one in read})
    if len(kinds) > 1:
        raise ValueError(
            f"logs that are imported as one must be of one format, got {' and '.join(kinds)}; "
            "import each by itself"
        )
    _check_unique(paths, read)
    lines = [line for one in read for line in one.lines]
    fewest = min(one.digits for one in read)
    return Log(read[0].format, lines, fewest, [file for one in read for file in one.files])


def _read(path: Path) -> Log:
    """Reads one file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} must be a log, got {parts.reason(error)}; name another file"
        ) from error
    texts = _texts(path, content)
    kind = _format(path, texts[0])
    if len(texts) == 1:
        raise ValueError(f"{path} must have a line for at least one image, got a header alone")
    cells = [_split(path, number, text, kind) for number, text in enumerate(texts[1:], 2)]
    lines = [_line(path, number, own) for number, own in enumerate(cells, 2)]
    sizes = [name for name in kind.sizes if "radius" in name]
    most = max(digits(own[name]) for own in cells for name in sizes)
    file = {"name": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    return Log(kind, lines, max(most, ROUNDED_DIGITS), [file])


def _texts(path: Path, content: bytes) -> list[str]:
    """The lines of a file, header first."""
    if not content.strip():
        raise ValueError(f"{path} must be a log, got an empty file; give another")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be a log of text, got {parts.reason(error)}; give another file"
        ) from error
    lines = text.replace("\r\n", "\n").split("\n")
    if last := lines.pop():
        raise ValueError(
            f"{path}, line {len(lines) + 1}: a log ends with the end of a line, got {last!r} and "
            "then nothing, as where its script was stopped; take the line away, or end it"
        )
    return lines


def _format(path: Path, header: str) -> Format:
    """The kind of log that a header begins."""
    for one in FORMATS.values():
        if header == one.header:
            return one
    known = "; ".join(f"{' '.join(one.columns)} ({one.name})" for one in FORMATS.values())
    raise ValueError(
        f"{path}, line 1: a header is wanted, separated by tabs, one of: {known}; got "
        f"{header[:80]!r}; give a log of certification"
    )


def _split(path: Path, number: int, text: str, kind: Format) -> dict[str, str]:
    """The cells of a line by their columns."""
    cells = text.split("\t")
    if len(cells) != len(kind.columns):
        raise ValueError(
            f"{path}, line {number}: {len(kind.columns)} cells separated by tabs are wanted "
            f"({' '.join(kind.columns)}), got {len(cells)} in {text[:80]!r}; mend the line or "
            "take it away"
        )
    return dict(zip(kind.columns, cells, strict=True))


def _line(path: Path, number: int, cells: Mapping[str, str]) -> dict[str, Any]:
    """The values of a line."""
    values = {}
    for name, text in cells.items():
        read, wanted = CELLS[name]
        values[name] = read(text)
        if values[name] is None:
            raise ValueError(
                f"{path}, line {number}: {name} must be {wanted}, got {text!r}; mend the line or "
                "take it away"
            )
    if fault := _contradiction(values):
        raise ValueError(f"{path}, line {number}: {fault}; mend the line or take it away")
    return values


def _contradiction(line: Mapping[str, Any]) -> str | None:
    """What does not go together in a line; None where all does."""
    sizes = [line[name] for name in ("radius", "radius_proxy") if name in line]
    if line["predict"] == ABSTAIN and any(sizes):
        return f"an abstention (predict -1) must have radius 0, got {max(sizes)}"
    right = line["predict"] == line["label"]
    if line["correct"] != right:
        return (
            f"correct must be {right:d} where label is {line['label']} and predict "
            f"{line['predict']}, got {line['correct']:d}"
        )
    if sizes[0] > _SLACK * sizes[-1]:
        return f"radius_proxy must be at least radius, which is {sizes[0]}, got {sizes[-1]}"
    return None


def _check_unique(paths: Sequence[Path], read: Sequence[Log]) -> None:
    """Raises where an image comes twice."""
    seen: dict[int, str] = {}
    for path, log in zip(paths, read, strict=True):
        for number, line in enumerate(log.lines, 2):
            place = f"{path}, line {number}"
            if (first := seen.get(line["idx"])) is not None:
                raise ValueError(
                    f"{place}: every idx must come once, got {line['idx']} as in {first}; take "
                    "one of them away"
                )
            seen[line["idx"]] = place

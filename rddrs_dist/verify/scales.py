"""Stored scales: what they hash to, and the axes that rows claim of them."""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rddrs_dist.verify.certificates import LOOSE, ROUNDING
from rddrs_dist.verify.findings import (
    Fault,
    Finding,
    Outcome,
    Row,
    located,
    odd,
    over_rows,
    place,
    wrong,
)
from rddrs_dist.verify.folder import line

Floats = NDArray[np.float64]
Key = tuple[str, int]
_FILE = re.compile(r"_scales-\d{5,}\.safetensors")
_NAME = re.compile(r"(\w+)/(\d+)/(isotropic|diagonal|lower|dense)")


@dataclass(frozen=True, eq=False)
class Scale:
    """A stored scale S of one image.

    Attributes:
        kind: isotropic, diagonal, lower or dense.
        values: One number, the diagonal, the lower triangle or all of S, row by row; float32.
    """

    kind: str
    values: NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """Hash of the kind, the type of numbers and their bytes."""
        head = f"{self.kind} {self.values.dtype.str} ".encode()
        return hashlib.sha256(head + self.values.tobytes()).hexdigest()

    def numbers(self, d: int) -> int:
        """How many numbers the scale of an image of d elements has."""
        return {"isotropic": 1, "diagonal": d, "lower": d * (d + 1) // 2}.get(self.kind, d * d)

    def matrix(self, d: int) -> NDArray[np.float32]:
        """S itself, (d, d)."""
        if self.kind == "dense":
            return self.values.reshape(d, d)
        if self.kind != "lower":
            return np.diag(np.broadcast_to(self.values, d))
        matrix = np.zeros((d, d), np.float32)
        matrix[_lower(d)] = self.values
        return matrix


@lru_cache(2)
def _lower(d: int) -> NDArray[np.bool_]:
    """Where a lower triangle has its numbers, (d, d)."""
    return np.tri(d, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Axes:
    """Singular values of a scale between bounds.

    Computed singular values of a (d, d) matrix lie within d eps ||S|| of the true ones (Weyl's
    inequality, for a backward stable decomposition); those of a diagonal are read off.

    Attributes:
        found: (d,), ascending, in pixels.
        error: How far each may be from the truth, in pixels.
        log_mean: Mean logarithm of the true ones where it is known by itself, as that of a
            triangle is from its diagonal; else None.
        lost: What bounds from eigenvalues of S^T S, as a GPU finds them, may be below the squares
            of the true ones, in square pixels.
    """

    found: Floats
    error: float
    log_mean: float | None
    lost: float

    @classmethod
    def of(cls, scale: Scale, d: int, by_squares: bool = False) -> "Axes":
        """The axes of a scale of d elements, and whether a run found them by their squares."""
        if scale.kind in ("isotropic", "diagonal"):
            read = np.asarray(np.sort(np.broadcast_to(scale.values, d)), np.float64)
            return cls(read, 0.0, _mean_log(read), 0.0)
        matrix = scale.matrix(d).astype(np.float64)
        found = np.asarray(np.linalg.svd(matrix, compute_uv=False)[::-1], np.float64)
        error = d * float(np.finfo(np.float64).eps) * float(found[-1])
        known = _mean_log(np.abs(np.diag(matrix))) if scale.kind == "lower" else None
        # Twice 2 d eps ||S||_F^2: the bound and the error it is for.
        lost = 4 * d * float(np.finfo(np.float64).eps) * math.fsum(found**2) if by_squares else 0.0
        return cls(found, error, known, lost)

    @cached_property
    def above(self) -> Floats:
        """Upper bounds of the axes, however they were found."""
        raised = np.sqrt(self.found**2 + self.lost / 2)
        return (raised if self.lost else self.found) + self.error

    @cached_property
    def below(self) -> Floats:
        """What a bound of the axes that is lowered by their error twice may come down to."""
        lowered = np.sqrt(np.maximum(self.found**2 - self.lost, 0.0))
        return np.maximum((lowered if self.lost else self.found) - 3 * self.error, 0.0)

    @property
    def mean_above(self) -> float:
        """Upper bound of their geometric mean; 1e-13 is what logarithms may add."""
        known = _mean_log(self.above) if self.log_mean is None else self.log_mean
        return math.exp(known) * (1 + 1e-13)


def _mean_log(values: Floats) -> float:
    """Mean logarithm; -inf where a value is 0."""
    if not np.all(values > 0):
        return -math.inf
    return math.fsum(np.log(values)) / len(values)


class Stored:
    """The scales in a folder, read when they are asked for."""

    def __init__(self, folder: Path, pattern: re.Pattern[str] = _FILE) -> None:
        """Looks up what there is; files that cannot be read go to `findings`."""
        self._where: dict[Key, tuple[Path, str]] = {}
        self.findings: list[Finding] = []
        self.files = sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name))
        for file in self.files:
            self.findings += located("scales", file.name, self._add(file))

    def _add(self, file: Path) -> Iterator[Fault]:
        """Takes the names of one file."""
        try:
            with safe_open(file, framework="numpy") as stored:
                names = list(stored.keys())
        except (SafetensorError, OSError) as error:
            yield wrong("a whole file of scales", line(error))
            return
        for name in names:
            if not (match := _NAME.fullmatch(name)):
                yield wrong("names such as rs/7/isotropic", name)
            elif (key := (match[1], int(match[2]))) in self._where:
                yield wrong(f"one scale of image {key[1]}, {key[0]}", "another of it")
            else:
                self._where[key] = (file, name)

    def __contains__(self, row: Row) -> bool:
        return (row["method"], row["index"]) in self._where

    def __getitem__(self, row: Row) -> Scale:
        """The scale of a row."""
        file, name = self._where[row["method"], row["index"]]
        with safe_open(file, framework="numpy") as stored:
            return Scale(name.split("/")[2], stored.get_tensor(name))

    def keys(self) -> frozenset[Key]:
        """Method and index of all that is stored."""
        return frozenset(self._where)


def check_scales(rows: Sequence[Row], stored: Stored, d: int) -> Outcome:
    """Each row has a scale, of the right size, finite, and of the hash that the row tells.

    Args:
        rows: Rows to check.
        stored: What is in the folder.
        d: Elements of an image.
    """
    wanted = {(row["method"], row["index"]) for row in rows if row["scale_sha256"] is not None}
    findings = list(stored.findings)
    for method, index in sorted(stored.keys() - wanted):
        faults = [odd("scales of certified rows alone", "a scale without such a row")]
        findings += located("scales", f"image {index}, {method}", faults)
    for method, index in sorted(wanted - stored.keys()):
        faults = [wrong("a stored scale, as other rows have", "none")]
        findings += located("scales", f"image {index}, {method}", faults)
    there = [row for row in rows if row in stored]
    for row in there:
        findings += located("scales", place(row), _scale_faults(row, stored[row], d))
    return Outcome("scales", f"{len(there)} rows", tuple(findings))


def _scale_faults(row: Row, scale: Scale, d: int) -> Iterator[Fault]:
    """What is wrong with one stored scale."""
    if not is_usable(scale, d):
        found = f"{scale.values.size} of {scale.values.dtype} as {scale.kind}"
        yield wrong(f"{scale.numbers(d)} finite numbers in float32, none 0 on a diagonal", found)
    if scale.sha256 != row["scale_sha256"]:
        yield wrong(f"a scale of sha256 {row['scale_sha256']}", scale.sha256)


def is_usable(scale: Scale, d: int) -> bool:
    """Whether numbers make a scale of images of d elements."""
    values = scale.values
    if values.dtype != np.float32 or values.size != scale.numbers(d):
        return False
    positive = scale.kind in ("lower", "dense") or bool(np.all(values > 0))
    return positive and bool(np.isfinite(values).all())


def check_axes(
    rows: Sequence[Row], stored: Stored, d: int, by_squares: bool = False
) -> list[Outcome]:
    """Axes and capped sizes are those of the stored scale, and never above them.

    Args:
        rows: Rows to check.
        stored: What is in the folder.
        d: Elements of an image.
        by_squares: Whether the run found axes by their squares; see `Axes`.
    """
    there = [row for row in rows if row in stored and is_usable(stored[row], d)]
    axes: Mapping[Key, Axes] = {
        (row["method"], row["index"]): Axes.of(stored[row], d, by_squares) for row in there
    }

    def of(row: Row) -> Axes:
        return axes[row["method"], row["index"]]

    return [
        over_rows("axes", there, lambda row: _axis_faults(row, of(row))),
        over_rows("capped sizes", there, lambda row: _capped_faults(row, of(row), math.sqrt(d))),
    ]


def _axis_faults(row: Row, axes: Axes) -> Iterator[Fault]:
    """Holds the three axes of a row against those of its scale."""
    bounds = {
        "min_axis": (float(axes.below[0]), float(axes.above[0])),
        "mean_axis": (math.exp(_mean_log(axes.below)), axes.mean_above),
        "max_axis": (float(axes.below[-1]), float(axes.above[-1])),
    }
    for name, (least, most) in bounds.items():
        if row[name] > most:
            yield wrong(f"{name} of at most {most!r}", repr(row[name]))
        elif row[name] < least * (1 - LOOSE):
            yield odd(f"{name} of at least {least!r}", repr(row[name]))


def _capped_faults(row: Row, axes: Axes, widest: float) -> Iterator[Fault]:
    """Holds what is cut at the domain's diameter against the semi-axes of the region."""
    radius, capped = row["radius"], row["capped_proxy_radius"]
    least, most = (radius * bound for bound in (axes.below, axes.above))
    cut_most = math.exp(_mean_log(np.minimum(most, widest))) * (1 + 1e-13)
    cut_least = math.exp(_mean_log(np.minimum(least, widest))) * (1 - LOOSE)
    if capped > cut_most:
        yield wrong(f"capped_proxy_radius of at most {cut_most!r}", repr(capped))
    elif capped < cut_least:
        yield odd(f"capped_proxy_radius of at least {cut_least!r}", repr(capped))
    fewest = int(np.sum(least > widest * (1 + ROUNDING)))
    largest = int(np.sum(most > widest * (1 - ROUNDING)))
    if not fewest <= row["axes_beyond_domain"] <= largest:
        wanted = fewest if fewest == largest else f"{fewest} to {largest}"
        yield wrong(f"{wanted} axes beyond {widest:.6g}", row["axes_beyond_domain"])

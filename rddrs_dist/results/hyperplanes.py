"""Planes that the soundness pass has found between regions, a file for each block of pairs.

They are what regions were narrowed to, and witnesses: whoever has two regions and a plane can tell
that they are apart. Only pairs whose certified regions overlap have one here.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from rddrs_dist.results import files as parts

_PATTERN = re.compile(r"_sound-planes-\d{5,}\.safetensors")
_NORMAL = "normal"


def write(
    folder: Path,
    number: int,
    method: str,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    normals: NDArray[np.float32],
) -> Path:
    """Writes the planes of a block, whole or not at all.

    Args:
        folder: Folder of the run.
        number: Of the file.
        method: Whose regions they are.
        pairs: Index of the image of either region of each pair, (m,).
        normals: w, (m, d), with w . (x_j - x_i) > 0 for a plane between regions i and j.

    Returns:
        The file.

    Raises:
        OSError: If that failed.
    """
    path = folder / f"_sound-planes-{number:05d}.safetensors"
    named = {"first": pairs[0], "second": pairs[1], _NORMAL: normals}
    content = {f"{method}/{name}": np.ascontiguousarray(value) for name, value in named.items()}
    parts.replace(path, save(content), "run `rddrs soundness` again")
    return path


def files(folder: Path) -> list[Path]:
    """All files of planes, in order."""
    return sorted(file for file in folder.iterdir() if _PATTERN.fullmatch(file.name))


class Planes:
    """The normals in files that were written one after the other, read as they are asked for."""

    def __init__(self, method: str, dimension: int) -> None:
        self._name, self._dimension = f"{method}/{_NORMAL}", dimension
        self._files: list[Path] = []
        self._ends = [0]

    def append(self, file: Path, count: int) -> None:
        """Takes a file and how many planes it has."""
        self._files.append(file)
        self._ends.append(self._ends[-1] + count)

    def normals(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some of the normals, (m, d), by their numbers over all files, ascending."""
        found = np.empty((len(chosen), self._dimension), np.float32)
        of_file = np.searchsorted(np.array(self._ends), chosen, side="right") - 1
        for number in np.unique(of_file):
            rows = np.flatnonzero(of_file == number)
            within = (chosen[rows] - self._ends[number]).tolist()
            found[rows] = self._read(self._files[number], within)
        return found

    def _read(self, file: Path, rows: Sequence[int]) -> NDArray[np.float32]:
        """Rows of one file."""
        with safe_open(file, framework="numpy") as stored:
            part = stored.get_slice(self._name)
            return np.concatenate([part[row : row + 1] for row in rows])

"""Image sets in the usual hub layout: a folder of Parquet files with encoded images and labels.

The files of a split are named `train-*.parquet` or `test-*.parquet`, lie in the folder or in its
`data` subfolder, and hold the bytes of each image (PNG, JPEG, ...) beside an integer label.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "test")
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
# How pillow's modes are read. The others are refused: converting them loses depth or transparency.
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}


def read_hub(root: Path, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Read one split of an image set in the hub layout.

    Args:
        root: Folder that holds the files, or whose subfolder `data` does.
        split: "train" or "test".

    Returns:
        8-bit pixels of shape (N, C, H, W), with C = 1 where all images are grey and 3 otherwise;
        labels of shape (N,), int64; and the number of classes in all splits of the folder.

    Raises:
        FileNotFoundError: Where files of the split are absent.
        ValueError: Where a file, an image or a label cannot be used.
    """
    images, labels = _read_columns(_split_files(root, split), (IMAGE_COLUMNS, LABEL_COLUMNS))
    everything = [file for other in SPLITS for file in _glob(root, other)]
    (all_labels,) = _read_columns(everything, (LABEL_COLUMNS,))
    # A split may lack a class that the network knows, so the classes are those of all splits.
    classes = int(_class_numbers(all_labels, root).max()) + 1
    return _decode(images, f"{split} images of {root}"), _class_numbers(labels, root), classes


def _glob(root: Path, split: str) -> list[Path]:
    """List a split's files in a hub folder or in its `data` subfolder."""
    pattern = f"{split}-*.parquet"
    return sorted(root.glob(pattern)) or sorted((root / "data").glob(pattern))


def _split_files(root: Path, split: str) -> list[Path]:
    """List a split's files and check that all that their names announce are there."""
    files = _glob(root, split)
    if not files:
        raise FileNotFoundError(
            f"no {split}-*.parquet under {root}: name a folder in the hub layout with "
            "--data-root or RDDRS_DATA"
        )
    announced = re.search(r"-of-([0-9]+)", files[0].name)
    if announced and int(announced[1]) != len(files):
        raise FileNotFoundError(
            f"{root} holds {len(files)} {split} files where {files[0].name} announces "
            f"{int(announced[1])}: fetch the missing ones"
        )
    return files


def _read_columns(files: Sequence[Path], wanted: tuple[tuple[str, ...], ...]) -> list[list[Any]]:
    """Read columns of all files as Python lists; each is wanted under one of several names."""
    from pyarrow import ArrowException, parquet

    columns: list[list[Any]] = [[] for _ in wanted]
    for file in files:
        try:
            found = parquet.read_schema(file).names
            chosen = [_choose(names, found, file) for names in wanted]
            table = parquet.read_table(file, columns=chosen)
        except (ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{file} cannot be read ({reason}): fetch it again") from error
        for column, name in zip(columns, chosen, strict=True):
            column.extend(table[name].to_pylist())
    return columns


def _choose(names: tuple[str, ...], found: list[str], file: Path) -> str:
    """Return the first of the usual names that a file has."""
    for name in names:
        if name in found:
            return name
    raise ValueError(
        f"{file} has no column named {' or '.join(names)}, only {', '.join(found)}: rename the "
        "one that is meant"
    )


def _class_numbers(labels: list[Any], root: Path) -> np.ndarray:
    """Return labels as an int64 array of shape (N,)."""
    if strange := [label for label in labels if not isinstance(label, int)]:
        raise ValueError(f"labels under {root} must be integers, got {strange[0]!r}")
    return np.asarray(labels, dtype=np.int64)


def _decode(cells: list[Any], what: str) -> np.ndarray:
    """Decode images of one size to 8-bit pixels (N, C, H, W), with C = 1 where all are grey."""
    arrays = [_pixels(cell, f"{what}, row {row}") for row, cell in enumerate(cells)]
    sizes = sorted({array.shape[1:] for array in arrays})
    if len(sizes) != 1:
        raise ValueError(
            f"{what} must all have one size (height, width), got {len(sizes)}: "
            f"{', '.join(map(str, sizes[:4]))}; resize them first"
        )
    channels = max(array.shape[0] for array in arrays)
    return np.stack([np.broadcast_to(array, (channels, *sizes[0])) for array in arrays])


def _pixels(cell: Any, what: str) -> np.ndarray:
    """Decode one cell, bytes or a struct that holds them, to pixels of shape (1 or 3, H, W)."""
    from PIL import Image

    blob = cell.get("bytes") if isinstance(cell, dict) else cell
    if type(blob) is not bytes:
        raise ValueError(
            f"{what}: wanted the bytes of an encoded image, got {type(blob).__name__}"
        )
    try:
        with Image.open(io.BytesIO(blob)) as picture:
            if picture.mode not in MODES:
                raise ValueError(
                    f"{what}: wanted an 8-bit grey or RGB image, got mode {picture.mode}; "
                    "convert it first"
                )
            pixels = np.asarray(picture.convert(MODES[picture.mode]))
    except (OSError, SyntaxError) as error:  # pillow reports some damaged PNGs as SyntaxError
        raise ValueError(f"{what} cannot be decoded ({error}): fetch the data again") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

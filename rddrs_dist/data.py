"""Labelled image sets by name, with pixels in [0, 1] however they were stored.

`digits` is bundled with scikit-learn, `mnist` and `cifar10` are read through torchvision, and
`parquet` reads any folder in the usual hub layout: files named `train-*.parquet` or
`test-*.parquet`, in the folder or in its `data` subfolder, with the bytes of each image (PNG,
JPEG, ...) beside an integer label. The index of a result row is the position of its image in the
split, so no reader shuffles.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "test")
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
# How pillow's modes are read. The others are refused: converting them loses depth or transparency.
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their labels, in a fixed order.

    Args:
        name: Name of the data set.
        split: "train" or "test".
        images: Pixels in [0, 1], shape (N, C, H, W), float32.
        labels: Class numbers in [0, classes), shape (N,), int64.
        classes: Number of classes of the data set, which may exceed those seen here.

    Raises:
        ValueError: Where the arrays do not have these shapes, types and ranges.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    classes: int

    def __post_init__(self) -> None:
        images, labels, what = self.images, self.labels, f"{self.name} ({self.split})"
        if images.ndim != 4 or images.size == 0 or images.dtype != np.float32:
            raise ValueError(
                f"images of {what} must be a non-empty float32 array of shape (N, C, H, W), "
                f"got {images.dtype} of shape {images.shape}"
            )
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):  # also where either is NaN
            raise ValueError(
                f"pixels of {what} must be finite and in [0, 1], got [{low:g}, {high:g}]; "
                "divide 8-bit pixels by 255"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.int64:
            raise ValueError(
                f"labels of {what} must be an int64 array of shape ({len(images)},), one per "
                f"image, got {labels.dtype} of shape {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(
                f"labels of {what} must be in [0, {self.classes}) for {self.classes} classes, "
                f"got {labels.min()} to {labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of one image."""
        return self.images.shape[1:]

    @cached_property
    def sha256(self) -> str:
        """Hash of shape, pixels and labels, the same on every machine."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images, dtype="<f4").data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()


def load(
    name: str,
    split: str = "test",
    data_root: str | Path | None = None,
    download: bool = False,
) -> ImageSet:
    """Load one split of a data set by name, in the order in which it is stored.

    Args:
        name: One of `DATASETS`.
        split: "train" or "test".
        data_root: Folder that holds the data; by default that in the environment variable
            RDDRS_DATA, else `data`. `digits` needs none.
        download: Whether torchvision may fetch `mnist` and `cifar10` into `data_root`.

    Raises:
        ValueError: Where the name or split is unknown, or the files are damaged.
        FileNotFoundError: Where the data is absent.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}: wanted one of {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of {name}: wanted one of {', '.join(SPLITS)}")
    root = Path(data_root or os.environ.get("RDDRS_DATA") or "data").expanduser()
    return DATASETS[name](split, root, download)


def parse_indices(text: str, size: int) -> tuple[int, ...]:
    """Parse a choice of images such as `0:10000:100`, `7` or `0,5,9,100:200`.

    Args:
        text: Comma-separated positions and ranges `start:stop[:step]` with stop left out.
        size: Number of images to choose from.

    Returns:
        The positions, in the order given.

    Raises:
        ValueError: Where a part cannot be read, is empty, out of range or chosen twice.
    """
    indices = [index for part in text.split(",") for index in _parse_part(part.strip(), size)]
    if len(set(indices)) < len(indices):
        twice = next(index for index in indices if indices.count(index) > 1)
        raise ValueError(f"indices {text!r} choose image {twice} more than once; wanted each once")
    return tuple(indices)


def _parse_part(part: str, size: int) -> range:
    """Return the positions of one comma-separated part."""
    match = re.fullmatch(r"([0-9]{1,12})(?::([0-9]{1,12})(?::([0-9]{1,12}))?)?", part)
    if match is None:
        raise ValueError(
            f"cannot read {part!r} in indices: wanted a position such as 7 or a range "
            "start:stop[:step] such as 0:10000:100, none of them negative"
        )
    start, stop, step = int(match[1]), int(match[2] or int(match[1]) + 1), int(match[3] or 1)
    if step < 1 or start >= stop:
        raise ValueError(
            f"indices {part!r} choose no image: wanted start below stop and a step of at least 1"
        )
    if stop > size:
        raise ValueError(
            f"indices {part!r} go past the end: the data set has {size} images, "
            f"so the last position is {size - 1} and no stop may exceed {size}"
        )
    return range(start, stop, step)


def _digits(split: str, _root: Path, _download: bool) -> ImageSet:
    """Read scikit-learn's 1,797 digits of 8x8 pixels; every seventh image is a test image.

    The classes come in runs of 0 to 9, and a stride prime to ten keeps both splits balanced.
    """
    from sklearn.datasets import load_digits

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    chosen = (np.arange(len(labels)) % 7 == 0) == (split == "test")
    images = (pixels[chosen] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return ImageSet("digits", split, images, labels[chosen].astype(np.int64), 10)


def _torchvision(name: str, split: str, root: Path, download: bool) -> ImageSet:
    """Read MNIST or CIFAR-10 through torchvision, with one line where it is absent or damaged."""
    from torchvision import datasets

    dataset = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10}[name]
    try:
        found = dataset(root, train=split == "train", download=download)
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        reason = _line(error)
        if download:
            raise FileNotFoundError(
                f"cannot download {name} to {root} ({reason}); where it is already on this "
                "machine, name its torchvision root with --data-root or RDDRS_DATA"
            ) from error
        if "not found" in reason:
            raise FileNotFoundError(
                f"no {name} under {root}: name the folder that holds it (a torchvision root) with "
                "--data-root or RDDRS_DATA, or fetch it with --download"
            ) from error
        raise ValueError(
            f"{name} under {root} is damaged ({reason}): remove its files and fetch them with "
            "--download"
        ) from error
    pixels = np.asarray(found.data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return ImageSet(name, split, _unit(pixels), np.asarray(found.targets, np.int64), 10)


def _line(error: Exception) -> str:
    """The gist of an error on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _unit(pixels: np.ndarray) -> np.ndarray:
    """Map 8-bit pixels to [0, 1] as a contiguous float32 array."""
    images = pixels.astype(np.float32, order="C")
    images /= 255
    return images


def _parquet(split: str, root: Path, _download: bool) -> ImageSet:
    """Read a folder in the hub layout."""
    files: dict[str, list[Path]] = {}
    for each in SPLITS:
        pattern = f"{each}-*.parquet"
        files[each] = sorted(root.glob(pattern)) or sorted((root / "data").glob(pattern))
    if not files[split]:
        raise FileNotFoundError(
            f"no {split}-*.parquet under {root}: name a folder in the hub layout with "
            "--data-root or RDDRS_DATA"
        )
    first, count = files[split][0].name, len(files[split])
    announced = re.search(r"-of-([0-9]+)", first)
    if announced and int(announced[1]) != count:
        raise FileNotFoundError(
            f"{root} holds {count} {split} files where {first} announces {int(announced[1])}: "
            "fetch the missing ones"
        )
    images, labels = _read_columns(files[split], (_IMAGE_COLUMNS, _LABEL_COLUMNS))
    (all_labels,) = _read_columns(files["train"] + files["test"], (_LABEL_COLUMNS,))
    # A split may lack a class that the network knows, so the classes are those of all splits.
    classes = int(_class_numbers(all_labels, root).max()) + 1
    pixels = _decode(images, f"{split} images of {root}")
    return ImageSet("parquet", split, _unit(pixels), _class_numbers(labels, root), classes)


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
            raise ValueError(f"{file} cannot be read ({_line(error)}): fetch it again") from error
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
            if picture.mode not in _MODES:
                raise ValueError(
                    f"{what}: wanted an 8-bit grey or RGB image, got mode {picture.mode}; "
                    "convert it first"
                )
            pixels = np.asarray(picture.convert(_MODES[picture.mode]))
    except (OSError, SyntaxError) as error:  # pillow reports some damaged PNGs as SyntaxError
        raise ValueError(f"{what} cannot be decoded ({error}): fetch the data again") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


DATASETS: dict[str, Callable[[str, Path, bool], ImageSet]] = {
    "digits": _digits,
    "mnist": partial(_torchvision, "mnist"),
    "cifar10": partial(_torchvision, "cifar10"),
    "parquet": _parquet,
}

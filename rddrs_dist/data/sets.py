"""Labelled image sets by name, with pixels in [0, 1] however they were stored.

`digits` is bundled with scikit-learn, `mnist` and `cifar10` are read through torchvision, and
`parquet` reads any folder in the usual hub layout. The index of a result row is the position of
its image in the split, so no reader shuffles.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rddrs_dist.data.parquet import SPLITS, read_hub


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
    """Load one split of a data set by name.

    Args:
        name: One of `DATASETS`.
        split: "train" or "test".
        data_root: Folder that holds the data; by default that in the environment variable
            RDDRS_DATA, else `data`. `digits` needs none.
        download: Whether torchvision may fetch `mnist` and `cifar10` into `data_root`.

    Returns:
        The images and labels, in the order in which they are stored.

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


def _mnist(split: str, root: Path, download: bool) -> ImageSet:
    """Read MNIST through torchvision: 60,000 and 10,000 images of shape (1, 28, 28)."""
    from torchvision.datasets import MNIST

    found = _open_torchvision("mnist", MNIST, split, root, download)
    pixels = np.asarray(found.data)[:, None]
    return ImageSet("mnist", split, _unit(pixels), np.asarray(found.targets, np.int64), 10)


def _cifar10(split: str, root: Path, download: bool) -> ImageSet:
    """Read CIFAR-10 through torchvision: 50,000 and 10,000 images of shape (3, 32, 32)."""
    from torchvision.datasets import CIFAR10

    found = _open_torchvision("cifar10", CIFAR10, split, root, download)
    pixels = np.asarray(found.data).transpose(0, 3, 1, 2)
    return ImageSet("cifar10", split, _unit(pixels), np.asarray(found.targets, np.int64), 10)


def _open_torchvision(
    name: str, dataset: Callable[..., Any], split: str, root: Path, download: bool
) -> Any:
    """Open a torchvision data set, with one line where it is absent or damaged."""
    try:
        return dataset(root, train=split == "train", download=download)
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
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


def _unit(pixels: np.ndarray) -> np.ndarray:
    """Map 8-bit pixels to [0, 1] as a contiguous float32 array."""
    images = pixels.astype(np.float32, order="C")
    images /= 255
    return images


def _parquet(split: str, root: Path, _download: bool) -> ImageSet:
    """Read a folder in the hub layout: `train-*.parquet` and `test-*.parquet`."""
    pixels, labels, classes = read_hub(root, split)
    return ImageSet("parquet", split, _unit(pixels), labels, classes)


DATASETS: dict[str, Callable[[str, Path, bool], ImageSet]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "parquet": _parquet,
}

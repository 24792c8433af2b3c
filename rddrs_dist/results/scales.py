"""Scales stored beside their rows: one file per shard, bit for bit what was certified."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rddrs_dist.noise import Noise
from rddrs_dist.noise.packed import Packed, unpack
from rddrs_dist.results import parts

_NAME = "_scales-{:05d}.safetensors"
_PATTERN = re.compile(r"_scales-\d{5,}\.safetensors")

# Method and index of an image.
Key = tuple[str, int]


def write(folder: Path, shard: int, scales: Mapping[Key, Packed]) -> None:
    """Writes the scales of a shard, whole or not at all.

    Raises:
        OSError: If that failed.
    """
    named = {f"{method}/{index}/{one.kind}": one.values for (method, index), one in scales.items()}
    parts.replace(path(folder, shard), save(named))


def path(folder: Path, shard: int) -> Path:
    """File of a shard's scales."""
    return folder / _NAME.format(shard)


class Scales:
    """The stored scales of a run; they are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Looks up what there is.

        Args:
            folder: Folder of the run.

        Raises:
            ValueError: If a file cannot be read, or there is none.
        """
        self._where: dict[Key, tuple[Path, str]] = {}
        for file in sorted(folder.iterdir()):
            if _PATTERN.fullmatch(file.name):
                self._where |= {_key(name): (file, name) for name in _names(file)}
        if not self._where:
            raise ValueError(
                f"{folder} has no _scales-*.safetensors: certify with --save-scales (with "
                "--resume, finished shards are done once more for it)"
            )

    def __contains__(self, key: Key) -> bool:
        return key in self._where

    def packed(self, method: str, index: int) -> Packed:
        """The scale of one image.

        Raises:
            ValueError: If it is not stored.
        """
        if (method, index) not in self._where:
            raise ValueError(f"no scale of image {index} for {method} is stored")
        file, name = self._where[method, index]
        with safe_open(file, framework="numpy") as stored:
            return Packed(name.split("/")[2], stored.get_tensor(name))

    def noise(self, method: str, indices: Sequence[int], event_shape: tuple[int, ...]) -> Noise:
        """One noise of several images; see `unpack`."""
        return unpack([self.packed(method, index) for index in indices], event_shape)


def _names(file: Path) -> list[str]:
    """Names of the scales in a file."""
    try:
        with safe_open(file, framework="numpy") as stored:
            return list(stored.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file} must be a whole file of scales, got {parts.reason(error)}; remove it and "
            "continue the run with --save-scales --resume"
        ) from error


def _key(name: str) -> Key:
    """Method and index out of a name."""
    method, index, _ = name.split("/")
    return method, int(index)

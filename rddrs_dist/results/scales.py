"""Scales stored beside their rows, bit for bit what was certified or made of it.

One file per shard has those that were certified; the disjoint pass adds one file per method of
those that it made narrower.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rddrs_dist.noise import Noise, Packed, unpack
from rddrs_dist.results.files import reason, replace

# Files of certified scales, and of those that a disjoint pass has narrowed.
CERTIFIED, NARROWED = "_scales", "_disjoint-scales"
# The file of the one scale that all images of a method share.
UNIVERSAL = "_universal.safetensors"
_REMEDY = {False: "certify again into a fresh --out", True: "run `rddrs disjoint` again"}
# Method and index of an image.
Key = tuple[str, int]


def write(
    folder: Path, number: int, scales: Mapping[Key, Packed], prefix: str = CERTIFIED
) -> None:
    """Writes the scales of a shard, or the narrowed ones of a number; see `files.replace`."""
    named = {f"{method}/{index}/{one.kind}": one.values for (method, index), one in scales.items()}
    replace(path(folder, number, prefix), save(named))


def write_universal(folder: Path, packed: Packed) -> None:
    """Writes the one scale of all images, under its kind and hash; see `files.replace`."""
    replace(folder / UNIVERSAL, save({f"{packed.kind}/{packed.sha256}": packed.values}))


def read_universal(folder: Path) -> Packed | None:
    """The one scale of all images; None where none was written.

    Raises:
        ValueError: If it is not what was written.
    """
    file = folder / UNIVERSAL
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="numpy") as stored:
            (name,) = stored.keys()
            found = Packed(name.partition("/")[0], stored.get_tensor(name))
    except (SafetensorError, OSError, ValueError) as error:
        found, name = None, reason(error)
    if found is None or name != f"{found.kind}/{found.sha256}":
        raise ValueError(
            f"{file} must hold the noise of all images as this run fitted it, got another or a "
            f"damaged one ({name}): remove it and continue with --resume, which fits it again"
        )
    return found


def path(folder: Path, number: int, prefix: str = CERTIFIED) -> Path:
    """File of a shard's scales, or of narrowed ones."""
    return folder / f"{prefix}-{number:05d}.safetensors"


def files(folder: Path, prefix: str) -> list[Path]:
    """All files of one kind, in order."""
    pattern = re.compile(re.escape(prefix) + r"-\d{5,}\.safetensors")
    return sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name))


def hashes(rows: pd.DataFrame, column: str) -> dict[Key, str]:
    """What the scales of rows must hash to, by a column of hashes; null where there is none."""
    named = rows[["method", "index", column]].dropna().itertuples(index=False)
    return {(method, int(index)): sha256 for method, index, sha256 in named}


class Scales:
    """The stored scales of a run; they are read when they are asked for."""

    def __init__(
        self,
        folder: Path,
        hashes: Mapping[Key, str] | None = None,
        prefixes: Sequence[str] = (CERTIFIED,),
    ) -> None:
        """Looks up what there is; a scale in a later file stands for one in an earlier.

        Where `hashes` are given, what is read must have them.

        Raises:
            ValueError: If a file cannot be read, or there is none.
        """
        self._where: dict[Key, tuple[Path, str]] = {}
        self._hashes = hashes or {}
        for file in itertools.chain(*(files(folder, prefix) for prefix in prefixes)):
            try:
                with safe_open(file, framework="numpy") as stored:
                    names = list(stored.keys())
            except (SafetensorError, OSError) as error:
                raise ValueError(
                    f"{file} must be a whole file of scales, got {reason(error)}; remove it and "
                    "continue the run with --save-scales --resume"
                ) from error
            for name in names:
                method, index, _ = name.split("/")
                self._where[method, int(index)] = (file, name)
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
            ValueError: If it is not stored, or is another than it must be.
        """
        if (method, index) not in self._where:
            raise ValueError(f"no scale of image {index} for {method} is stored")
        file, name = self._where[method, index]
        with safe_open(file, framework="numpy") as stored:
            found = Packed(name.split("/")[2], stored.get_tensor(name))
        wanted = self._hashes.get((method, index), found.sha256)
        if found.sha256 != wanted:
            raise ValueError(
                f"the scale of image {index} for {method} in {file} must have sha256 {wanted}, "
                f"got {found.sha256}: {_REMEDY[file.name.startswith(NARROWED)]}"
            )
        return found

    def noise(self, method: str, indices: Sequence[int], event_shape: tuple[int, ...]) -> Noise:
        """One noise of several images; see `unpack`."""
        return unpack([self.packed(method, index) for index in indices], event_shape)

"""Stored scales, and bounds of their axes."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rddrs_dist.noise import Packed, unpack
from rddrs_dist.results import scales
from rddrs_dist.results.files import reason
from rddrs_dist.verify.findings import Finding, Key, Missing, at

Floats = NDArray[np.float64]
_NAME = re.compile(r"(\w+)/(\d+)/([\w-]+)")
# What logarithms and exponentials may add to a mean; a share.
_MEAN = 1e-13


class Stored:
    """The scales in a folder, read when they are asked for, and what is wrong with their files."""

    def __init__(self, folder: Path, shape: tuple[int, ...], kind: str = scales.CERTIFIED) -> None:
        """Looks up what there is of a kind of files, for images of a shape."""
        self._shape, self._where = shape, dict[Key, tuple[Path, str]]()
        self.files, self.findings = scales.files(folder, kind), list[Finding]()
        for file in self.files:
            try:
                with safe_open(file, framework="numpy") as stored:
                    names = list(stored.keys())
            except (SafetensorError, OSError) as error:
                self.findings += at(file.name, [(False, "a whole file of scales", reason(error))])
                continue
            for name in names:
                match = _NAME.fullmatch(name)
                key = (match[1], int(match[2])) if match else ("", -1)
                new = match and key not in self._where
                wanted = "names such as rs/7/isotropic, one of each method and image"
                self.findings += at(file.name, [(new, wanted, name)])
                if new:
                    self._where[key] = (file, name)

    def keys(self) -> frozenset[Key]:
        """Method and index of all that is stored."""
        return frozenset(self._where)

    def packed(self, key: Key) -> Packed:
        """The scale of a method and an image, as it is stored."""
        file, name = self._where[key]
        with safe_open(file, framework="numpy") as stored:
            return Packed(name.split("/")[2], stored.get_tensor(name))

    def find(self, key: Key, sha256: str | None = None) -> Floats | None:
        """S, (d, d) float64, or its diagonal, (d,), where that is all.

        None where none is stored, of that hash if one is given, or it is no scale of an image.
        """
        packed = self.packed(key) if key in self._where else None
        if packed is None or packed.values.dtype != np.float32:
            return None
        if sha256 is not None and packed.sha256 != sha256:
            return None
        try:
            noise = unpack([packed], self._shape)
        except ValueError:
            return None
        return (noise.axes_of_pixels() if noise.is_diagonal else noise.matrix())[0].numpy()

    def matrix(self, key: Key) -> Floats:
        """The same where it is known to be there."""
        found = self.find(key)
        if found is None:
            raise Missing(f"no usable scale of image {key[1]}, {key[0]}, is stored")
        return found


@dataclass(frozen=True, eq=False)
class Axes:
    """Singular values of a scale between bounds, ascending, in pixels.

    Computed singular values of a (d, d) matrix lie within d eps ||S|| of the true ones (Weyl's
    inequality, for a backward stable decomposition); those of a diagonal are read off.
    """

    below: Floats  # (d,), what bounds may come down to that their error has lowered twice
    above: Floats  # (d,)
    mean_above: float  # of their geometric mean

    @classmethod
    def of(cls, scale: Floats, by_squares: bool = False) -> "Axes":
        """The axes of S, (d, d), or of its diagonal, (d,).

        On a GPU a run finds them by their squares, as roots of eigenvalues of S^T S.
        """
        if scale.ndim == 1:
            read = np.sort(scale)
            return cls(read, read, mean(read) * (1 + _MEAN))
        found = np.asarray(np.linalg.svd(scale, compute_uv=False)[::-1], np.float64)
        eps = len(scale) * float(np.finfo(np.float64).eps)
        error = eps * float(found[-1])
        # Of squares: twice 2 d eps ||S||_F^2, the bound and the error that it is for.
        lost = 4 * eps * math.fsum(found**2) if by_squares else 0.0
        above = np.sqrt(found**2 + lost / 2) + error
        below = np.maximum(np.sqrt(np.maximum(found**2 - lost, 0)) - 3 * error, 0)
        # The mean of a triangular scale is known from its diagonal.
        known = above if np.triu(scale, 1).any() else np.abs(np.diag(scale))
        return cls(below, above, mean(known) * (1 + _MEAN))


def distances(scale: Tensor, vectors: Tensor) -> Tensor:
    """||S^-1 v|| of columns v (d, n), (n,), for S (d, d) or its diagonal (d,), all float64."""
    white = vectors / scale[:, None] if scale.ndim == 1 else torch.linalg.solve(scale, vectors)
    return white.norm(dim=0)


def mean(values: Floats) -> float:
    """Geometric mean; 0 where a value is 0."""
    return math.exp(math.fsum(np.log(values)) / len(values)) if np.all(values > 0) else 0.0

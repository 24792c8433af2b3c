"""The scale of one image as a plain array, to be stored and hashed, bit for bit."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Packed:
    """The scale of one image.

    Attributes:
        kind: Which numbers these are: one of the `kinds` of a noise in `NOISES`.
        values: The numbers, one-dimensional.
    """

    kind: str
    values: NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """Hash of kind and numbers."""
        own = np.ascontiguousarray(self.values)
        return hashlib.sha256(f"{self.kind} {own.dtype.str} ".encode() + own.tobytes()).hexdigest()

"""In what precision a GPU multiplies the numbers of a network, which are of single precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Precision = Literal["float32", "tf32"]


@contextmanager
def multiplying(precision: Precision) -> Iterator[None]:
    """Convolutions in TF32 or in single precision within a block, matrices in the latter always.

    A CPU has one precision, whatever is asked for. TF32 keeps 11 bits of each factor and all of
    their products: with it a network is a slightly different one, several times as fast. Scales
    are products of matrices, and narrow axes would drown in its rounding errors.
    """
    matrices: Any = torch.backends.cuda.matmul
    convolutions: Any = torch.backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    matrices.allow_tf32, convolutions.allow_tf32 = False, precision == "tf32"
    try:
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before

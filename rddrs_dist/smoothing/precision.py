"""In what precision a GPU multiplies the numbers of a network, which are of single precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "tf32"]
# Half of the last bit of 11 that is kept of a float32 number's 24.
_HALF = 1 << 12


def checked(precision: Any) -> Precision:
    """A precision that there is; a ValueError if there is none of that name."""
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ValueError(f"precision must be one of {known}, got {precision!r}")
    return precision


@contextmanager
def multiplying(
    precision: Precision, device: torch.device, matrices: Precision = "float32"
) -> Iterator[None]:
    """Convolutions, and matrices, in TF32 or in single precision within a block.

    A CPU has one precision, whatever is asked for. TF32 keeps 11 bits of each factor and all of
    their products: with it a network is a slightly different one, several times as fast. Scales
    are products of matrices, and narrow axes would drown in its rounding errors: it is for sums
    over samples, and for factors that `rounded` has made exact.

    Raises:
        ValueError: If there is no such precision, or torch's newer flags for it are set.
    """
    wanted = checked(precision) == "tf32", matrices == "tf32"
    if device.type == "cpu":
        yield
        return
    try:
        before: Any = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        _allow(*wanted)
    except RuntimeError as error:
        raise ValueError(
            "torch's fp32_precision flags are set, and its allow_tf32 flags then cannot be: leave "
            "the former alone, precision is chosen here"
        ) from error
    try:
        yield
    finally:
        _allow(*before)


def rounded(numbers: Tensor) -> Tensor:
    """Float32 numbers rounded to the 11 bits of TF32, of which products lose nothing more."""
    bits = numbers.view(torch.int32) + _HALF  # up, if what is cut off is a half at least
    return (bits & ~(2 * _HALF - 1)).view(torch.float32)


def _allow(convolutions: bool, matrices: bool) -> None:
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = matrices

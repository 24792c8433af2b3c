"""In what precision a GPU multiplies the numbers of a network, which are of single precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

Precision = Literal["float32", "tf32"]


def checked(precision: Any, name: str = "precision") -> Precision:
    """A precision that there is.

    Raises:
        ValueError: If there is none of that name.
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ValueError(f"{name} must be one of {known}, got {precision!r}")
    return precision


@contextmanager
def multiplying(precision: Precision, device: torch.device) -> Iterator[None]:
    """Convolutions in TF32 or in single precision within a block, matrices in the latter always.

    A CPU has one precision, whatever is asked for. TF32 keeps 11 bits of each factor and all of
    their products: with it a network is a slightly different one, several times as fast. Scales
    are products of matrices, and narrow axes would drown in its rounding errors.

    Raises:
        ValueError: If there is no such precision, or torch's newer flags for it are set.
    """
    checked(precision)
    if device.type == "cpu":
        yield
        return
    matrices: Any = torch.backends.cuda.matmul
    convolutions: Any = torch.backends.cudnn
    try:
        before = matrices.allow_tf32, convolutions.allow_tf32
        matrices.allow_tf32, convolutions.allow_tf32 = False, precision == "tf32"
    except RuntimeError as error:
        raise ValueError(
            "torch's fp32_precision flags are set, and its allow_tf32 flags then cannot be: leave "
            "the former alone, precision is chosen here"
        ) from error
    try:
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before

"""Standard normal numbers for many keys in one launch."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

# Groups of four numbers that a program makes.
_GROUPS = 256


@triton.jit(do_not_specialize=["size", "stage", "step", "block"])
def _normal_kernel(out, keys, size, stage, step, block, GROUPS: tl.constexpr):
    """Box-Muller on Philox 4x32-10 with key `keys[row]` and counter (group, block, step, stage).

    As `seeds.box_muller`: the length in float64 from all 32 bits.
    """
    row = tl.program_id(0)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    first = group.to(tl.uint32)
    zero = first * 0
    key = tl.load(keys + row)
    w0, w1, w2, w3 = tl.philox(
        key,
        first,
        zero + block.to(tl.uint32),
        zero + step.to(tl.uint32),
        zero + stage.to(tl.uint32),
    )
    share: tl.constexpr = 2.0**-32
    turn: tl.constexpr = 2 * math.pi / 2**32
    length0 = tl.sqrt((-2 * tl.log((w0.to(tl.float64) + 0.5) * share)).to(tl.float32))
    length2 = tl.sqrt((-2 * tl.log((w2.to(tl.float64) + 0.5) * share)).to(tl.float32))
    angle1, angle3 = w1.to(tl.float32) * turn, w3.to(tl.float32) * turn
    place = group * 4
    here = out + row.to(tl.int64) * size + place
    tl.store(here, length0 * tl.cos(angle1), mask=place < size)
    tl.store(here + 1, length0 * tl.sin(angle1), mask=place + 1 < size)
    tl.store(here + 2, length2 * tl.cos(angle3), mask=place + 2 < size)
    tl.store(here + 3, length2 * tl.sin(angle3), mask=place + 3 < size)


def normal(keys: Tensor, counter: tuple[int, int, int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, the same for the same key, counter and place.

    Philox is a bijection of counters for every key: two counters never share a block of bits.

    Args:
        keys: (B,) int64, any bits, on a GPU.
        counter: Stage, step and block, each below 2^32.
        shape: Of the numbers of one key.

    Returns:
        (B, *shape) float32.

    References:
        Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    size = math.prod(shape)
    out = torch.empty(len(keys), *shape, dtype=torch.float32, device=keys.device)
    grid = (len(keys), triton.cdiv(triton.cdiv(size, 4), _GROUPS))
    with torch.cuda.device_of(keys):
        # Said, as it decides last bits and Triton's default is about to change.
        _normal_kernel[grid](out, keys, size, *counter, GROUPS=_GROUPS, enable_fp_fusion=True)
    return out

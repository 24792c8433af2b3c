"""A convolution, the maximum over 2x2 windows and ReLU in one pass, and its input gradient.

Such a stage has few channels, for which libraries have no good kernel, and what it writes between
its three parts takes longer than the arithmetic. Here a pooled pixel is computed from its patch of
(k + 1) x (k + 1) pixels: a matrix product with four shifted copies of the filters, of which the
largest stays. Of the rest the gradient needs one byte per pooled pixel and channel, which says
where the maximum was.

All images are held with channels last.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements of a patch that a program takes at once: a small one whole.
_PATCH, _WHOLE = 32, 64
# Sides of what tensor cores multiply.
_LEAST = 16
# Where the maximum was; this says that ReLU let nothing through.
_DEAD = 4


# A count that happens to be a multiple of 16 is no reason to compile once more.
@triton.jit(do_not_specialize=["count"])
def _forward_kernel(
    x, weight, bias, y, code, count,
    H: tl.constexpr, W: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PAD: tl.constexpr,
    SIDE: tl.constexpr, C: tl.constexpr, MANY: tl.constexpr, OUT: tl.constexpr,
    K: tl.constexpr, PIXELS: tl.constexpr, PATCH: tl.constexpr, KEEP: tl.constexpr,
    DEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Pooled pixels (image, row, column) of all channels."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    image, place = pixel // (PH * PW), pixel % (PH * PW)
    top, left = place // PW * 2 - PAD, place % PW * 2 - PAD
    origin = image.to(tl.int64) * (H * W * C) + (top * W + left) * C
    column = tl.arange(0, 4 * OUT)
    total = tl.zeros([PIXELS, 4 * OUT], tl.float32)
    for start in range(0, SIDE * SIDE * C, PATCH):
        k = start + tl.arange(0, PATCH)
        down, along = k // (SIDE * C), k % (SIDE * C)
        row, col = top[:, None] + down[None, :], left[:, None] + (along // C)[None, :]
        inside = (row >= 0) & (row < H) & (col >= 0) & (col < W)
        inside &= (pixel < count)[:, None] & (k < SIDE * SIDE * C)[None, :]
        offset = origin[:, None] + (down * (W * C) + along)[None, :]
        patch = tl.load(x + offset, mask=inside, other=0.0)
        filters = tl.load(weight + k[:, None] + column[None, :] * K)
        total = tl.dot(patch, filters, total, input_precision=PRECISION)
    channel = tl.arange(0, OUT)
    four = tl.reshape(total, [PIXELS, OUT, 4])
    there = (pixel < count)[:, None] & (channel < MANY)[None, :]
    target = pixel.to(tl.int64)[:, None] * MANY + channel[None, :]
    shift = tl.load(bias + channel, mask=channel < MANY, other=0.0)[None, :]
    # Maxima pass over NaN; a network that overflows must be seen to.
    shift += tl.sum(four, axis=2) * 0
    if KEEP:
        most, where = tl.max(four, axis=2, return_indices=True)
        found = most + shift
        tl.store(code + target, tl.where(found > 0, where, DEAD).to(tl.int8), mask=there)
    else:
        found = tl.max(four, axis=2) + shift
    tl.store(y + target, tl.where(found < 0, 0.0, found), mask=there)


@triton.jit(do_not_specialize=["count"])
def _backward_kernel(
    gradient, code, weight, out, count,
    H: tl.constexpr, W: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, PAD: tl.constexpr,
    SIDE: tl.constexpr, REACH: tl.constexpr, C: tl.constexpr, MANY: tl.constexpr,
    OUT: tl.constexpr, IN: tl.constexpr, K: tl.constexpr, PIXELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Blocks of SIDE x SIDE pixels of the input, each from the pooled pixels that saw it."""
    rows: tl.constexpr = (H + SIDE - 1) // SIDE
    cols: tl.constexpr = (W + SIDE - 1) // SIDE
    # The last row, and column, of pooled pixels that sees a block is as far from its first one.
    last: tl.constexpr = (SIDE + PAD) // 2 - 1
    block = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    image, place = block // (rows * cols), block % (rows * cols)
    down, right = place // cols, place % cols
    channel, column = tl.arange(0, OUT), tl.arange(0, IN)
    total = tl.zeros([PIXELS, IN], tl.float32)
    for step in range(REACH * REACH):
        row = down * (SIDE // 2) + last - step // REACH
        col = right * (SIDE // 2) + last - step % REACH
        seen = (block < count) & (row >= 0) & (row < PH) & (col >= 0) & (col < PW)
        there = seen[:, None] & (channel < MANY)[None, :]
        pooled = (image.to(tl.int64) * (PH * PW) + row * PW + col) * MANY
        slope = tl.load(gradient + pooled[:, None] + channel[None, :], mask=there, other=0.0)
        where = tl.load(code + pooled[:, None] + channel[None, :], mask=there, other=4)
        for position in tl.static_range(4):
            chosen = tl.where(where == position, slope, 0.0)
            k = (step * 4 + position) * OUT + channel
            filters = tl.load(weight + k[:, None] + column[None, :] * K)
            total = tl.dot(chosen, filters, total, input_precision=PRECISION)
    corner, layer = column // C, column % C
    row = (down * SIDE)[:, None] + (corner // SIDE)[None, :]
    col = (right * SIDE)[:, None] + (corner % SIDE)[None, :]
    inside = (block < count)[:, None] & (column < SIDE * SIDE * C)[None, :] & (row < H) & (col < W)
    target = image.to(tl.int64)[:, None] * (H * W * C) + (row * W + col) * C + layer[None, :]
    tl.store(out + target, total, mask=inside)


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of a convolution as its kernels want them.

    What is summed over lies side by side: tensor cores take TF32 no other way, and to turn it
    around in every program takes longer than the product.

    Attributes:
        forward: (4 out, K), K >= (k + 1)^2 C; a row per channel and position in the window, a
            column per element of a patch.
        backward: (in, reach^2 4 out); a row per pixel of a block and channel of the input, a
            column per pooled neighbour, position and channel.
        bias: (O,).
        step: Elements of a patch that are taken at once; divides K.
        channels: C, of the input.
        side: k + 1.
        block: Rows and columns of the input whose gradient is one row of a product: 4 where that
            has no more columns than tensor cores take, and otherwise 2.
        padding: Rows and columns of zeros around images; even.
    """

    forward: Tensor
    backward: Tensor
    bias: Tensor
    step: int
    channels: int
    side: int
    block: int
    padding: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, padding: int) -> Filters:
        """From a convolution's weight (O, C, k, k) and bias (O,).

        Raises:
            ValueError: If k is even or the padding odd, so that no pair of pixels begins a window.
        """
        many, channels, k, _ = weight.shape
        if k % 2 == 0 or padding % 2:
            raise ValueError(f"wanted odd filters and even padding, got {k} and {padding}")
        side, out = k + 1, _power(many)
        moved = weight.new_zeros(side, side, channels, out, 2, 2)
        taps = weight.permute(2, 3, 1, 0)  # (k, k, C, O)
        for down in range(2):
            for right in range(2):
                moved[down : down + k, right : right + k, :, :many, down, right] = taps
        rows = moved.view(side * side * channels, 4 * out)
        step = _WHOLE if len(rows) <= _WHOLE else _PATCH
        forward = weight.new_zeros(4 * out, triton.cdiv(len(rows), step) * step)
        forward[:, : len(rows)] = rows.mT
        block = 4 if 4 * 4 * channels <= _LEAST else 2
        backward = _turned(moved, block)
        return cls(forward, backward, bias.contiguous(), step, channels, side, block, padding)

    @property
    def reach(self) -> int:
        """Rows of pooled pixels that see a block of the input."""
        return _reach(self.side, self.block)

    @property
    def many(self) -> int:
        """O, channels of the output."""
        return len(self.bias)


def _turned(moved: Tensor, block: int) -> Tensor:
    """The filters for the gradient of blocks of the input; see `Filters.backward`.

    Args:
        moved: (side, side, C, out, 2, 2), the filters as they lie in a patch of side x side pixels
            at each position in the window.
        block: Rows and columns of a block.
    """
    side, _, channels, out = moved.shape[:4]
    reach = _reach(side, block)
    turned = moved.new_zeros(_power(block**2 * channels), reach, reach, 4, out)
    taps = moved.flatten(4).permute(0, 1, 2, 4, 3)  # (down, right, C, position, out)
    for down, right, row, col in product(range(reach), range(reach), range(block), range(block)):
        # The neighbour's patch begins two pixels further up with each.
        place = 2 * down + row - block + 2, 2 * right + col - block + 2
        if min(place) >= 0 and max(place) < side:
            first = (row * block + col) * channels
            turned[first : first + channels, down, right] = taps[place]
    return turned.flatten(1)


def _reach(side: int, block: int) -> int:
    """How many patches of a side, two pixels apart, meet a block in a row."""
    return (side + block) // 2 - 1


def _power(number: int) -> int:
    """The size of a block that holds so many."""
    return max(_LEAST, triton.next_power_of_2(number))


def _precision() -> str:
    """Products of single precision, from three of TF32 each, unless convolutions may use TF32."""
    return "tf32" if torch.backends.cudnn.allow_tf32 else "tf32x3"


class _PooledConvolution(torch.autograd.Function):
    """ReLU of the maximum over 2x2 windows of a convolution; differentiable in its input."""

    @staticmethod
    def forward(ctx, images: Tensor, filters: Filters) -> Tensor:
        keep = ctx.needs_input_grad[0]
        images = images.contiguous(memory_format=torch.channels_last)
        height, width = _pooled(images, filters)
        shape = (len(images), filters.many, height, width)
        found = _channels_last(shape, torch.float32, images.device)
        code = _channels_last(shape if keep else (0, 1, 1, 1), torch.int8, images.device)
        count = len(images) * height * width
        columns, size = filters.forward.shape
        precision = _precision()
        # On an H100 with 128 columns 27 ns per image of LeNet instead of 31 with 8 warps.
        pixels, warps = (256, 16) if (precision, columns) == ("tf32", 128) else (128, 8)
        with torch.cuda.device_of(images):
            _forward_kernel[(triton.cdiv(count, pixels),)](
                images, filters.forward, filters.bias, found, code, count,
                *images.shape[2:], height, width, filters.padding,
                filters.side, filters.channels, filters.many, _power(filters.many), size,
                pixels, filters.step, keep, _DEAD, precision,
                num_warps=warps, enable_fp_fusion=True,
            )  # fmt: skip
        ctx.filters, ctx.shape = filters, images.shape
        ctx.save_for_backward(code)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        (code,) = ctx.saved_tensors
        filters, (count, _, height, width) = ctx.filters, ctx.shape
        slope = slope.contiguous(memory_format=torch.channels_last)
        out = _channels_last(ctx.shape, torch.float32, slope.device)
        count *= triton.cdiv(height, filters.block) * triton.cdiv(width, filters.block)
        columns, size = filters.backward.shape
        precision = _precision()
        pixels = 256 if (precision, columns) == ("tf32", 64) else 128
        # More than 64 columns of filters have room once only.
        stages = 1 if columns > 64 else 3
        with torch.cuda.device_of(slope):
            _backward_kernel[(triton.cdiv(count, pixels),)](
                slope, code, filters.backward, out, count,
                height, width, *code.shape[2:], filters.padding,
                filters.block, filters.reach, filters.channels, filters.many,
                _power(filters.many), columns, size, pixels, precision,
                num_warps=8, num_stages=stages, enable_fp_fusion=True,
            )  # fmt: skip
        return out, None


def _channels_last(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for what a kernel writes."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=torch.channels_last)


def _pooled(images: Tensor, filters: Filters) -> tuple[int, int]:
    """Rows and columns of what becomes of images."""
    height, width = (
        (side + 2 * filters.padding - filters.side + 2) // 2 for side in images.shape[2:]
    )
    return height, width


def pooled_convolution(images: Tensor, filters: Filters) -> Tensor:
    """relu(max_pool2d(conv2d(images), 2)), differentiable in the images alone.

    Products are those of single precision to within a few units in the last place, from three of
    TF32 each; of TF32 where `torch.backends.cudnn.allow_tf32` is set.

    Args:
        images: (B, C, H, W) float32, on a GPU.
        filters: Of the convolution.

    Returns:
        (B, O, H', W'), channels last.
    """
    return _PooledConvolution.apply(images, filters)

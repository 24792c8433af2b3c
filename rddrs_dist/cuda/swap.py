"""Convolution, maximum and ReLU of a network as one kernel, where a GPU has it."""

from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor, nn

# Where the kernel is known to be faster; others may not even have the memory for its tiles.
_HOPPER = (9, 0)
_LAYERS = (nn.Conv2d, nn.MaxPool2d, nn.ReLU)


class PooledConvolution(nn.Module):
    """A convolution, the maximum over 2x2 windows and ReLU by the kernel of `cuda.pooled`.

    It is of the weights that the layers had when it was made, and has no gradient in them.

    Args:
        layers: The three, weights frozen.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        from rddrs_dist.cuda.pooled import Filters

        super().__init__()
        convolution = cast(nn.Conv2d, layers[0])
        weight, bias = convolution.weight, cast(Tensor, convolution.bias)
        self.filters = Filters.of(weight, bias, int(convolution.padding[0]))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) float32 to (B, outputs, H', W')."""
        from rddrs_dist.cuda.pooled import pooled_convolution

        return pooled_convolution(images, self.filters)


def has_kernel(device: torch.device) -> bool:
    """Whether a device is of the kind that the kernel was measured on, and Triton is there."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) == _HOPPER


def swapped(model: nn.Module) -> nn.Module:
    """The network with each such triple of layers replaced, in place; others stay as they are.

    Args:
        model: In evaluation mode, its weights float32 and frozen, on the device that it is for.
    """
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential) and _is_triple(child):
            setattr(model, name, PooledConvolution(child))
        else:
            swapped(child)
    return model


def _is_triple(layers: nn.Sequential) -> bool:
    """Whether the kernel is that of these layers."""
    if len(layers) != len(_LAYERS) or not all(map(isinstance, layers, _LAYERS)):
        return False
    convolution, pooling, _ = layers
    plain = cast(nn.Conv2d, convolution)
    rows, columns = plain.kernel_size
    settings = (plain.stride, plain.dilation, plain.groups, plain.bias is None)
    frozen = not any(one.requires_grad for one in layers.parameters())
    floats = all(one.dtype == torch.float32 for one in layers.parameters())
    known = settings == ((1, 1), (1, 1), 1, False) and pooling.kernel_size == 2
    padding = cast(tuple[int, int], plain.padding)
    shape = rows == columns and rows % 2 == 1 and padding[0] == padding[1] and padding[0] % 2 == 0
    return known and shape and frozen and floats

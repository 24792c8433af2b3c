"""Networks by name, and the check that one returns logits.

A network maps pixels in [0, 1] to logits. Whatever normalisation it wants is part of it, so that
noise and certified sizes are always measured in pixels.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


def pooled_convolution(inputs: int, outputs: int, padding: int) -> nn.Sequential:
    """A 5x5 convolution, the maximum over 2x2 windows and ReLU.

    The published order is ReLU, then pooling. Both are monotone, so they commute exactly, and ReLU
    is cheaper on a quarter of the numbers. `cuda.swap` makes one kernel of the three. The padding,
    rows and columns of zeros around images, is even.
    """
    convolution = nn.Conv2d(inputs, outputs, 5, padding=padding)
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.ReLU())


class LeNet(nn.Module):
    """Two 5x5 convolutions and a linear layer, as published with RDDRS for 28x28 digits.

    Args:
        event_shape: Shape (C, H, W) of one image, sides of at least 4 pixels.
        classes: Number of logits.
    """

    def __init__(self, event_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = event_shape
        self.conv1 = pooled_convolution(channels, 16, 2)
        self.conv2 = pooled_convolution(16, 32, 2)
        self.out = nn.Linear(32 * (height // 4) * (width // 4), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        found = self.conv2(self.conv1(images))
        if not (found.is_cuda and found.is_contiguous(memory_format=torch.channels_last)):
            return self.out(found.flatten(1))
        # As they lie: to turn all activations around takes a GPU a tenth of the network's time.
        weight = self.out.weight.view(-1, *found.shape[1:])
        flat, turned = (part.permute(0, 2, 3, 1).flatten(1) for part in (found, weight))
        return nn.functional.linear(flat, turned, self.out.bias)


class LeNetCaffe(nn.Module):
    """LeNet with a hidden linear layer, of about the cost of `LeNet` and better under much noise.

    Two 5x5 convolutions without padding and two linear layers, as distributed with Caffe and used
    for the published randomized smoothing results on MNIST.

    Args:
        event_shape: Shape (C, H, W) of one image, sides of at least 16 pixels.
        classes: Number of logits.

    References:
        Jeong and Shin (2020), Consistency regularization for certified robustness of smoothed
        classifiers, section 4.
    """

    def __init__(self, event_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = event_shape
        if min(height, width) < 16:
            raise ValueError(
                f"lenet-caffe wants image sides of at least 16 pixels, got {height}x{width}"
            )
        self.features = nn.Sequential(
            *pooled_convolution(channels, 20, 0), *pooled_convolution(20, 50, 0)
        )
        sides = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        self.hidden = nn.Linear(50 * sides[0] * sides[1], 500)
        self.out = nn.Linear(500, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        return self.out(torch.relu(self.hidden(self.features(images).flatten(1))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters, which pads new channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.widening = stride, outputs - inputs
        self.conv1 = _convolution(inputs, outputs, stride)
        self.conv2 = _convolution(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map activations (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.widening))
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + shortcut)


class ResNet20(nn.Module):
    """The 20-layer residual network for CIFAR, with its normalisation inside.

    Args:
        event_shape: Shape (C, H, W) of one image, sides divisible by 4.
        classes: Number of logits.

    References:
        He, Zhang, Ren and Sun (2016), Deep residual learning for image recognition, section 4.2.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, event_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = event_shape
        if height % 4 or width % 4:
            raise ValueError(f"resnet20 wants image sides divisible by 4, got {height}x{width}")
        coloured = channels == len(CIFAR10_MEAN)
        mean = CIFAR10_MEAN if coloured else [0.5] * channels
        std = CIFAR10_STD if coloured else [0.25] * channels
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.stem = _convolution(channels, 16, 1)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        strides = [1, 1, 1, 2, 1, 1, 2, 1, 1]
        steps = zip(widths[:-1], widths[1:], strides, strict=True)
        self.blocks = nn.Sequential(*(ResidualBlock(*step) for step in steps))
        self.out = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        x = torch.relu(self.stem((images - self.mean) / self.std))
        return self.out(self.blocks(x).mean(dim=(2, 3)))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch normalisation."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


ARCHITECTURES: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "lenet": LeNet,
    "lenet-caffe": LeNetCaffe,
    "resnet20": ResNet20,
}


def build(architecture: str, event_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return a freshly initialised network.

    Args:
        architecture: One of `ARCHITECTURES`.
        event_shape: Shape (C, H, W) of one image.
        classes: Number of logits, at least 2.

    Raises:
        ValueError: Where the name is unknown or the sizes do not suit the architecture.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"unknown architecture {architecture!r}: wanted one of {known}")
    event_shape = tuple(event_shape)
    if len(event_shape) != 3 or event_shape[0] < 1 or min(event_shape[1:]) < 4:
        raise ValueError(
            f"{architecture} wants images of shape (C, H, W) with sides of at least 4 pixels, "
            f"got {event_shape}"
        )
    if classes < 2:
        raise ValueError(f"{architecture} wants at least 2 classes, got {classes}")
    return ARCHITECTURES[architecture](event_shape, classes)


def check_logits(model: nn.Module, images: Tensor) -> None:
    """Check on a few images that a network returns logits, one row per image.

    Args:
        model: Network to check, in evaluation mode.
        images: Pixels in [0, 1], shape (B, C, H, W), on the network's device.

    Raises:
        ValueError: Where the network is in training mode, or its output is not a finite
            floating-point tensor of shape (B, K), K >= 2.

    Warns:
        UserWarning: Where the rows look like probabilities.
    """
    name = type(model).__name__
    if model.training:
        raise ValueError(
            f"{name} is in training mode, in which samples may depend on each other and no "
            "certificate holds: call eval() on it first"
        )
    with torch.no_grad():
        output = model(images)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"{name} must return one floating-point tensor of logits, got {got}")
    if output.ndim != 2 or len(output) != len(images) or output.shape[1] < 2:
        raise ValueError(
            f"{name} must return logits of shape ({len(images)}, K) with K >= 2 for "
            f"{len(images)} images, got {tuple(output.shape)}"
        )
    if not output.isfinite().all():
        raise ValueError(
            f"{name} returned logits that are not finite on images in [0, 1]: check its weights"
        )
    if (output >= 0).all() and ((output.sum(dim=1) - 1).abs() < 1e-4).all():
        warnings.warn(
            f"{name} returns probabilities; logits are wanted, as softmax is taken here: leave "
            "out the network's own softmax",
            UserWarning,
            stacklevel=2,
        )

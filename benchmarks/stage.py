"""The fused stages of the published LeNet beside torch's own operations, on a GPU.

Needs torch, numpy and scipy alone. Nanoseconds per image; the kernel is for GPUs of the Hopper
kind, and on another both columns are torch's.

    python benchmarks/stage.py --checkpoint LeNet5_0.25.pth
"""

import argparse
from pathlib import Path
from typing import get_args

import torch
from gpu import median_seconds, network
from torch import Tensor, nn

from rddrs_dist.cuda.swap import PooledConvolution, has_kernel
from rddrs_dist.smoothing.precision import Precision, multiplying

IMAGES, REPEATS = 42_800, 10


def times(stage: nn.Module, images: Tensor) -> tuple[float, float]:
    """Nanoseconds per image: forward, and input gradient once the forward pass is done."""

    def forward() -> None:
        with torch.no_grad():
            stage(images)

    leaf = images.clone().requires_grad_()
    found = stage(leaf)
    slope = torch.randn_like(found)

    def backward() -> None:
        torch.autograd.grad(found, leaf, slope, retain_graph=True)

    one, two = (median_seconds(call, images.device, REPEATS) for call in (forward, backward))
    return one / IMAGES * 1e9, two / IMAGES * 1e9


def main() -> None:
    """Prints one line per stage and precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="state dict of the LeNet")
    flags = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "stage.py: wanted a GPU, torch finds none: run it where there is one\n")
    device = torch.device("cuda")
    model = network(flags.checkpoint, device)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; ns per image")
    print(f"{'':17s}{'forward':>9s}{'apart':>9s}{'backward':>9s}{'apart':>9s}")
    with torch.no_grad():
        images = torch.randn(IMAGES, 1, 28, 28, device=device)
        inner = model.conv1(images)
    for name, stage, given in (("stage 1", model.conv1, images), ("stage 2", model.conv2, inner)):
        kernel = PooledConvolution(stage) if has_kernel(device) else stage
        for precision in get_args(Precision):
            with multiplying(precision, device):
                (forward, backward), library = times(kernel, given), times(stage, given)
            print(
                f"{name} {precision:8s} {forward:9.1f}{library[0]:9.1f}"
                f"{backward:9.1f}{library[1]:9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

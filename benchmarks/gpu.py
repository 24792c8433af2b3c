"""Seconds per image of every method on one device, and how near they come to the bare network.

Needs torch, numpy and scipy alone, and runs on a CPU by the same path. Images are the first of a
torchvision MNIST folder, the network is the published LeNet. RDDRS is timed for a few iterations
and extrapolated to its published number.

    python benchmarks/gpu.py --checkpoint LeNet5_0.25.pth --data-root data --device cuda
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from bare import Bench, seconds, work
from torch import Tensor, nn

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    RS,
    Ancer,
    Batching,
    Budget,
    Context,
    IsotropicNoise,
    Method,
    Neighbours,
    Smoothed,
    Streams,
)
from rddrs_dist.cuda.swap import has_kernel, swapped
from rddrs_dist.networks import LeNet
from rddrs_dist.smoothing.precision import Precision, multiplying

SIGMA, TEST_SET, RDDRS_STEPS = 0.25, 10_000, 2


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="state dict of the LeNet")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="torchvision root")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=64, help="images in one shard")
    parser.add_argument("--n", type=int, default=100_000, help="samples of a certificate")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--memory", type=float, help="GiB that launches may take")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--methods", nargs="+", default=["rs", "ddrs", "ancer", "rddrs_tr"])
    return parser.parse_args()


def mnist(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pixels (N, 1, 28, 28) in [0, 1] and labels (N,) of the torchvision folder."""
    name = root / "MNIST" / "raw" / {"test": "t10k", "train": "train"}[split]
    pixels = np.fromfile(f"{name}-images-idx3-ubyte", np.uint8)[16:]
    labels = np.fromfile(f"{name}-labels-idx1-ubyte", np.uint8)[8:]
    images = torch.from_numpy(pixels).view(-1, 1, 28, 28).float() / 255
    return images, torch.from_numpy(labels).long()


def network(path: Path, device: torch.device) -> LeNet:
    """The published network, channels last."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = LeNet((1, 28, 28), 10)
    model.load_state_dict(state)
    model = model.to(device).to(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second of a float32 matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device)
    seconds(lambda: one @ one, device)
    return 2 * size**3 / min(seconds(lambda: one @ one, device) for _ in range(3))


def flops(model: nn.Module, image: Tensor) -> float:
    """Floating-point operations of convolutions and linear layers for one image, forward."""
    counts: list[float] = []

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        weight = cast(Tensor, layer.weight)
        counts.append(2 * output.numel() * weight[0].numel())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def bench(flags: argparse.Namespace) -> Bench:
    """The network, the first test images and the training set on the device."""
    device = torch.device(flags.device)
    model = network(flags.checkpoint, device)
    model = swapped(model) if has_kernel(device) else model
    images = mnist(flags.data_root, "test")[0][: flags.images].to(device)
    neighbours = Neighbours(*(part.to(device) for part in mnist(flags.data_root, "train")))
    batching = Batching()
    if flags.memory is not None or device.type == "cuda":
        free = 0.8 * torch.cuda.mem_get_info()[0] if flags.memory is None else 2**30
        batching = Batching.within(free * (flags.memory or 1), model, images)
    context = Context(
        SIGMA,
        Streams.of(0, range(len(images))),
        sigma_star=IsotropicNoise.constant(2 * SIGMA, images),
        neighbours=neighbours,
        batching=batching,
    )
    smoothed = Smoothed(model, precision=flags.precision, batching=batching)
    return Bench(smoothed, images, context, Budget(n=flags.n))


def line(whole: Bench, method: Method, factor: float = 1) -> str:
    """Times of one method; those of its fit times a factor."""
    # Once before, with one step: compilers, caches and memory pools do their work then.
    once = replace(cast(Any, method), steps=1) if hasattr(method, "steps") else method
    replace(
        whole, images=whole.images[:1], context=whole.context[:1], budget=Budget(n=1000)
    ).times(once)
    times = whole.times(method)
    share = f"{times.bare_fit / times.fit:8.0%} " if times.bare_fit else f"{'':9s}"
    fitting = times.fit * factor
    hours = (fitting + times.certify) * TEST_SET / 3600
    return (
        f"{method.name:9s} {fitting:9.3f} {share}{times.certify:10.3f} "
        f"{times.bare_certify / times.certify:8.0%} {hours:7.2f} h"
    )


def main() -> None:
    """Prints the device's rates, then one line per method."""
    flags = options()
    torch.set_num_threads(flags.threads)
    whole = bench(flags)
    device = whole.images.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {flags.threads} threads, {flags.images} images")
    with multiplying("float32", device):
        peak = matrix_rate(device)
    (forward, backward), certifying = whole.rates()
    apart = network(flags.checkpoint, torch.device("cpu"))  # its layers tell what they do
    own = certifying * flops(apart, whole.images[:1].cpu())
    print(f"float32 matrix product {peak / 1e12:.3f} Tflop/s")
    print(f"network in fits {forward:,.0f} samples/s forward, {backward:,.0f} with gradient")
    print(f"network in certificates {certifying:,.0f} samples/s forward, {flags.precision}")
    print(f"that is {own / 1e12:.3f} Tflop/s, {own / peak:.0%} of the matrix product's")
    print(
        f"{'':9s} {'fit s':>9s} {'of bare':>8s} {'certify s':>10s} {'of bare':>8s} {'10,000':>9s}"
    )
    published, short = RDDRS(), RDDRS(step_lengths=(1.0,), steps=RDDRS_STEPS)
    factor = work(published, published.steps).both / work(short, short.steps).both
    known = {method.name: method for method in (RS(), DDRS(), Ancer(), short, RDDRSTR())}
    for method in (known[name] for name in flags.methods):
        print(line(whole, method, factor if method is short else 1), flush=True)


if __name__ == "__main__":
    main()

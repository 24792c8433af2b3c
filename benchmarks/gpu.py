"""Seconds per image of every method on one device, and how near they come to the bare network.

Needs torch, numpy and scipy alone, and runs on a CPU by the same path. Images are the first of a
torchvision MNIST folder, the network is the published LeNet. RDDRS is timed for a few iterations
and extrapolated to its published number.

    python benchmarks/gpu.py --checkpoint LeNet5_0.25.pth --data-root data --device cuda
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from counts import work
from torch import Tensor, nn

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    RS,
    Ancer,
    Budget,
    Certificate,
    Context,
    Fit,
    IsotropicNoise,
    Method,
    Neighbours,
    Streams,
    certify,
)
from rddrs_dist.networks import LeNet
from rddrs_dist.smoothing.batching import Batches, Memory, limit_memory
from rddrs_dist.smoothing.precision import Precision, multiplying
from rddrs_dist.smoothing.sample import input_gradient

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


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call and of all that it left to the device."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second of a float32 matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device)
    seconds(lambda: one @ one, device)
    return 2 * size**3 / min(seconds(lambda: one @ one, device) for _ in range(3))


def bare_rates(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Samples per second of the network alone: forward, and forward with input gradient."""
    launches = Batches.of(images, 1 << 20)
    rows = launches.blocks[0] * min(launches.images, len(images))
    batch = images[:1] + torch.randn(rows, *images.shape[1:], device=images.device)
    cotangent = torch.eye(10, device=images.device)[0]

    def forward() -> None:
        with torch.no_grad():
            model(batch)

    def gradient() -> None:
        leaf = batch.clone().requires_grad_()
        input_gradient(model(leaf), cotangent, leaf)

    found = []
    for call in (forward, gradient):
        seconds(call, images.device)
        found.append(rows / np.median([seconds(call, images.device) for _ in range(20)]))
    return found[0], found[1]


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


class Bench:
    """A network, images and the rates of the network alone."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.device = torch.device(flags.device)
        self.model = network(flags.checkpoint, self.device)
        images = mnist(flags.data_root, "test")[0][: flags.images].to(self.device)
        reference = Neighbours(*(part.to(self.device) for part in mnist(flags.data_root, "train")))
        self.images, self.budget = images, Budget(n=flags.n)
        self.context = Context(
            SIGMA,
            Streams.of(0, range(len(images))),
            sigma_star=IsotropicNoise.constant(2 * SIGMA, images),
            neighbours=reference,
        )
        if flags.memory is not None or self.device.type == "cuda":
            free = 0.8 * torch.cuda.mem_get_info()[0] if flags.memory is None else 2**30
            limit_memory(Memory.of(self.model, images, free * (flags.memory or 1)))
        self.precision: Precision = flags.precision
        with multiplying("tf32", self.device):
            self.fitting = bare_rates(self.model, images)
        with multiplying(self.precision, self.device):
            self.certifying = bare_rates(self.model, images)[0]

    def certified(self, fit: Fit, budget: Budget) -> Certificate:
        """Of the first images, one per noise of a fit."""
        own, streams = self.images[: len(fit.noise)], self.context.streams[: len(fit.noise)]
        return certify(
            self.model, own, fit.noise, budget, streams, precision=self.precision, limit=fit.limit
        )

    def line(self, method: Method, factor: float = 1) -> str:
        """Times of one method; those of its fit times a factor."""
        model, images, context = self.model, self.images, self.context
        # Once before, with one step: compilers, caches and memory pools do their work then.
        once = replace(cast(Any, method), steps=1) if hasattr(method, "steps") else method
        first = once.fit(model, images[:1], context[:1])
        self.certified(first, replace(self.budget, n=1000))
        fits: list[Fit] = []
        fitting = seconds(lambda: fits.append(method.fit(model, images, context)), self.device)
        done = work(method, round(fits[0].steps.mean()))
        certifying = seconds(lambda: self.certified(fits[0], self.budget), self.device)
        bare = done.seconds(*self.fitting) * len(images)
        share = f"{bare / fitting:8.0%} " if bare else f"{'':9s}"
        fitting *= factor
        bare = (self.budget.n + self.budget.n0) / self.certifying * len(images)
        total = (fitting + certifying) / len(images) * TEST_SET / 3600
        return (
            f"{method.name:9s} {fitting / len(images):9.3f} {share}"
            f"{certifying / len(images):10.3f} {bare / certifying:8.0%} {total:7.2f} h"
        )


def main() -> None:
    """Prints the device's rates, then one line per method."""
    flags = options()
    torch.set_num_threads(flags.threads)
    bench = Bench(flags)
    cuda = bench.device.type == "cuda"
    name = torch.cuda.get_device_name(bench.device) if cuda else "CPU"
    print(f"{name}, torch {torch.__version__}, {flags.threads} threads, {flags.images} images")
    with multiplying("float32", bench.device):
        peak = matrix_rate(bench.device)
    own = bench.certifying * flops(deepcopy(bench.model).cpu(), bench.images[:1].cpu())
    forward, backward = bench.fitting
    print(f"float32 matrix product {peak / 1e12:.3f} Tflop/s")
    print(f"network in fits {forward:,.0f} samples/s forward, {backward:,.0f} with gradient")
    print(f"network in certificates {bench.certifying:,.0f} samples/s forward, {bench.precision}")
    print(f"that is {own / 1e12:.3f} Tflop/s, {own / peak:.0%} of the matrix product's")
    print(
        f"{'':9s} {'fit s':>9s} {'of bare':>8s} {'certify s':>10s} {'of bare':>8s} {'10,000':>9s}"
    )
    published, short = RDDRS(), RDDRS(step_lengths=(1.0,), steps=RDDRS_STEPS)
    factor = work(published, published.steps).both / work(short, short.steps).both
    known = {method.name: method for method in (RS(), DDRS(), Ancer(), short, RDDRSTR())}
    for method in (known[name] for name in flags.methods):
        print(bench.line(method, factor if method is short else 1), flush=True)


if __name__ == "__main__":
    main()

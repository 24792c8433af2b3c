"""Seconds per image of every method on one device, and how near they come to the bare network.

Needs torch, numpy and scipy alone, and runs on a CPU by the same path. Images are the first of a
torchvision MNIST folder, the network is the published LeNet. RDDRS is timed for a few iterations
and extrapolated to its published number.

    python benchmarks/gpu.py --checkpoint LeNet5_0.25.pth --data-root data --device cuda
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    RS,
    URS,
    Aim,
    Ancer,
    Batching,
    Budget,
    Context,
    IsotropicNoise,
    Method,
    Neighbours,
    Smoothed,
    Streams,
    certify,
)
from rddrs_dist.cuda.swap import has_kernel, swapped
from rddrs_dist.networks import LeNet
from rddrs_dist.smoothing.precision import Precision, multiplying
from rddrs_dist.smoothing.sample import input_gradient

SIGMA, TEST_SET, REPEATS = 0.25, 10_000, 20
SHORT = RDDRS(step_lengths=(1.0,), steps=2)
REPEATED = len(RDDRS().step_lengths) * RDDRS().steps / SHORT.steps  # SHORT, to be the published
HEADER = f"{'':9s} {'fit s':>9s} {'of bare':>8s} {'certify s':>10s} {'of bare':>8s} {'10,000':>9s}"


def work(method: Method, steps: int) -> tuple[int, int]:
    """Samples per image that a fit of so many steps sends forward alone, and forward and backward.

    That of URS is for all images; the DDRS start of others is left out. RDDRS-TR at blindness 1
    seeks its size again where the first one falls short.
    """
    match method:
        case DDRS():
            candidates = steps // method.candidate_every
            return candidates * method.compare_samples, steps * method.samples
        case Ancer():
            rates = len(method.learning_rates)
            return rates * method.compare_samples, rates * steps * method.samples
        case RDDRS():
            lengths = len(method.step_lengths)
            compared = lengths * method.compare_samples if lengths > 1 else 0
            forward = lengths * steps * method.margin_samples + compared
            return forward, lengths * steps * method.gradient_samples
        case RDDRSTR() if method.blindness < 1:
            n = method.compare_samples
            start = 2 * len(method.round_ladder) * method.start_samples
            fine = len(method.round_multiples) * (n + n // 2) + n // 2
            sizes = (1 + len(method.sized_multiples)) * 2 * n
            # At the image and at others; in the ascent they go forward once more.
            near = 2 * steps * method.samples
            return start + fine + sizes + near, near
        case RDDRSTR():
            start = len(method.start_multiples) * method.start_samples
            few, many = method.coarse_samples, method.compare_samples
            coarse, fine = len(method.coarse_multiples) + 1, len(method.fine_multiples) + 1
            # Samples near the boundary go forward once more to be differentiated.
            near = steps * round(method.boundary_share * method.samples)
            return start + steps * method.samples + coarse * few + fine * many, near
        case URS():  # for all images together
            near = method.steps * round(method.boundary_share * method.samples)
            return method.start_samples + method.steps * method.samples, near
        case Aim():  # steps are noises that were tried
            return method.start_samples + steps * (method.samples + method.sight_samples), 0
        case _:
            return 0, 0


def seconds(call: Callable[[], object], device: torch.device | None = None) -> float:
    """Wall time of a call, and of all that it left to a GPU."""
    start = time.perf_counter()
    call()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median of several calls, after one that warms caches."""
    seconds(call, device)
    return float(np.median([seconds(call, device) for _ in range(repeats)]))


def rates(model: nn.Module, images: Tensor, batching: Batching) -> tuple[float, float]:
    """Samples per second of the network alone: forward, and forward with input gradient.

    Images (B, *event) share launches as those of a fit do.
    """
    launches = batching.batches(images, 1 << 20)
    rows = launches.blocks[0] * min(launches.images, len(images))
    batch = images[:1] + torch.randn(rows, *images.shape[1:], device=images.device)
    cotangent = torch.eye(10, device=images.device)[0]

    def forward() -> None:
        with torch.no_grad():
            model(batch)

    def gradient() -> None:
        leaf = batch.clone().requires_grad_()
        input_gradient(model(leaf), cotangent, leaf)

    one, both = (median_seconds(call, images.device, REPEATS) for call in (forward, gradient))
    return rows / one, rows / both


@dataclass(frozen=True, eq=False)
class Bench:
    """Images (B, *event) and a network to measure methods with."""

    smoothed: Smoothed
    images: Tensor
    context: Context
    budget: Budget

    def rates(self) -> tuple[tuple[float, float], float]:
        """Samples per second of the network alone, in fits, see `rates`, and in certificates."""
        given = (self.smoothed.model, self.images, self.smoothed.batching)
        with multiplying("tf32", self.images.device):
            fitting = rates(*given)
        with multiplying(self.smoothed.precision, self.images.device):
            return fitting, rates(*given)[0]

    def times(self, method: Method) -> list[float]:
        """Seconds per image of a fit, of a certificate, and of the network alone in each of them.

        The network is measured before and after the method: machines change their pace.
        """
        model, images, context = self.smoothed.model, self.images, self.context
        found, before = [], self.rates()
        fitting = seconds(lambda: found.append(method.fit(model, images, context)), images.device)
        (fit,) = found
        certifying = seconds(
            lambda: certify(self.smoothed, images, fit, self.budget, context.streams),
            images.device,
        )
        forward, both = work(method, round(fit.steps.mean()))
        samples = self.budget.n + self.budget.n0
        bare = [
            (forward / own[0] + both / own[1], samples / one)
            for own, one in (before, self.rates())
        ]
        return [fitting / len(images), certifying / len(images), *np.mean(bare, axis=0).tolist()]


def line(method: Method, times: list[float]) -> str:
    """A line under HEADER with the hours of the test set; SHORT as long as it is published."""
    fit, certifying, bare_fit, bare_certify = times
    share = f"{bare_fit / fit:8.0%}" if bare_fit else f"{'':8s}"
    whole = fit * REPEATED if method is SHORT else fit
    hours = (whole + certifying) * TEST_SET / 3600
    return (
        f"{method.name:9s} {whole:9.3f} {share} {certifying:10.3f} "
        f"{bare_certify / certifying:8.0%} {hours:7.2f} h"
    )


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
    model = LeNet((1, 28, 28), 10)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model = model.to(device).to(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


def bench(flags: argparse.Namespace) -> Bench:
    """The network, the first test images and the training set on the device."""
    device = torch.device(flags.device)
    model = network(flags.checkpoint, device)
    model = swapped(model) if has_kernel(device) else model
    images = mnist(flags.data_root, "test")[0][: flags.images].to(device)
    batching = Batching()
    if flags.memory is not None:
        batching = Batching.within(flags.memory * 2**30, model, images)
    elif device.type == "cuda":
        batching = Batching.within(0.8 * torch.cuda.mem_get_info()[0], model, images)
    context = Context(
        SIGMA,
        Streams.of(0, range(len(images))),
        sigma_star=IsotropicNoise.constant(2 * SIGMA, images),
        neighbours=Neighbours(*(part.to(device) for part in mnist(flags.data_root, "train"))),
        batching=batching,
    )
    smoothed = Smoothed(model, precision=flags.precision, batching=batching)
    return Bench(smoothed, images, context, Budget(n=flags.n))


def main() -> None:
    """Prints the device's rates, then one line per method."""
    flags = options()
    torch.set_num_threads(flags.threads)
    whole = bench(flags)
    device = whole.images.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {flags.threads} threads, {flags.images} images")
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device)
    with multiplying("float32", device):
        peak = 2 * size**3 / median_seconds(lambda: one @ one, device, 3)
    (forward, backward), certifying = whole.rates()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(flags.checkpoint, torch.device("cpu"))(whole.images[:1].cpu())
    own = certifying * counter.get_total_flops()
    print(f"float32 matrix product {peak / 1e12:.3f} Tflop/s")
    print(f"network in fits {forward:,.0f} samples/s forward, {backward:,.0f} with gradient")
    print(f"network in certificates {certifying:,.0f} samples/s forward, {flags.precision}")
    print(f"that is {own / 1e12:.3f} Tflop/s, {own / peak:.0%} of the matrix product's")
    print(HEADER)
    known = {method.name: method for method in (RS(), DDRS(), Ancer(), SHORT, RDDRSTR())}
    # Compilers, caches and memory pools start with one image.
    first = replace(whole, images=whole.images[:1], context=whole.context[:1])
    first = replace(first, budget=Budget(n=1000))
    for method in (known[name] for name in flags.methods):
        first.times(replace(cast(Any, method), steps=1) if hasattr(method, "steps") else method)
        print(line(method, whole.times(method)), flush=True)


if __name__ == "__main__":
    main()

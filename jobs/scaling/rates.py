"""What a machine does per second of each kind of work, and what a network holds for a sample."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rddrs_dist.run.costs import Rates
from rddrs_dist.run.worker import Worker
from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.batching import Batches
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import input_gradient

_MOST, _MOST_OF_A_RATE = 5, 25  # repetitions
_ROWS64 = 1024  # rows of the float64 product; looks at training images have thousands
_TINY = 1e-9  # seconds


@dataclass(frozen=True)
class Stopwatch:
    """Measures calls on a device.

    Attributes:
        device: Whose work is waited for.
        enough: Seconds after which a measurement is not repeated.
    """

    device: torch.device
    enough: float

    def once(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of one call, and what it returned."""
        start = time.perf_counter()
        found = call()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, found

    def median(self, call: Callable[[], object], most: int = _MOST) -> float:
        """Median seconds of a few calls."""
        times: list[float] = []
        while len(times) < most and sum(times) < self.enough:
            times.append(self.once(call)[0])
        return float(np.median(times))

    def rate(self, amount: float, call: Callable[[], object]) -> float:
        """An amount per second of a call that was tried before."""
        first, _ = self.once(call)
        if first < self.enough:
            first = self.median(call, _MOST_OF_A_RATE)
        return amount / first


def rates(worker: Worker, images: Tensor, watch: Stopwatch) -> Rates:
    """What a worker does per second, each kind of work on its own and in launches as fits use.

    Args:
        worker: Its network and device.
        images: (B, *event).
        watch: Measures.
    """
    d, rows = images[0].numel(), Batches.of(images, 1 << 20).blocks[0]
    image, streams = images[:1], Streams.of(0, [0])
    noisy = (image + torch.randn(rows, *images.shape[1:], device=images.device)).contiguous()

    def forward(samples: Tensor) -> Tensor:
        with torch.no_grad(), multiplying(worker.task.precision, samples.device):
            return worker.model(samples)

    cotangent = torch.zeros_like(forward(image)[0])
    cotangent[0] = 1

    def both(samples: Tensor) -> None:
        leaf = samples.clone().requires_grad_()
        with multiplying("tf32", leaf.device):
            input_gradient(worker.model(leaf), cotangent, leaf)

    def draw() -> Tensor:
        return image + streams.normal(Stage.FIT, 1, 0, rows, image)

    one = torch.randn(d, d, device=images.device)
    two, flat = one.double(), noisy.flatten(1)
    many = torch.randn(_ROWS64, d, device=images.device, dtype=torch.float64)
    gram = two @ two.mT
    forward_rate, forward_calls = _line(watch, forward, noisy)
    both_rate, both_calls = _line(watch, both, noisy)
    return Rates(
        forward=forward_rate,
        both=both_rate,
        forward_calls=forward_calls,
        both_calls=both_calls,
        elements=watch.rate(rows * d, draw),
        products=watch.rate(2 * rows * d**2, lambda: flat @ one),
        products64=watch.rate(2 * _ROWS64 * d**2, lambda: many @ two),
        squares=watch.rate(2 * d**3, lambda: one @ one),
        squares64=watch.rate(2 * d**3, lambda: two @ two),
        factors=watch.rate(d**3, lambda: torch.linalg.eigh(gram)),
        singular=watch.rate(d**3, lambda: torch.linalg.svdvals(two)),
    )


def _line(
    watch: Stopwatch, call: Callable[[Tensor], object], samples: Tensor
) -> tuple[float, float]:
    """Samples per second, and calls per second if there were nothing but their overhead."""
    few = 1 / watch.rate(1, lambda: call(samples[:1]))
    many = 1 / watch.rate(1, lambda: call(samples))
    each = max(many - few, _TINY) / (len(samples) - 1)
    return 1 / each, 1 / max(few - each, _TINY)


def activations(model: nn.Module, image: Tensor) -> float:
    """Bytes of all that the layers of a network put out for one image (1, *event)."""
    sizes: list[int] = []
    model, image = deepcopy(model).cpu(), image.cpu()  # layers are apart there
    leaves = [layer for layer in model.modules() if not list(layer.children())]
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(output.nbytes))
        for layer in leaves
    ]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return float(sum(sizes))

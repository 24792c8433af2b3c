"""Methods beside the network alone: seconds of both, on as many samples.

Needs torch, numpy and scipy alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    Ancer,
    Batching,
    Budget,
    Context,
    Method,
    Smoothed,
    certify,
)
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import input_gradient

_REPEATS = 20


class Work(NamedTuple):
    """Samples that go through the network, per image.

    Attributes:
        forward: Samples that go forward alone.
        both: Samples that go forward and backward.
    """

    forward: int
    both: int

    @property
    def passes(self) -> int:
        """Samples that went through the network, in whichever directions."""
        return self.forward + self.both

    def seconds(self, forward_rate: float, both_rate: float) -> float:
        """Time of the network alone, from its samples per second."""
        return self.forward / forward_rate + self.both / both_rate


def work(method: Method, steps: int) -> Work:
    """The samples of a fit of so many steps, without those of the DDRS start.

    RDDRS-TR is taken to seek one size of its region; it seeks again where that size falls short.
    """
    match method:
        case DDRS():
            candidates = steps // method.candidate_every
            return Work(candidates * method.compare_samples, steps * method.samples)
        case Ancer():
            rates = len(method.learning_rates)
            return Work(rates * method.compare_samples, rates * steps * method.samples)
        case RDDRS():
            lengths = len(method.step_lengths)
            compared = lengths * method.compare_samples if lengths > 1 else 0
            forward = lengths * steps * method.margin_samples + compared
            return Work(forward, lengths * steps * method.gradient_samples)
        case RDDRSTR():
            start = len(method.start_multiples) * method.start_samples
            few, many = method.coarse_samples, method.compare_samples
            coarse, fine = len(method.coarse_multiples) + 1, len(method.fine_multiples) + 1
            # Samples near the boundary go forward once more to be differentiated.
            near = steps * round(method.boundary_share * method.samples)
            return Work(start + steps * method.samples + coarse * few + fine * many, near)
        case _:
            return Work(0, 0)


def seconds(call: Callable[[], object], device: torch.device | None = None) -> float:
    """Wall time of a call, and of all that it left to a GPU."""
    start = time.perf_counter()
    call()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rates(model: nn.Module, images: Tensor, batching: Batching) -> tuple[float, float]:
    """Samples per second of the network alone: forward, and forward with input gradient.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event), which share launches as those of a fit do.
        batching: How many images share a launch.
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

    found = []
    for call in (forward, gradient):
        seconds(call, images.device)
        found.append(rows / np.median([seconds(call, images.device) for _ in range(_REPEATS)]))
    return found[0], found[1]


class Times(NamedTuple):
    """Seconds per image of a method, and of the network alone on as many samples.

    Attributes:
        fit: Of a fit.
        certify: Of a certificate.
        bare_fit: Of the network alone on the samples of the fit; 0 where there are none.
        bare_certify: The same for the certificate.
    """

    fit: float
    certify: float
    bare_fit: float
    bare_certify: float


@dataclass(frozen=True, eq=False)
class Bench:
    """Images and a network to measure methods with.

    Attributes:
        smoothed: The network, its precision and its batching.
        images: (B, *event).
        context: sigma, streams, a start and neighbours.
        budget: Of a certificate.
    """

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

    def times(self, method: Method) -> Times:
        """One method, between two measurements of the network: machines change their pace."""
        model, images, context = self.smoothed.model, self.images, self.context
        device, found = images.device, []
        before = self.rates()
        fit_seconds = seconds(lambda: found.append(method.fit(model, images, context)), device)
        (fit,) = found
        certify_seconds = seconds(
            lambda: certify(self.smoothed, images, fit, self.budget, context.streams), device
        )
        fitting, certifying = work(method, round(fit.steps.mean())), self.budget.n + self.budget.n0
        pairs = [(fitting.seconds(*own), certifying / one) for own, one in (before, self.rates())]
        return Times(
            fit_seconds / len(images),
            certify_seconds / len(images),
            *np.mean(pairs, axis=0).tolist(),
        )

"""Fit and certification beside the bare rate of the network, in one run.

The bare time is that of the network alone on as many samples: forward for certification; forward,
and forward with input gradient, for the fit. Noise is drawn once. The time of RDDRS at its
published setting is extrapolated from a few of its iterations.

    python benchmarks/throughput.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import tyro
from counts import Work, work
from mnist import Mnist, Source
from rddrs_step import seconds
from torch import Tensor

from rddrs_dist import RDDRS, RDDRSTR, RS, Budget, IsotropicNoise, certify
from rddrs_dist.smoothing.batching import Batches
from rddrs_dist.smoothing.sample import input_gradient

BUDGET = Budget()


class Beside(NamedTuple):
    """Seconds of our own, and of the network alone on as many samples."""

    ours: float
    network: float


def network(mnist: Mnist, noisy: Tensor, samples: Work) -> Callable[[int], None]:
    """The network alone on one share in so many of the samples, in launches as long as `noisy`."""

    def run(share: int) -> None:
        for _ in range(samples.both // share // len(noisy)):
            batch = noisy.clone().requires_grad_()
            input_gradient(mnist.model(batch), torch.eye(10)[0], batch)
        with torch.no_grad():
            for _ in range(samples.forward // share // len(noisy)):
                mnist.model(noisy)

    return run


def beside(ours: Callable[[], object], alone: Callable[[int], None]) -> Beside:
    """Half of the network's work before ours, half after it: a machine is not always as fast."""
    before, own, after = seconds(alone, 2), seconds(ours), seconds(alone, 2)
    return Beside(own, before + after)


def measure(mnist: Mnist, row: int) -> dict[str, Beside]:
    """One image."""
    model, image, context = mnist.model, mnist.images[row : row + 1], mnist.context(row)
    method, found = RDDRSTR(), {}
    fit = method.fit(model, image, context)
    z = torch.randn(1, Batches.of(image, BUDGET.n).blocks[0], *image.shape[1:])
    noisy = (image + fit.noise.colour(z)[0]).contiguous()
    alone = network(mnist, noisy, work(method, int(fit.steps[0])))
    found["fit rddrs_tr"] = beside(lambda: method.fit(model, image, context), alone)
    for name, own in (("rs", RS().fit(model, image, context)), ("rddrs_tr", fit)):
        noisy = (image + own.noise.colour(z)[0]).contiguous()
        certified = partial(certify, model, image, own.noise, BUDGET, context.streams)
        alone = network(mnist, noisy, Work(BUDGET.n + BUDGET.n0, 0))
        found[f"certify {name}"] = beside(certified, alone)
    return found


def published_seconds(mnist: Mnist, row: int) -> float:
    """Seconds of one image by RDDRS at its published setting, from two of its iterations."""
    published, image, context = RDDRS(), mnist.images[row : row + 1], mnist.context(row)
    few = replace(published, step_lengths=(1.0,), steps=2)
    start = replace(context, sigma_star=IsotropicNoise.constant(2 * context.sigma, image))
    ratio = len(published.step_lengths) * published.steps / few.steps
    return ratio * seconds(few.fit, mnist.model, image, start)


def main(source: Source) -> None:
    """Prints medians over the images."""
    mnist = Mnist.load(source)
    rows = range(len(mnist.labels))
    runs = [measure(mnist, row) for row in rows]
    found = {name: [run[name] for run in runs] for name in runs[0]}
    ours = {name: np.median([one.ours for one in own]) for name, own in found.items()}
    print(f"torch {torch.__version__}, {source.threads} threads, n = {BUDGET.n:,}")
    for name in ("certify rs", "certify rddrs_tr", "fit rddrs_tr"):
        share = np.median([one.network / one.ours for one in found[name]])
        print(f"{name:18s} {ours[name]:9.2f} s, {share:4.0%} of the bare rate")
    published = np.median([published_seconds(mnist, row) for row in rows])
    times = published / ours["fit rddrs_tr"]
    print(f"{'fit rddrs':18s} {published:9.2f} s, {times:.0f} times that of rddrs_tr")


if __name__ == "__main__":
    main(tyro.cli(Source))

"""Fit and certification beside the bare rate of the network, in one run.

The bare time is that of the network alone on as many samples: forward for certification; forward,
and forward with input gradient, for the fit. Noise is drawn once. The time of RDDRS at its
published setting is extrapolated from a few of its iterations.

    python benchmarks/throughput.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import replace

import numpy as np
import torch
import tyro
from counts import work
from mnist import Mnist, Source
from rddrs_step import seconds
from torch import Tensor

from rddrs_dist import RDDRS, RDDRSTR, RS, Budget, IsotropicNoise, certify
from rddrs_dist.smoothing.launch import Launches
from rddrs_dist.smoothing.sample import input_gradient

BUDGET = Budget()


def forward(mnist: Mnist, noisy: Tensor, n: int) -> None:
    """The network on n samples, in launches as long as `noisy`."""
    with torch.no_grad():
        for _ in range(n // len(noisy)):
            mnist.model(noisy)


def gradient(mnist: Mnist, noisy: Tensor, n: int) -> None:
    """Network and input gradient on n samples."""
    for _ in range(n // len(noisy)):
        batch = noisy.clone().requires_grad_()
        input_gradient(mnist.model(batch), torch.eye(10)[0], batch)


def measure(mnist: Mnist, row: int) -> dict[str, float]:
    """Seconds of one image, and of the network alone on as many samples."""
    image, context = mnist.images[row : row + 1], mnist.context(row)
    method, found = RDDRSTR(), {}
    fit = method.fit(mnist.model, image, context)
    for name, noise in (
        ("rs", RS().fit(mnist.model, image, context).noise),
        ("rddrs_tr", fit.noise),
    ):
        z = torch.randn(1, Launches.of(image, BUDGET.n).blocks[0], *image.shape[1:])
        noisy = (image + noise.colour(z)[0]).contiguous()
        ours = seconds(certify, mnist.model, image, noise, BUDGET, context.streams)
        found[f"certify {name}"] = ours
        found[f"certify {name}, network"] = seconds(forward, mnist, noisy, BUDGET.n + BUDGET.n0)
    found["fit rddrs_tr"] = seconds(method.fit, mnist.model, image, context)
    samples = work(method, int(fit.steps[0]))
    found["fit rddrs_tr, network"] = seconds(gradient, mnist, noisy, samples.both) + seconds(
        forward, mnist, noisy, samples.forward
    )
    published = RDDRS()
    few = replace(published, step_lengths=(1.0,), steps=2)
    start = replace(context, sigma_star=IsotropicNoise.constant(2 * context.sigma, image))
    ratio = len(published.step_lengths) * published.steps / few.steps
    found["fit rddrs"] = ratio * seconds(few.fit, mnist.model, image, start)
    return found


def main(source: Source) -> None:
    """Prints medians over the images."""
    mnist = Mnist.load(source)
    runs = [measure(mnist, row) for row in range(len(mnist.labels))]
    found = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    print(f"torch {torch.__version__}, {source.threads} threads, n = {BUDGET.n:,}")
    for name in ("certify rs", "certify rddrs_tr", "fit rddrs_tr"):
        ours, network = found[name], found[f"{name}, network"]
        print(f"{name:18s} {ours:9.2f} s, {network / ours:4.0%} of the bare rate")
    times = found["fit rddrs"] / found["fit rddrs_tr"]
    print(f"{'fit rddrs':18s} {found['fit rddrs']:9.2f} s, {times:.0f} times that of rddrs_tr")


if __name__ == "__main__":
    main(tyro.cli(Source))

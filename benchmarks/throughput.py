"""Fit and certification beside the bare rate of the network, in one run.

The bare time is that of the network alone on as many samples: forward for certification; forward
and input gradient, and the forward passes of start and sizing, for the fit. Noise is drawn once.

    python benchmarks/throughput.py --checkpoint LeNet5_0.25.pth --data-root data
"""

import numpy as np
import torch
import tyro
from ablation import ascent, passes
from mnist import Mnist, Source
from rddrs_step import seconds
from torch import Tensor

from rddrs_dist import RDDRSTR, RS, Budget, certify
from rddrs_dist.smoothing.launch import Launches
from rddrs_dist.smoothing.sample import input_gradient

BUDGET = Budget(n=20_000)


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


def shares(mnist: Mnist, row: int) -> tuple[float, float, float]:
    """Bare time over real time: certification of RS and of RDDRS-TR, fit of RDDRS-TR."""
    image, context = mnist.images[row : row + 1], mnist.context(row)
    method = RDDRSTR()
    fit = method.fit(mnist.model, image, context)
    size = Launches.of(image, BUDGET.n).blocks[0]
    steps = int(fit.steps[0])
    slopes = ascent(method, steps)
    found = []
    for noise in (RS().fit(mnist.model, image, context).noise, fit.noise):
        z = torch.randn(1, size, *image.shape[1:])
        noisy = (image + noise.colour(z)[0]).contiguous()
        ours = seconds(certify, mnist.model, image, noise, BUDGET, context.streams)
        found.append(seconds(forward, mnist, noisy, BUDGET.n + BUDGET.n0) / ours)
    ours = seconds(method.fit, mnist.model, image, context)
    bare = seconds(gradient, mnist, noisy, slopes)
    bare += seconds(forward, mnist, noisy, passes(method, steps) - slopes)
    return found[0], found[1], bare / ours


def main(source: Source) -> None:
    """Prints the medians over the images."""
    mnist = Mnist.load(source)
    found = np.median([shares(mnist, row) for row in range(len(mnist.labels))], axis=0)
    print(f"torch {torch.__version__}, {source.threads} threads; share of the bare rate:")
    for name, share in zip(("certify rs", "certify rddrs_tr", "fit rddrs_tr"), found, strict=True):
        print(f"{name:18s} {share:.0%}")


if __name__ == "__main__":
    main(tyro.cli(Source))

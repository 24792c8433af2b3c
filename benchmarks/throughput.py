"""Fit and certification beside the bare rate of the network, one image at a time on a CPU.

The bare time is that of the network alone on as many samples: forward for certification; forward,
and forward with input gradient, for the fit. The time of RDDRS at its published setting is
extrapolated from two of its iterations.

    python benchmarks/throughput.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import replace

import numpy as np
import torch
import tyro
from bare import Bench, Times
from inputs import Mnist, Source

from rddrs_dist import RDDRS, RDDRSTR, RS, Budget, IsotropicNoise, Method, Smoothed

SHORT = RDDRS(step_lengths=(1.0,), steps=2)
REPEATED = len(RDDRS().step_lengths) * RDDRS().steps / SHORT.steps


def measure(mnist: Mnist, row: int, method: Method) -> Times:
    """One image."""
    image, context = mnist.images[row : row + 1], mnist.context(row)
    wide = replace(context, sigma_star=IsotropicNoise.constant(2 * context.sigma, image))
    return Bench(Smoothed(mnist.model), image, wide, Budget()).times(method)


def main(source: Source) -> None:
    """Prints medians over the images."""
    mnist = Mnist.load(source)
    print(f"torch {torch.__version__}, {source.threads} threads, n = {Budget().n:,}")
    print(f"{'':9s} {'fit s':>9s} {'of bare':>8s} {'certify s':>10s} {'of bare':>8s}")
    for method in (RS(), RDDRSTR(), SHORT):
        times = [measure(mnist, row, method) for row in range(len(mnist.labels))]
        fit, certifying, bare_fit, bare_certify = np.median(times, axis=0)
        whole = fit * (REPEATED if method is SHORT else 1)
        share = f"{bare_fit / fit:8.0%}" if bare_fit else f"{'':8s}"
        print(
            f"{method.name:9s} {whole:9.2f} {share} {certifying:10.2f} "
            f"{bare_certify / certifying:8.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Source))

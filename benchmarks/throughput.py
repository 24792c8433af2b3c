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
from gpu import HEADER, SHORT, Bench, line
from inputs import Mnist, Source

from rddrs_dist import RDDRSTR, RS, Budget, IsotropicNoise, Smoothed


def main(source: Source) -> None:
    """Prints medians over the images."""
    mnist, benches = Mnist(source), []
    for case in mnist.cases:
        wide = IsotropicNoise.constant(2 * case.context.sigma, case.image)
        context = replace(case.context, sigma_star=wide)
        benches.append(Bench(Smoothed(mnist.model), case.image, context, Budget()))
    print(f"torch {torch.__version__}, {source.threads} threads, n = {Budget().n:,}\n{HEADER}")
    for method in (RS(), RDDRSTR(), SHORT):
        times = [bench.times(method) for bench in benches]
        print(line(method, np.median(times, axis=0).tolist()), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

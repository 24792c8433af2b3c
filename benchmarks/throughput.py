"""Fit, certification and sight beside the bare rate of the network, one image at a time on a CPU.

The bare time is that of the network alone on as many samples: forward for certification and sight;
forward, and forward with input gradient, for the fit. The time of RDDRS at its published setting
is extrapolated from two of its iterations. The fit of URS is the one of a run, for all images.

    python benchmarks/throughput.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import replace

import numpy as np
import torch
import tyro
from gpu import HEADER, SHORT, Bench, line, seconds, work
from inputs import Mnist, Source

from rddrs_dist import RDDRSTR, RS, URS, Budget, FullNoise, IsotropicNoise, Smoothed
from rddrs_dist.sight import blind_samples

SIGHT_SAMPLES = 2000


def sight(bench: Bench) -> tuple[float, float]:
    """Seconds that the blindness of a full noise takes, and the network alone."""
    image, known = bench.images, bench.context.neighbours
    assert known is not None
    scale = bench.context.sigma * torch.eye(image[0].numel()).unsqueeze(0)
    noise, classes = FullNoise(scale, tuple(image.shape[1:])), np.zeros(1, np.int64)
    given = noise, classes, known, SIGHT_SAMPLES, bench.context.streams
    before = bench.rates()[1]
    taken = seconds(lambda: blind_samples(bench.smoothed, *given))
    return taken, float(np.mean([SIGHT_SAMPLES / rate for rate in (before, bench.rates()[1])]))


def universal(bench: Bench) -> tuple[float, float]:
    """Seconds that the noise for all images takes, and the network alone."""
    method = URS()
    forward, both = work(method, method.steps)
    before = bench.rates()[0]
    taken = seconds(lambda: method.prepare(bench.smoothed.model, bench.context))
    bare = [forward / own[0] + both / own[1] for own in (before, bench.rates()[0])]
    return taken, float(np.mean(bare))


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
    found = {
        f"blindness, {SIGHT_SAMPLES:,} samples": [sight(bench) for bench in benches],
        "fit of urs, once per run": [universal(bench) for bench in benches[:1]],
    }
    for name, times in found.items():
        taken, bare = np.median(times, axis=0)
        print(f"{name:28s} {taken:9.3f} s {bare / taken:5.0%} of the bare rate", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

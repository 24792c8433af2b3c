"""What each choice of RDDRS-TR is worth: one setting changed at a time.

Prints mean proxy radius (n = 10,000; a wrong prediction is 0), training images with another label
inside, samples and seconds per image.

    python benchmarks/ablation.py --checkpoint LeNet5_0.25.pth --data-root data
"""

import time
from dataclasses import replace

import numpy as np
import tyro
from mnist import Mnist, Source

from rddrs_dist import RDDRSTR, Budget, certify
from rddrs_dist.methods.rddrs_tr import LADDER
from rddrs_dist.methods.sizing import MULTIPLES
from rddrs_dist.reference import others_inside

DEFAULT = RDDRSTR()
VARIANTS = {
    "defaults": {},
    "no running mean (memory 0)": {"memory": 0.0},
    "no damping of flat directions": {"damping": 1e-9},
    "ten times the damping": {"damping": 0.03},
    "half the step (growth, shrinkage)": {"growth": 0.125, "shrinkage": 0.125},
    "no shrinking": {"shrinkage": 1e-6},
    "a third of the samples": {"min_samples": 167, "max_samples": 500},
    "as many samples in every step": {"min_samples": 950, "max_samples": 950},
    "12 steps": {"steps": 12},
    "no stopping rule": {"patience": 99},
    "target 0.8": {"target": 0.8},
    "target 0.97": {"target": 0.97},
    "guard 1": {"guard": 1.0},
    "guard 3": {"guard": 3.0},
}


def ascent(method: RDDRSTR, steps: int) -> int:
    """Samples with a gradient of an ascent of so many steps, per image."""
    return sum(method.schedule(step) // 2 * 2 for step in range(1, steps + 1))


def passes(method: RDDRSTR, steps: int) -> int:
    """Samples that a fit of so many steps has sent through the network, per image."""
    sizing = (len(MULTIPLES) + 1) * method.compare_samples
    return len(LADDER) * method.start_samples + ascent(method, steps) + sizing


def line(mnist: Mnist, method: RDDRSTR) -> str:
    """The figures of one setting."""
    found = []
    for row, label in enumerate(mnist.labels):
        image, context = mnist.images[row : row + 1], mnist.context(row)
        start = time.perf_counter()
        fit = method.fit(mnist.model, image, context)
        seconds = time.perf_counter() - start
        own = certify(mnist.model, image, fit.noise, Budget(n=10_000), context.streams)
        prediction, radius = int(own.prediction[0]), float(own.radius[0])
        inside = others_inside(
            fit.noise.covariance()[0], image[0], mnist.reference, prediction, radius
        )
        proxy = float(own.proxy_radius[0]) * (prediction == label)
        found.append((proxy, inside, fit.steps[0], passes(method, int(fit.steps[0])), seconds))
    proxy, inside, steps, samples, seconds = np.mean(found, axis=0)
    return f"{proxy:8.2f} {inside:8.1f} {steps:8.1f} {samples:9,.0f} {seconds:8.1f}"


def main(source: Source) -> None:
    """Prints the table."""
    mnist = Mnist.load(source)
    print(f"{'':36s} {'proxy':>8s} {'inside':>8s} {'steps':>8s} {'samples':>9s} {'seconds':>8s}")
    for name, changes in VARIANTS.items():
        print(f"{name:36s} {line(mnist, replace(DEFAULT, **changes))}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

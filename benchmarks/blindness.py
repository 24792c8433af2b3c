"""What the network smoothed with a fitted noise still sees, and how far its answer reaches.

For each image and method: the probability of its class at the image; the same at training images
with another label (1 where the smoothed network answers this class everywhere); and the radius
certified with the noise times 1, 10, 100 and 1,000 (a network of ReLUs is nearly scale-free, so
that a radius that stays means a region without end).

    python benchmarks/blindness.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import replace

import tyro
from inputs import Mnist, Source
from torch import Tensor

from rddrs_dist import DDRS, RDDRSTR, RS, Ancer, Budget, Fit, Noise, Streams, certify, fit_all
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts

OTHERS, SAMPLES = 100, 200
MULTIPLES = (1, 10, 100, 1000)
BUDGET = Budget(n=10_000)


def share(mnist: Mnist, images: Tensor, noise: Noise, label: int) -> float:
    """Mean share of samples in which the network answers `label` at images (B, *event)."""
    everywhere = type(noise).concatenate([noise] * len(images))
    streams = Streams.of(1, range(len(images)))
    counts = class_counts(mnist.model, images, everywhere, SAMPLES, streams, Stage.COMPARE)
    return float(counts[:, label].double().mean()) / SAMPLES


def radius(mnist: Mnist, row: int, noise: Noise) -> float:
    """The radius of one image under a noise, without the limit of its fit."""
    image, streams = mnist.images[row : row + 1], mnist.context(row).streams
    return float(certify(mnist.model, image, Fit.of(noise), BUDGET, streams).region.radius[0])


def main(source: Source) -> None:
    """Prints one line per image and method."""
    mnist, methods = Mnist.load(source), (RS(), DDRS(), Ancer(), RDDRSTR())
    print(f"{'image':>6s} {'method':>9s} {'here':>6s} {'others':>7s}   radius at 1, 10, 100, 1000")
    for row, index in enumerate(source.indices):
        image, label = mnist.images[row : row + 1], mnist.labels[row]
        different = mnist.neighbours.images[mnist.neighbours.labels != label][:OTHERS]
        for method, fit in fit_all(methods, mnist.model, image, mnist.context(row)):
            here = share(mnist, image, fit.noise, label)
            there = share(mnist, different, fit.noise, label)
            wide = [replace(fit.noise, scale=factor * fit.noise.scale) for factor in MULTIPLES]
            radii = " ".join(f"{radius(mnist, row, noise):6.2f}" for noise in wide)
            print(f"{index:6d} {method.name:>9s} {here:6.2f} {there:7.2f}   {radii}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

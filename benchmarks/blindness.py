"""What the network smoothed with a fitted noise still sees, and how far its answer reaches.

For each image and method: the probability of its class at the image; the same at training images
with another label (1 where the noise drowns the image: the smoothed network then answers this
class everywhere); and the radius certified with the noise times 1, 10, 100 and 1,000 (a network of
ReLUs is nearly scale-free, so that a radius that stays means a region without end).

    python benchmarks/blindness.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from collections.abc import Iterator
from dataclasses import replace

import tyro
from mnist import Mnist, Source
from torch import Tensor

from rddrs_dist import DDRS, RDDRSTR, RS, Ancer, Budget, Fit, Noise, Streams, certify
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts

OTHERS, SAMPLES = 100, 200
BUDGET = Budget(n=10_000)


def fits(mnist: Mnist, row: int) -> Iterator[tuple[str, Fit]]:
    """Name and fit of each method on one image."""
    image, context = mnist.images[row : row + 1], mnist.context(row)
    ddrs = DDRS().fit(mnist.model, image, context)
    context = replace(context, sigma_star=ddrs.noise)
    yield "rs", RS().fit(mnist.model, image, context)
    yield "ddrs", ddrs
    for method in (Ancer(), RDDRSTR()):
        yield method.name, method.fit(mnist.model, image, context)


def share(mnist: Mnist, images: Tensor, noise: Noise, label: int) -> float:
    """Mean share of samples in which the network answers `label` at images (B, *event)."""
    rows = [noise] * len(images)
    streams = Streams.of(1, range(len(images)))
    everywhere = type(noise).concatenate(rows)
    counts = class_counts(mnist.model, images, everywhere, SAMPLES, streams, Stage.COMPARE)
    return float(counts[:, label].double().mean()) / SAMPLES


def main(source: Source) -> None:
    """Prints one line per image and method."""
    mnist = Mnist.load(source)
    print(f"{'image':>6s} {'method':>9s} {'here':>6s} {'others':>7s}   radius at 1, 10, 100, 1000")
    for row, index in enumerate(source.indices):
        image, label = mnist.images[row : row + 1], mnist.labels[row]
        different = mnist.reference.images[mnist.reference.labels != label][:OTHERS]
        for name, fit in fits(mnist, row):
            here = share(mnist, image, fit.noise, label)
            there = share(mnist, different, fit.noise, label)
            streams = mnist.context(row).streams
            radii = [
                float(certify(mnist.model, image, wide, BUDGET, streams).radius[0])
                for wide in (
                    replace(fit.noise, scale=factor * fit.noise.scale)
                    for factor in (1, 10, 100, 1000)
                )
            ]
            printed = " ".join(f"{radius:6.2f}" for radius in radii)
            print(f"{index:6d} {name:>9s} {here:6.2f} {there:7.2f}   {printed}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

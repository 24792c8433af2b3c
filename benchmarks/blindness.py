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
from torch import Tensor, nn

from rddrs_dist import DDRS, RDDRSTR, RS, Ancer, Budget, Fit, Noise, Streams, certify, fit_all
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts

OTHERS, SAMPLES = 100, 200
MULTIPLES = (1, 10, 100, 1000)
BUDGET = Budget(n=10_000)


def share(model: nn.Module, images: Tensor, noise: Noise, label: int) -> float:
    """Mean share of samples in which the network answers `label` at images (B, *event)."""
    everywhere = type(noise).concatenate([noise] * len(images))
    streams = Streams.of(1, range(len(images)))
    counts = class_counts(model, images, everywhere, SAMPLES, streams, Stage.COMPARE)
    return float(counts[:, label].double().mean()) / SAMPLES


def main(source: Source) -> None:
    """Prints one line per image and method."""
    mnist, methods = Mnist(source), (RS(), DDRS(), Ancer(), RDDRSTR())
    model, training = mnist.model, mnist.neighbours
    print(f"{'image':>6s} {'method':>9s} {'here':>6s} {'others':>7s}   radius at 1, 10, 100, 1000")
    for index, label, image, context in mnist.cases:
        different = training.images[training.labels != label][:OTHERS]
        for method, fit in fit_all(methods, model, image, context):
            noise, radii = fit.noise, ""
            here, there = (share(model, at, noise, label) for at in (image, different))
            for factor in MULTIPLES:
                wide = Fit.of(replace(noise, scale=factor * noise.scale))  # without its limit
                found = certify(model, image, wide, BUDGET, context.streams)
                radii += f" {found.region.radius[0]:6.2f}"
            print(f"{index:6d} {method.name:>9s} {here:6.2f} {there:7.2f}  {radii}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

"""What 500 samples tell of the curvature on the way of an ascent, by the temperature.

Prints how much of the squared gradient of the network's own softmax the top twentieth of the
samples hold, and the cosine of W from 500 samples with W from 20,000 others at the same
temperature: as estimated, with only the samples near the boundary, and damped as RDDRS-TR does it.

    python benchmarks/curvature.py --checkpoint LeNet5_0.25.pth --data-root data --indices 0
"""

from dataclasses import replace

import torch
import tyro
from inputs import Mnist, Source
from torch import Tensor

from rddrs_dist import RDDRSTR, Context, FullNoise, IsotropicNoise
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Curvature, Tempering, curvature, slopes
from rddrs_dist.smoothing.sample import class_counts, input_gradient

SAMPLES, MANY = 500, 20_000
METHOD = RDDRSTR()
TEMPERATURES = (0.01, 0.1, METHOD.temperature)


def concentration(mnist: Mnist, image: Tensor, noise: FullNoise, label: Tensor) -> float:
    """Share of the squared gradients of the softmax as it is, of 1,000 samples, in 50 of them."""
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(8):
        z = torch.randn(1, 125, *image.shape[1:], generator=generator)
        samples = (image.unsqueeze(1) + noise.colour(z))[0].requires_grad_()
        weights = torch.nn.functional.one_hot(label, 10).float()
        _, gradient = input_gradient(mnist.model(samples), weights, samples)
        squares.append(gradient.flatten(1).square().sum(1))
    ordered = torch.cat(squares).sort(descending=True).values
    return float(ordered[:50].sum() / ordered.sum())


def see(
    mnist: Mnist, noise: FullNoise, label: Tensor, row: int, tempering: Tempering, n: int
) -> Curvature:
    """The curvature in all directions, from n samples that are others for another n."""
    image, context = mnist.images[row : row + 1], mnist.context(row)
    drawn = slopes(mnist.model, image, noise, label, n, tempering, context.streams, 400 + n)
    probes = torch.eye(noise.dimension).unsqueeze(0)
    return curvature(drawn, noise.scale, Curvature.blank(image, noise.dimension), 0, probes)


def dense(seen: Curvature, square: Tensor) -> Tensor:
    """W from its form in the basis."""
    return seen.basis @ square @ seen.basis.mT


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine of the angle between two matrices."""
    return float((first * second).sum() / first.norm() / second.norm())


def cosines(mnist: Mnist, noise: FullNoise, label: Tensor, row: int, temperature: float) -> str:
    """All samples, those near the boundary, and these damped."""
    every, near = Tempering(temperature, 1.0), Tempering(temperature, METHOD.boundary_share)
    truth = see(mnist, noise, label, row, every, MANY)
    whole = dense(truth, truth.hessian)
    found = [see(mnist, noise, label, row, tempering, SAMPLES) for tempering in (every, near)]
    damped = METHOD.damped(found[1].hessian, found[1].gradients)
    squares = (found[0].hessian, found[1].hessian, damped)
    values = [cosine(dense(found[min(k, 1)], square), whole) for k, square in enumerate(squares)]
    return " ".join(f"{value:5.2f}" for value in values)


def most_probable(mnist: Mnist, image: Tensor, context: Context) -> Tensor:
    """The class at sigma, (1,)."""
    start = IsotropicNoise.constant(context.sigma, image)
    return class_counts(mnist.model, image, start, 200, context.streams, Stage.SELECT).argmax(1)


def main(source: Source) -> None:
    """Prints one line per image and stage."""
    mnist = Mnist.load(source)
    heads = "".join(f" | temperature {value:g} " for value in TEMPERATURES)
    print(f"{'image':>6s} {'steps':>6s} {'top 1/20':>9s}{heads}")
    for row, index in enumerate(source.indices):
        image, context = mnist.images[row : row + 1], mnist.context(row)
        label = most_probable(mnist, image, context)
        for steps in (1, 5, 10, 15):
            method = replace(METHOD, steps=steps, patience=99)
            noise = method.fit(mnist.model, image, context).noise
            assert isinstance(noise, FullNoise)
            top = concentration(mnist, image, noise, label)
            found = [cosines(mnist, noise, label, row, value) for value in TEMPERATURES]
            print(f"{index:6d} {steps:6d} {top:9.0%} | {' | '.join(found)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

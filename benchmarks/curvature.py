"""How well 1,000 samples tell the curvature: plain, in pairs, and damped as RDDRS-TR does it.

Prints the cosine with the estimate from 60,000 other samples, for shapes on the way at the target.

    python benchmarks/curvature.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import replace

import torch
import tyro
from mnist import Mnist, Source
from torch import Tensor

from rddrs_dist import RDDRSTR, FullNoise, IsotropicNoise, Streams
from rddrs_dist.geometry.symmetric import sym
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import curvature
from rddrs_dist.smoothing.sample import input_gradient, soft_probabilities

SAMPLES, MANY, CHUNK = 1000, 60_000, 125


def plain(
    mnist: Mnist, image: Tensor, noise: FullNoise, label: Tensor, streams: Streams
) -> Tensor:
    """sym(S^T mean grad F z^T) from independent samples."""
    total = torch.zeros(noise.dimension, noise.dimension)
    weights = torch.nn.functional.one_hot(label, 10).float()
    for block in range(SAMPLES // CHUNK):
        z = streams.normal(Stage.FIT, 500, block, CHUNK, image)
        samples = (image.unsqueeze(1) + noise.colour(z)).flatten(0, 1).requires_grad_()
        _, gradient = input_gradient(mnist.model(samples), weights, samples)
        total += gradient.flatten(1).T @ z[0].flatten(1)
    return sym(noise.scale[0].T @ total / SAMPLES)


def widened(
    mnist: Mnist, image: Tensor, scale: Tensor, label: Tensor, streams: Streams
) -> FullNoise:
    """A scale times what brings the class's probability to the target, where the ascent works.

    At most 6.7 times: there are shapes with which no multiple loses the class.
    """
    noise = FullNoise(scale, tuple(image.shape[1:]))
    for _ in range(20):
        p = soft_probabilities(mnist.model, image, noise, 1000, streams, 600)
        if float(p[0, label]) < RDDRSTR().target:
            break
        noise = replace(noise, scale=1.1 * noise.scale)
    return noise


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine of the angle between two matrices."""
    return float((first * second).sum() / first.norm() / second.norm())


def main(source: Source) -> None:
    """Prints one line per image and stage."""
    mnist = Mnist.load(source)
    method = RDDRSTR()
    print(f"{'image':>6s} {'stage':>10s} {'p':>6s} {'plain':>7s} {'pairs':>7s} {'damped':>7s}")
    for row, index in enumerate(source.indices):
        image, context = mnist.images[row : row + 1], mnist.context(row)
        start = IsotropicNoise.constant(source.sigma, image)
        p = soft_probabilities(mnist.model, image, start, 200, context.streams, 0)
        label = p.argmax(-1)
        for steps in (1, 6, 12):
            fitted = replace(method, steps=steps, patience=99).fit(mnist.model, image, context)
            noise = widened(mnist, image, fitted.noise.scale, label, context.streams)
            many, few = (
                curvature(mnist.model, image, noise, label, n, context.streams, step)
                for n, step in ((MANY, 400), (SAMPLES, 450))
            )
            truth, pairs = many.hessian[0], few.hessian[0]
            damped = method.damped(few.hessian, few.gradients)[0]
            singles = plain(mnist, image, noise, label, context.streams)
            found = [cosine(w, truth) for w in (singles, pairs, damped)]
            print(
                f"{index:6d} {f'{steps} steps':>10s} {float(many.p[0]):6.3f} "
                + " ".join(f"{value:7.2f}" for value in found),
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Source))

"""What 500 samples tell of the curvature on the way of an ascent, by the temperature.

Prints how much of the squared gradient of the network's own softmax the top twentieth of the
samples hold, and the cosine of W from 500 samples with W from 20,000 others at the same
temperature: as estimated, with only the samples near the boundary, and damped as RDDRS-TR does it.

    python benchmarks/curvature.py --checkpoint LeNet5_0.25.pth --data-root data --indices 0
"""

from dataclasses import replace

import torch
import tyro
from inputs import Case, Mnist, Source
from torch import Tensor, nn

from rddrs_dist import RDDRSTR, FullNoise, IsotropicNoise
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Curvature, Tempering, curvature, slopes
from rddrs_dist.smoothing.sample import class_counts, input_gradient

SAMPLES, MANY = 500, 20_000
METHOD = RDDRSTR()
TEMPERATURES = (0.01, 0.1, METHOD.temperature)


def concentration(model: nn.Module, image: Tensor, noise: FullNoise, label: Tensor) -> float:
    """Share of the squared gradients of the softmax as it is, of 1,000 samples, in 50 of them."""
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(8):
        z = torch.randn(1, 125, *image.shape[1:], generator=generator)
        samples = (image.unsqueeze(1) + noise.colour(z))[0].requires_grad_()
        weights = nn.functional.one_hot(label, 10).float()
        _, gradient = input_gradient(model(samples), weights, samples)
        squares.append(gradient.flatten(1).square().sum(1))
    ordered = torch.cat(squares).sort(descending=True).values
    return float(ordered[:50].sum() / ordered.sum())


def cosines(
    model: nn.Module, case: Case, noise: FullNoise, label: Tensor, temperature: float
) -> str:
    """Of W from all samples, from those near the boundary, and from these damped."""

    def see(near: float, n: int) -> Curvature:
        """The curvature in all directions, from n samples that are others for another n."""
        tempering, streams = Tempering(temperature, near), case.context.streams
        drawn = slopes(model, case.image, noise, label, n, tempering, streams, 400 + n)
        probes, blank = torch.eye(noise.dimension)[None], Curvature.blank(case.image, 1 << 20)
        return curvature(drawn, noise.scale, blank, 0, probes)

    truth, every, near = see(1.0, MANY), see(1.0, SAMPLES), see(METHOD.boundary_share, SAMPLES)
    damped = near._replace(hessian=METHOD.damped(near.hessian, near.gradients))
    whole, *found = (
        (seen.basis @ seen.hessian @ seen.basis.mT).flatten()
        for seen in (truth, every, near, damped)
    )
    return " ".join(f"{float(one @ whole / one.norm() / whole.norm()):5.2f}" for one in found)


def main(source: Source) -> None:
    """Prints one line per image and stage."""
    mnist = Mnist(source)
    heads = "".join(f" | temperature {value:g} " for value in TEMPERATURES)
    print(f"{'image':>6s} {'steps':>6s} {'top 1/20':>9s}{heads}")
    for case in mnist.cases:
        start = IsotropicNoise.constant(case.context.sigma, case.image)
        streams = case.context.streams
        counts = class_counts(mnist.model, case.image, start, 200, streams, Stage.SELECT)
        label = counts.argmax(1)
        for steps in (1, 5, 10, 15):
            method = replace(METHOD, steps=steps, patience=99)
            noise = method.fit(mnist.model, case.image, case.context).noise
            assert isinstance(noise, FullNoise)
            top = concentration(mnist.model, case.image, noise, label)
            found = [cosines(mnist.model, case, noise, label, value) for value in TEMPERATURES]
            print(f"{case.number:6d} {steps:6d} {top:9.0%} | {' | '.join(found)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

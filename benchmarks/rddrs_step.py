"""Seconds of one RDDRS iteration: ours beside a plain reading of the paper, in one run.

The plain reading takes one backward pass per class, chunks of 10,000 samples, autograd through
eigh for the determinant and the smallest eigenvalue, and geomstats for the exponential and an eigh
for the floor. Both see the same network, image, scale and number of samples. The bare rate is that
of forward and input gradient alone, on the same number of samples.

    python benchmarks/rddrs_step.py --checkpoint LeNet5_0.25.pth --data-root data
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import tyro
from gpu import rates, seconds
from inputs import Mnist, Source
from torch import Tensor, linalg, nn

from rddrs_dist import RDDRS, Batching, IsotropicNoise, checkpoints
from rddrs_dist.geometry import metrics

PLAIN_CHUNK = 10_000


@dataclass(frozen=True)
class Options(Source):
    """What to measure, on the first of the images."""

    sigma_star: float = 0.558  # isotropic scale to start from
    samples: int = 20_000  # samples of the gradient
    rounds: int = 3  # times that everything is measured, in turn; medians are printed


def plain_step(model: nn.Module, image: Tensor, scale: Tensor, samples: int) -> Tensor:
    """One iteration as one would first write it down: step length 1, kappa 1e-6."""
    d = scale.shape[-1]
    points, _ = _drawn(image, scale, 100)
    top, classes = model(points).softmax(-1).mean(0).detach().topk(2)
    quantiles = torch.special.ndtri(top.clamp(0.001, 0.999))
    densities = torch.exp(-(quantiles**2) / 2) / (2 * torch.pi) ** 0.5
    slopes = [_slope(model, image, scale, samples, int(c)) for c in classes]
    slope = slopes[0] / densities[0] - slopes[1] / densities[1]
    gap = quantiles[0] - quantiles[1]
    mean, d_mean = _differentiated(lambda c: torch.prod(linalg.eigvalsh(c) ** (1 / d)), scale)
    low, d_low = _differentiated(lambda c: linalg.eigvalsh(c).min(), scale)
    gradient = mean * slope + gap * d_mean + 1e-6 * (low * slope + gap * d_low)
    tangent = scale @ gradient @ scale
    exponential = metrics.space("affine-invariant", d).metric.exp(
        tangent[None].double().numpy(), scale[None].double().numpy()
    )
    eigenvalues, frame = linalg.eigh(torch.from_numpy(exponential[0]).float())
    return (frame * eigenvalues.clamp_min(scale.diagonal().min())) @ frame.T


def _drawn(image: Tensor, scale: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Samples x + S z, (n, *event), and z, (n, d)."""
    z = torch.randn(n, scale.shape[-1])
    return image + (z @ scale).view(n, *image.shape[1:]), z


def _slope(model: nn.Module, image: Tensor, scale: Tensor, n: int, c: int) -> Tensor:
    """sym(mean grad F_c z^T) in chunks, one backward pass for this class alone."""
    total = torch.zeros_like(scale)
    for _ in range(n // PLAIN_CHUNK):
        points, z = _drawn(image, scale, PLAIN_CHUNK)
        samples = points.requires_grad_()
        (gradient,) = torch.autograd.grad(model(samples).softmax(-1)[:, c].sum(), samples)
        total += gradient.flatten(1).T @ z
    return (total + total.T) / (2 * n)


def _differentiated(function: Callable[[Tensor], Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient through autograd; not finite where eigenvalues coincide."""
    leaf = scale.clone().requires_grad_()
    value = function(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), torch.nan_to_num((gradient + gradient.T) / 2)


def main(options: Options) -> None:
    """Measures all in turn and prints medians and ratios."""
    mnist, samples, times = Mnist(options), options.samples, []
    published, fast = checkpoints.load(options.checkpoint).model, mnist.model
    _, _, image, context = mnist.cases[0]
    start = IsotropicNoise.constant(options.sigma_star, image)
    context = replace(context, sigma_star=start)
    method = RDDRS(step_lengths=(1.0,), steps=1, gradient_samples=samples)
    scale = method.fit(fast, image, context).noise.scale[0]
    for _ in range(options.rounds):
        plain = seconds(lambda: plain_step(published, image, scale, samples))
        ours = seconds(lambda: replace(method, steps=2).fit(fast, image, context)) / 2
        times.append((plain, ours, samples / rates(fast, image, Batching())[1]))
    plain, ours, network = np.median(times, axis=0)
    print(f"torch {torch.__version__}, {options.threads} threads, n = {samples}")
    print(f"plain reading of the paper  {plain:8.2f} s per iteration")
    print(f"ours                        {ours:8.2f} s per iteration")
    print(f"network alone               {network:8.2f} s ({samples / network:,.0f}/s)")
    print(f"speed-up over the plain reading     {plain / ours:.1f}")
    print(f"share of the network's bare rate    {network / ours:.0%}")


if __name__ == "__main__":
    main(tyro.cli(Options))

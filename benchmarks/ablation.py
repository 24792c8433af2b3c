"""What each choice of RDDRS-TR is worth: one setting changed at a time.

Prints mean proxy radius (n = 10,000; a wrong prediction is 0), training images with another label
inside, samples and seconds per image.

    python benchmarks/ablation.py --checkpoint LeNet5_0.25.pth --data-root data
"""

import time
from typing import Any
from unittest import mock

import numpy as np
import tyro
from gpu import work
from inputs import Mnist, Source
from torch import Tensor, linalg, nn

from rddrs_dist import DDRS, RDDRSTR, Budget, Context, FullNoise, Streams, certify
from rddrs_dist.geometry.symmetric import apply
from rddrs_dist.smoothing import curvature
from rddrs_dist.smoothing.curvature import Curvature

DDRS_SAMPLES = sum(work(DDRS(), DDRS().steps))


class FromSigmaStar(RDDRSTR):
    """Starts at the DDRS scale, which costs 150,000 samples."""

    def _start(self, model: nn.Module, images: Tensor, context: Context):
        classes, _, target = super()._start(model, images, context)
        return classes, DDRS().fit(model, images, context).noise.scale, target


class Euclidean(RDDRSTR):
    """Narrows along the eigenvectors of E[grad^2 F] in pixels, not in the frame of the noise."""

    def _reshape(self, scale: Tensor, seen: Curvature) -> tuple[Tensor, Tensor]:
        curve = self.damped(seen.hessian, seen.gradients)
        rays = linalg.solve(scale.mT, seen.basis)  # (B, d, k)
        bend = rays @ curve @ rays.mT

        def step(values: Tensor) -> Tensor:
            ratio = (-values).clamp_min(0) / (values.abs().mean(-1, keepdim=True) + 1e-30)
            return -self.shrinkage * ratio / (1 + ratio)

        narrowed = apply(lambda w: step(w).exp(), bend) @ scale
        return narrowed, linalg.slogdet(narrowed)[1] - linalg.slogdet(scale)[1]


class Independent(RDDRSTR):
    """Draws independent samples instead of antithetic pairs."""

    def _move(self, *given: Any, **named: Any):
        with mock.patch.object(curvature, "pairs", independent):
            return super()._move(*given, **named)


def independent(noise: FullNoise, images: Tensor, n: int, streams: Streams, key: Any):
    """What `curvature.pairs` returns, of n draws."""
    stage, step, block = key
    z = streams.normal(stage, step, block, n, images)
    return z, noise.colour(z)


class Unclipped(RDDRSTR):
    """Widens the directions in which p rises, as far as it narrows those in which it falls."""

    def _reshape(self, scale: Tensor, seen: Curvature) -> tuple[Tensor, Tensor]:
        curve = self.damped(seen.hessian, seen.gradients)
        values, frame = linalg.eigh(curve)
        ratio = -values / (values.abs().sum(-1, keepdim=True) / scale.shape[-1] + 1e-30)
        step = -self.shrinkage * ratio / (1 + ratio.abs())
        axes = seen.basis @ frame
        return scale + (scale @ axes * step.expm1().unsqueeze(1)) @ axes.mT, step.sum(-1)


class CutAtTheEnd(RDDRSTR):
    """Lets axes grow beyond the domain; they are cut once, at the end."""

    def _cap(self, scale: Tensor) -> float:
        return 1e3 * super()._cap(scale)


VARIANTS = {
    "defaults": RDDRSTR(),
    "temperature 0.01 (hard decisions)": RDDRSTR(temperature=0.01),
    "temperature 0.3": RDDRSTR(temperature=0.3),
    "temperature 1": RDDRSTR(temperature=1.0),
    "a tenth of the samples backward": RDDRSTR(boundary_share=0.1),
    "all samples backward": RDDRSTR(boundary_share=1.0),
    "250 samples per step": RDDRSTR(samples=250),
    "1,000 samples per step": RDDRSTR(samples=1000),
    "32 directions": RDDRSTR(rank=32),
    "256 directions": RDDRSTR(rank=256),
    "no running mean (decay 0)": RDDRSTR(decay=0.0),
    "no damping of flat directions": RDDRSTR(damping=1e-9),
    "ten times the damping": RDDRSTR(damping=0.03),
    "half the step (growth, shrinkage)": RDDRSTR(growth=0.175, shrinkage=0.175),
    "no narrowing": RDDRSTR(shrinkage=1e-6),
    "12 steps": RDDRSTR(steps=12),
    "no stopping rule": RDDRSTR(patience=99),
    "target 0.8": RDDRSTR(target=0.8),
    "target 0.97": RDDRSTR(target=0.97),
    "500 comparison samples": RDDRSTR(compare_samples=500),
    "8,000 comparison samples": RDDRSTR(compare_samples=8000),
    "axes cut for 1.8 times the radius": RDDRSTR(cap_factor=1.8),
    "axes cut for the sure radius": RDDRSTR(cap_factor=1.0),
    "neighbour margin 1": RDDRSTR(neighbour_margin=1.0),
    "neighbour margin 3": RDDRSTR(neighbour_margin=3.0),
    "start at sigma": RDDRSTR(start_multiples=(1.0,)),
    "start at the DDRS scale": FromSigmaStar(),
    "Euclidean metric": Euclidean(),
    "independent samples, not pairs": Independent(),
    "no clip of positive eigenvalues": Unclipped(),
    "axes cut at the end only": CutAtTheEnd(),
}


def line(mnist: Mnist, method: RDDRSTR) -> str:
    """The figures of one setting."""
    found = []
    before = DDRS_SAMPLES if isinstance(method, FromSigmaStar) else 0
    for label, image, context in mnist.cases:
        start = time.perf_counter()
        fit = method.fit(mnist.model, image, context)
        taken = time.perf_counter() - start
        region = certify(mnist.model, image, fit, Budget(n=10_000), context.streams).region
        proxy = float(region.proxy_radius[0]) * (region.prediction[0] == label)
        (inside,), steps = mnist.neighbours.inside(region), int(fit.steps[0])
        found.append((proxy, inside, steps, sum(work(method, steps)) + before, taken))
    proxy, inside, steps, samples, taken = np.mean(found, axis=0)
    return f"{proxy:8.2f} {inside:8.1f} {steps:8.1f} {samples:9,.0f} {taken:8.1f}"


def main(source: Source) -> None:
    """Prints the table."""
    mnist = Mnist(source)
    print(f"{'':36s} {'proxy':>8s} {'inside':>8s} {'steps':>8s} {'samples':>9s} {'seconds':>8s}")
    for name, method in VARIANTS.items():
        print(f"{name:36s} {line(mnist, method)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

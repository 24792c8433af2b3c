"""What each choice of RDDRS-TR is worth: one setting changed at a time.

Prints mean proxy radius (n = 10,000; a wrong prediction is 0), training images with another label
inside, samples and seconds per image.

    python benchmarks/ablation.py --checkpoint LeNet5_0.25.pth --data-root data
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import tyro
from bare import work
from inputs import Mnist, Source
from torch import Tensor, linalg, nn

from rddrs_dist import DDRS, RDDRSTR, Budget, Context, FullNoise, Streams, certify
from rddrs_dist.geometry.symmetric import apply
from rddrs_dist.smoothing import curvature
from rddrs_dist.smoothing.curvature import Curvature

DDRS_SAMPLES = work(DDRS(), DDRS().steps).passes


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


class Variant(NamedTuple):
    """One row of the table.

    Attributes:
        name: What is changed.
        method: The method with that change.
        extra: Samples that the method's own count leaves out.
    """

    name: str
    method: RDDRSTR
    extra: int = 0


def _changed(name: str, make: Callable[..., RDDRSTR] = RDDRSTR, extra: int = 0, **changes):
    return Variant(name, make(**changes), extra)


VARIANTS = [
    _changed("defaults"),
    _changed("temperature 0.01 (hard decisions)", temperature=0.01),
    _changed("temperature 0.3", temperature=0.3),
    _changed("temperature 1", temperature=1.0),
    _changed("a tenth of the samples backward", boundary_share=0.1),
    _changed("all samples backward", boundary_share=1.0),
    _changed("250 samples per step", samples=250),
    _changed("1,000 samples per step", samples=1000),
    _changed("32 directions", rank=32),
    _changed("256 directions", rank=256),
    _changed("no running mean (decay 0)", decay=0.0),
    _changed("no damping of flat directions", damping=1e-9),
    _changed("ten times the damping", damping=0.03),
    _changed("half the step (growth, shrinkage)", growth=0.175, shrinkage=0.175),
    _changed("no narrowing", shrinkage=1e-6),
    _changed("12 steps", steps=12),
    _changed("no stopping rule", patience=99),
    _changed("target 0.8", target=0.8),
    _changed("target 0.97", target=0.97),
    _changed("500 comparison samples", compare_samples=500),
    _changed("8,000 comparison samples", compare_samples=8000),
    _changed("axes cut for 1.8 times the radius", cap_factor=1.8),
    _changed("axes cut for the sure radius", cap_factor=1.0),
    _changed("neighbour margin 1", neighbour_margin=1.0),
    _changed("neighbour margin 3", neighbour_margin=3.0),
    _changed("start at sigma", start_multiples=(1.0,)),
    _changed("start at the DDRS scale", FromSigmaStar, DDRS_SAMPLES),
    _changed("Euclidean metric", Euclidean),
    _changed("independent samples, not pairs", Independent),
    _changed("no clip of positive eigenvalues", Unclipped),
    _changed("axes cut at the end only", CutAtTheEnd),
]


def line(mnist: Mnist, variant: Variant) -> str:
    """The figures of one setting."""
    found, method = [], variant.method
    for row, label in enumerate(mnist.labels):
        image, context = mnist.images[row : row + 1], mnist.context(row)
        start = time.perf_counter()
        fit = method.fit(mnist.model, image, context)
        seconds = time.perf_counter() - start
        region = certify(mnist.model, image, fit, Budget(n=10_000), context.streams).region
        (inside,) = mnist.neighbours.inside(region)
        proxy = float(region.proxy_radius[0]) * (region.prediction[0] == label)
        steps = int(fit.steps[0])
        found.append((proxy, inside, steps, work(method, steps).passes + variant.extra, seconds))
    proxy, inside, steps, samples, seconds = np.mean(found, axis=0)
    return f"{proxy:8.2f} {inside:8.1f} {steps:8.1f} {samples:9,.0f} {seconds:8.1f}"


def main(source: Source) -> None:
    """Prints the table."""
    mnist = Mnist.load(source)
    print(f"{'':36s} {'proxy':>8s} {'inside':>8s} {'steps':>8s} {'samples':>9s} {'seconds':>8s}")
    for variant in VARIANTS:
        print(f"{variant.name:36s} {line(mnist, variant)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source))

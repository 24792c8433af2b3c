"""What settings of RDDRS-TR are worth, one changed at a time, on MNIST.

Prints the means over the images of l2, data and proxy radius (0 where the class is wrong), of the
blindness, of the samples of a fit and of its seconds, and how many regions are sighted. The figure
shows the means against the blindness that a fit allows.

    python benchmarks/ablation.py --checkpoint LeNet5_0.25.pth --data-root data --indices 0 2000 \
        --figure price-of-sight.png
"""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import tyro
from gpu import work
from inputs import Mnist, Source
from torch import nn

from rddrs_dist import RDDRSTR, Budget, Context, Noise, certify
from rddrs_dist.methods import sighted
from rddrs_dist.sight import SIGHTED, Others, blind_samples, principal_subspaces
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Slopes, Tempering, slopes
from rddrs_dist.stats import clopper_pearson_upper

BUDGET, SAMPLES = Budget(n=10_000), 2000
SIZES = ("l2", "data", "proxy")
LABEL = "the right label in place of another class"

SIGHT = {b: f"blindness {b:g}" for b in (0.01, 0.02, 0.05, 0.1, 0.2, 1.0)}
VARIANTS = {
    **{name: RDDRSTR(blindness=b) for b, name in SIGHT.items()},
    LABEL: RDDRSTR(),
    **{f"floor {share:g}": RDDRSTR(floor=share) for share in (0.01, 0.5, 0.8, 1.0, 1.2)},
    "250 samples per step": RDDRSTR(samples=250),
    "1,000 samples per step": RDDRSTR(samples=1000),
    "14 steps": RDDRSTR(sighted_steps=14),
    "56 steps": RDDRSTR(sighted_steps=56),
    "temperature 0.6": RDDRSTR(sighted_temperature=0.6),
    "64 directions": RDDRSTR(sighted_rank=64),
    "ten times the damping": RDDRSTR(sighted_damping=0.01),
    "both conditions with one weight": RDDRSTR(priority=0.0),
    "steps of one length": RDDRSTR(settling=0.0),
    "growth from a probability of 0.99": RDDRSTR(growth_target=0.99),
    "no running mean (decay 0)": RDDRSTR(decay=0.0),
}


@dataclass(frozen=True)
class Ablation(Source):
    """What is measured with, and where the figure goes.

    Attributes:
        figure: Picture to write; none by default.
    """

    figure: Path | None = None


def right_label(
    others: Others, model: nn.Module, noise: Noise, n: int, tempering: Tempering, step: int,
    context: Context,
) -> Slopes:  # fmt: skip
    """Slopes of the event that training images of other labels keep their labels."""
    assert context.neighbours is not None
    chosen = others.chosen(Stage.FIT, step + 1, n // 2)
    labels = context.neighbours.labels[chosen]
    drawn = context.streams, step, context.batching
    return slopes(model, others.images[chosen], noise, labels, n, tempering, *drawn)


def main(options: Ablation) -> None:
    """Prints the table, and draws the figure."""
    mnist = Mnist(options)
    basis, sizes = principal_subspaces(mnist.neighbours.images)
    heads = (*SIZES, "blind", "sighted", "samples", "seconds")
    print(f"{'':42s}" + "".join(f"{head:>9s}" for head in heads))
    means = {}
    for name, method in VARIANTS.items():
        found = []
        event = mock.patch.object(sighted, "slopes_at", right_label)
        for case in mnist.cases:
            image, context = case.image, case.context
            start = time.perf_counter()
            with event if name == LABEL else nullcontext():
                fit = method.fit(mnist.model, image, context)
            taken = time.perf_counter() - start
            region = certify(mnist.model, image, fit, BUDGET, context.streams).region
            given = fit.noise, region.prediction, mnist.neighbours, SAMPLES, context.streams
            blind, drawn = blind_samples(mnist.model, *given)
            own = [region.l2_radius, region.data_radii(basis, sizes)[0], region.proxy_radius]
            right = region.prediction[0] == case.label
            sees = clopper_pearson_upper(blind, drawn, BUDGET.alpha)[0] <= SIGHTED
            samples = sum(work(method, int(fit.steps[0])))
            radii = [float(one[0]) * right for one in own]
            found.append((*radii, blind[0] / SAMPLES, sees, samples, taken))
        *radii, blind, sees, samples, taken = means[name] = np.mean(found, axis=0)
        print(
            f"{name:42s}" + "".join(f"{radius:9.3f}" for radius in radii)
            + f"{blind:9.4f}{sees:9.0%}{samples:9,.0f}{taken:9.1f}",
            flush=True,
        )  # fmt: skip
    if options.figure is not None:
        draw(options.figure, means, len(mnist.cases))


def draw(path: Path, means: Mapping[str, np.ndarray], images: int) -> None:
    """The means of the sizes against the blindness that a fit allows."""
    figure, axes = plt.subplots(figsize=(5.5, 3.5), layout="constrained")
    for place, size in enumerate(SIZES):
        radii = [means[name][place] for name in SIGHT.values()]
        axes.plot(list(SIGHT), radii, marker="o", label=f"{size} radius")
    axes.set(xscale="log", yscale="log", xlabel="blindness that a fit allows")
    axes.set(ylabel="mean certified radius", title=f"The price of sight, {images} MNIST images")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Ablation))

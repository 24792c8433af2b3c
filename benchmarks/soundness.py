"""Pairs of regions per second, beside one dense factorisation per pair, for each method of a run.

Pairs per second and the hours for the whole MNIST test set are those of the search for planes; to
narrow regions comes on top, and takes longer the more planes a region has.

python benchmarks/soundness.py --dir runs/sound-0.25 --data-root data
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import linalg

from rddrs_dist import data
from rddrs_dist.disjoint import (
    Bounds,
    Conflicts,
    Regions,
    Touch,
    mean_inverse,
    narrowed,
    touch,
)
from rddrs_dist.results import read
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.scales import Scales

_TEST_SET = 10_000
# Regions that are narrowed to see how long that takes.
_NARROWED = 10


@dataclass(frozen=True)
class Source:
    """Where regions come from.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        data_root: Folder of the data.
        images: Regions of each method, at most.
        threads: CPU threads.
    """

    dir: Path
    data_root: Path = Path("data")
    images: int = 100
    threads: int = 1


def regions(source: Source, method: str) -> Regions:
    """The first regions of a method."""
    frame = read(source.dir)
    own = frame.loc[(frame["method"] == method) & (frame["prediction"] != ABSTAIN)]
    own = own.iloc[: source.images]
    images = data.load(frame.attrs["dataset"], "test", source.data_root)
    indices = own["index"].to_numpy()
    return Regions(
        torch.from_numpy(images.images[indices]),
        torch.from_numpy(own["prediction"].to_numpy(np.int64).copy()),
        torch.from_numpy(own["radius"].to_numpy(np.float64).copy()),
        Scales(source.dir).noise(method, indices.tolist(), images.event_shape),
    )


def factorisation(own: Regions, kind: torch.dtype) -> float:
    """Seconds to factor the sum of two covariances and solve with it."""
    first, second = own.noise[:2].covariance().to(kind)
    v = (own.points[1] - own.points[0]).unsqueeze(1).to(kind)
    torch.cholesky_solve(v, linalg.cholesky(first + second))  # the first call takes its time
    start = time.perf_counter()
    for _ in range(5):
        torch.cholesky_solve(v, linalg.cholesky(first + second))
    return (time.perf_counter() - start) / 5


def narrowing(own: Regions, touched: Touch) -> tuple[int, float]:
    """How many regions have to be narrowed, and seconds for each, of a few of them."""
    radius = own.radius.numpy()
    left = touched[~(touched.mu(own.radius, own.radius) > 1)]
    found = (left.rows, left.columns, left.gap, left.left, left.right)
    bounds = Bounds(radius, Conflicts(*(one.numpy() for one in found)))
    some = bounds.regions[:: -(-len(bounds.regions) // _NARROWED) or 1].tolist()
    axes = own.noise.min_axis.tolist()
    start = time.perf_counter()
    for region in some:
        chosen, limits = bounds.of(region)
        normals = left.normal[torch.from_numpy(chosen)].double()
        noise = own.noise[region : region + 1]
        made = narrowed(noise, axes[region], normals, torch.from_numpy(limits))
        if made is not None:
            float(made[0].mean_axis)
    return len(bounds.regions), (time.perf_counter() - start) / max(len(some), 1)


def line(source: Source, method: str) -> str:
    """What was measured of one method, as a line of the table."""
    own = regions(source, method)
    inverse = mean_inverse([own])
    start = time.perf_counter()
    touched = touch(own, own, inverse, same=True)
    seconds = time.perf_counter() - start
    pairs = int((own.prediction.unsqueeze(1) != own.prediction).triu(1).sum())
    conflicts = int((touched.mu(own.radius, own.radius) <= 1).sum())
    steps = float(touched.steps.double().mean()) if len(touched.steps) else 0.0
    double, single = (1 / factorisation(own, kind) for kind in (torch.float64, torch.float32))
    share = pairs / (len(own) * (len(own) - 1) / 2)
    hours = share * _TEST_SET**2 / 2 * seconds / pairs / 3600
    smaller, each = narrowing(own, touched)
    cells = (
        *(method, len(own), pairs, conflicts, f"{steps:.1f}", f"{pairs / seconds:.0f}"),
        *(f"{double:.0f}", f"{single:.0f}", f"{hours:.2f} h", smaller, f"{each:.2f}"),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main(source: Source) -> None:
    """Prints a line per method."""
    torch.set_num_threads(source.threads)
    header = (
        *("method", "regions", "pairs", "conflicts", "steps", "pairs/s"),
        *("factored/s, float64", "float32", "10,000 images", "narrowed", "s per narrowing"),
    )
    print(f"| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    for method in dict.fromkeys(read(source.dir)["method"]):
        print(line(source, method), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source, description=__doc__))

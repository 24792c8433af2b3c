"""Pairs of regions per second, beside one dense factorisation per pair, for each method of a run.

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
from rddrs_dist.results import read
from rddrs_dist.results.scales import Scales
from rddrs_dist.results.schema import ABSTAIN
from rddrs_dist.soundness import Regions, mean_inverse, touch

_TEST_SET = 10_000


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


def factorisation(own: Regions) -> float:
    """Seconds to factor the sum of two covariances and solve with it, in float64."""
    first, second = own.noise[:2].covariance()
    v = (own.points[1] - own.points[0]).unsqueeze(1)
    start = time.perf_counter()
    for _ in range(5):
        torch.cholesky_solve(v, linalg.cholesky(first + second))
    return (time.perf_counter() - start) / 5


def main(source: Source) -> None:
    """Prints a line per method."""
    torch.set_num_threads(source.threads)
    print(
        "| method | regions | pairs | conflicts | steps | pairs/s | factored/s | 10,000 images |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for method in dict.fromkeys(read(source.dir)["method"]):
        own = regions(source, method)
        inverse = mean_inverse([own])
        start = time.perf_counter()
        touched = touch(own, own, inverse, same=True)
        seconds = time.perf_counter() - start
        pairs = int((own.prediction.unsqueeze(1) != own.prediction).triu(1).sum())
        conflicts = int((touched.mu(own.radius, own.radius) <= 1).sum())
        steps = float(touched.steps.double().mean()) if len(touched.steps) else 0.0
        share = pairs / (len(own) * (len(own) - 1) / 2)
        hours = share * _TEST_SET**2 / 2 * seconds / pairs / 3600
        counts = f"{len(own)} | {pairs} | {conflicts} | {steps:.1f}"
        rates = f"{pairs / seconds:.0f} | {1 / factorisation(own):.0f} | {hours:.2f} h"
        print(f"| {method} | {counts} | {rates} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source, description=__doc__))

"""Pairs of regions per second, beside one dense factorisation per pair, for each method of a run.

Pairs per second are those of the search for hyperplanes; to narrow regions comes on top, and takes
longer the more hyperplanes a region has.

python benchmarks/disjoint.py --dir runs/mnist/disjoint-0.25 --data-root data
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import linalg

from rddrs_dist import data
from rddrs_dist.disjoint import Contacts, bounds, contacts, narrowed, preconditioner
from rddrs_dist.region import ABSTAIN, Region
from rddrs_dist.results import read, read_run
from rddrs_dist.results.scales import Scales

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


def regions(source: Source, method: str) -> Region:
    """The first regions of a method."""
    run, frame = read_run(source.dir)
    own = frame.loc[(frame["method"] == method) & (frame["prediction"] != ABSTAIN)]
    own = own.iloc[: source.images]
    images = data.load(run.config["dataset"], "test", source.data_root)
    indices = own["index"].tolist()
    return Region(
        torch.from_numpy(images.images[indices]),
        Scales(source.dir).noise(method, indices, images.event_shape),
        own["radius"].to_numpy(np.float64, copy=True),
        own["prediction"].to_numpy(np.int64, copy=True),
    )


def factorisation(own: Region, kind: torch.dtype) -> float:
    """Seconds to factor the sum of two covariances and solve with it."""
    first, second = own.noise[:2].covariance().to(kind)
    v = (own.centre[1] - own.centre[0]).view(-1, 1).to(kind)
    torch.cholesky_solve(v, linalg.cholesky(first + second))  # the first call takes its time
    start = time.perf_counter()
    for _ in range(5):
        torch.cholesky_solve(v, linalg.cholesky(first + second))
    return (time.perf_counter() - start) / 5


def narrowing(own: Region, conflicts: Contacts) -> tuple[int, float]:
    """How many regions have to be narrowed, and seconds for each, of a few of them."""
    wanted = list(bounds(own.radius, conflicts))
    some = wanted[:: -(-len(wanted) // _NARROWED) or 1]
    axes = own.min_axis
    start = time.perf_counter()
    for region, chosen, limits in some:
        normals = torch.from_numpy(conflicts.normal[chosen]).double()
        made = narrowed(own[[region]], axes[region], normals, torch.from_numpy(limits))
        if made is not None:
            float(made.mean_axis[0])
    return len(wanted), (time.perf_counter() - start) / max(len(some), 1)


def line(source: Source, method: str) -> str:
    """What was measured of one method, as a line of the table."""
    own = regions(source, method)
    inverse = preconditioner(own)
    start = time.perf_counter()
    found = contacts(own, None, inverse)
    seconds = time.perf_counter() - start
    pairs = int(np.triu(own.prediction[:, None] != own.prediction, 1).sum())
    conflicts = found[found.factor(own.radius) <= 1]
    steps = float(found.steps.mean()) if len(found) else 0.0
    double, single = (1 / factorisation(own, kind) for kind in (torch.float64, torch.float32))
    smaller, each = narrowing(own, conflicts)
    cells = (
        *(method, len(own), pairs, len(conflicts), f"{steps:.1f}", f"{pairs / seconds:.0f}"),
        *(f"{double:.0f}", f"{single:.0f}", smaller, f"{each:.2f}"),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main(source: Source) -> None:
    """Prints a line per method."""
    torch.set_num_threads(source.threads)
    header = (
        *("method", "regions", "pairs", "conflicts", "steps", "pairs/s"),
        *("factored/s, float64", "float32", "narrowed", "s per narrowing"),
    )
    print(f"| {' | '.join(header)} |\n|---|{'---:|' * (len(header) - 1)}")
    for method in dict.fromkeys(read(source.dir)["method"]):
        print(line(source, method), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Source, description=__doc__))

"""Pairs of regions per second, beside one dense factorisation per pair, for each method of a run.

Pairs per second are those of the search for hyperplanes; to narrow regions comes on top, and takes
longer the more hyperplanes a region has.

python benchmarks/disjoint.py --dir runs/mnist/disjoint-0.25 --data-root data
"""

import numpy as np
import torch
import tyro
from gpu import seconds
from inputs import Folder
from torch import linalg

from rddrs_dist.disjoint import Contacts, bounds, contacts, narrowed, preconditioner
from rddrs_dist.region import Region

# Regions that are narrowed to see how long that takes.
_NARROWED = 10
_HEADER = (
    "| method | regions | pairs | conflicts | steps | pairs/s | factored/s, float64 | float32 | "
    "narrowed | s per narrowing |\n|---|" + 9 * "---:|"
)


def factorisations(own: Region, kind: torch.dtype) -> float:
    """Times per second that the sum of two covariances is factored and solved with."""
    first, second = own.noise[:2].covariance().to(kind)
    v = (own.centre[1] - own.centre[0]).view(-1, 1).to(kind)

    def solve(times: int) -> None:
        for _ in range(times):
            torch.cholesky_solve(v, linalg.cholesky(first + second))

    solve(1)  # the first call takes its time
    return 5 / seconds(lambda: solve(5))


def narrowing(own: Region, conflicts: Contacts) -> tuple[int, float]:
    """How many regions have to be narrowed, and seconds for each, of a few of them."""
    wanted = list(bounds(own.radius, conflicts))
    some = wanted[:: -(-len(wanted) // _NARROWED) or 1]
    axes = own.min_axis

    def narrow() -> None:
        for region, chosen, limits in some:
            normals = torch.from_numpy(conflicts.normal[chosen]).double()
            made = narrowed(own[[region]], axes[region], normals, torch.from_numpy(limits))
            if made is not None:
                float(made.mean_axis[0])

    return len(wanted), seconds(narrow) / max(len(some), 1)


def line(own: Region) -> str:
    """What was measured of the regions of one method, as cells of the table."""
    made, inverse = [], preconditioner(own)
    searching = seconds(lambda: made.append(contacts(own, None, inverse)))
    (found,) = made
    pairs = int(np.triu(own.prediction[:, None] != own.prediction, 1).sum())
    conflicts = found[found.factor(own.radius) <= 1]
    steps = float(found.steps.mean()) if len(found) else 0.0
    double, single = (factorisations(own, kind) for kind in (torch.float64, torch.float32))
    smaller, each = narrowing(own, conflicts)
    return (
        f"{len(own)} | {pairs} | {len(conflicts)} | {steps:.1f} | {pairs / searching:.0f} | "
        f"{double:.0f} | {single:.0f} | {smaller} | {each:.2f}"
    )


def main(folder: Folder) -> None:
    """Prints a line per method."""
    torch.set_num_threads(folder.threads)
    print(_HEADER)
    for method in folder.known():
        print(f"| {method} | {line(folder.region(folder.rows(method)))} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Folder, description=__doc__))

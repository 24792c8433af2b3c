"""Faults injected into runs one after another until the time is up, and what became of the rows.

Each run is compared, row by row and bit by bit, with one that nothing disturbed.

    python benchmarks/chaos.py --checkpoint runs/quickstart/lenet-0.25.safetensors --minutes 10
"""

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro
from faults import FAULTS, Bed, Case

from rddrs_dist.results import read
from rddrs_dist.results.columns import KEY, TIMINGS


@dataclass(frozen=True)
class Soak:
    """What is disturbed, and for how long."""

    checkpoint: Path  # network for the 8x8 digits, as `make quickstart` trains it
    minutes: float = 10.0  # no fault is begun after this time; each is tried at least once
    faults: tuple[str, ...] = tuple(FAULTS)  # what is done, in turn
    nodes: int = 2  # worker nodes, each a raylet with one CPU
    indices: str = "0:240:10"  # test images of each run
    methods: tuple[str, ...] = ("rs", "ddrs", "rddrs_tr")  # methods of each run

    def case(self, bed: Bed, out: Path) -> Case:
        """A run, by its command line."""
        flags = [
            *("--checkpoint", str(self.checkpoint), "--out", str(out), "--indices", self.indices),
            *("--n", "1000", "--shard-size", "2", "--actors", str(self.nodes)),
            *("--address", bed.address, "--ddrs.steps", "100", "--ddrs.candidate-every", "50"),
            *("--rddrs-tr.steps", "5", "--methods", *self.methods),
        ]
        return Case(bed, flags)


def compare(out: Path, quiet: Path) -> dict[str, int]:
    """Rows of the quiet run that are missing or doubled, and rows that differ from it."""
    found, wanted = (
        read(folder).drop(columns=list(TIMINGS)).set_index(list(KEY)) for folder in (out, quiet)
    )
    twice = found.index.duplicated()
    lost = len(wanted.index.symmetric_difference(found.index)) + int(twice.sum())
    same = found[~twice].reindex(wanted.index)
    equal = (same == wanted) | (same.isna() & wanted.isna())
    return {"lost": lost, "differing": int((~equal.to_numpy().all(axis=1)).sum())}


def main(options: Soak) -> None:
    """Does one quiet run, then the disturbed ones, and prints a table."""
    rows = []
    with tempfile.TemporaryDirectory() as name, Bed.made(options.nodes) as bed:
        folder, start = Path(name), time.monotonic()
        options.case(bed, folder / "quiet").certify()
        quiet, until = time.monotonic() - start, start + 60 * options.minutes
        for turn in itertools.count():
            if turn >= len(options.faults) and time.monotonic() > until:
                break
            fault, begun = options.faults[turn % len(options.faults)], time.monotonic()
            case = options.case(bed, folder / str(turn))
            row = {"fault": fault, "runs": 1, "injected": int(FAULTS[fault](case))}
            row["time"] = (time.monotonic() - begun) / quiet
            rows.append(row | compare(case.out, folder / "quiet"))
    print(f"quiet run: {quiet:.1f} s\n")
    print("| fault | runs | injected | rows lost | rows differing | time, quiet = 1 |")
    print("|---|---:|---:|---:|---:|---:|")
    for fault, own in pd.DataFrame(rows).groupby("fault", sort=False):
        counts = " | ".join(map(str, own[["runs", "injected", "lost", "differing"]].sum()))
        print(f"| {fault} | {counts} | {own['time'].mean():.1f} |")


if __name__ == "__main__":
    main(tyro.cli(Soak, description=__doc__))

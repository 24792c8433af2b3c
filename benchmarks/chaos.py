"""Faults injected into runs one after another until the time is up, and what became of the rows.

Each run is compared, row by row and bit by bit, with one that nothing disturbed.

    python benchmarks/chaos.py --checkpoint runs/quickstart/lenet-0.25.safetensors --minutes 10
"""

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from faults import FAULTS, Bed, Case

from rddrs_dist.results import read
from rddrs_dist.results.columns import KEY, TIMINGS


@dataclass(frozen=True)
class Soak:
    """What is disturbed, and for how long.

    Attributes:
        checkpoint: Network for the 8x8 digits, as `make quickstart` trains it.
        minutes: No fault is begun after this time; each is tried at least once.
        faults: What is done, in turn.
        nodes: Worker nodes, each a raylet with one CPU.
        indices: Test images of each run.
        methods: Methods of each run.
    """

    checkpoint: Path
    minutes: float = 10.0
    faults: tuple[str, ...] = tuple(FAULTS)
    nodes: int = 2
    indices: str = "0:240:10"
    methods: tuple[str, ...] = ("rs", "ddrs", "rddrs_tr")

    def flags(self, bed: Bed, out: Path) -> list[str]:
        """The command line of a run."""
        return [
            *("--checkpoint", str(self.checkpoint), "--out", str(out), "--indices", self.indices),
            *("--n", "1000", "--shard-size", "2", "--actors", str(self.nodes)),
            *("--address", bed.address, "--ddrs.steps", "100", "--ddrs.candidate-every", "50"),
            *("--rddrs-tr.steps", "5", "--methods", *self.methods),
        ]


def rows(out: Path) -> pd.DataFrame:
    """All rows of a run without their times, by image and method."""
    frame = read(out)
    return frame.drop(columns=list(TIMINGS)).set_index(list(KEY))


def compare(found: pd.DataFrame, quiet: pd.DataFrame) -> tuple[int, int]:
    """Rows of the quiet run that are missing or doubled, and rows that differ from it."""
    twice = found.index.duplicated()
    lost = len(quiet.index.symmetric_difference(found.index)) + int(np.sum(twice))
    same = found[~twice].reindex(quiet.index)
    equal = (same == quiet) | (same.isna() & quiet.isna())
    return lost, int(np.sum(~equal.to_numpy().all(axis=1)))


def turns(options: Soak, until: float) -> Iterator[str]:
    """Faults in turn; past the time, only those not yet tried."""
    for turn in itertools.count():
        if turn >= len(options.faults) and time.monotonic() > until:
            return
        yield options.faults[turn % len(options.faults)]


def soak(options: Soak, folder: Path) -> tuple[float, pd.DataFrame]:
    """Seconds of the quiet run, and a row per disturbed run: fault and what became of it."""
    found = []
    with Bed.made(options.nodes) as bed:
        start = time.monotonic()
        Case(bed, options.flags(bed, folder / "quiet")).certify()
        undisturbed = time.monotonic() - start
        quiet = rows(folder / "quiet")
        for turn, name in enumerate(turns(options, start + 60 * options.minutes)):
            case, begun = Case(bed, options.flags(bed, folder / str(turn))), time.monotonic()
            injected = FAULTS[name](case)
            seconds = time.monotonic() - begun
            lost, differing = compare(rows(case.out), quiet)
            found.append((name, injected, lost, differing, seconds))
    names = ["fault", "injected", "lost", "differing", "seconds"]
    return undisturbed, pd.DataFrame(found, columns=names)


def main(options: Soak) -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        quiet, found = soak(options, Path(folder))
    print(f"quiet run: {quiet:.1f} s\n")
    print("| fault | runs | injected | rows lost | rows differing | time, quiet = 1 |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, runs in found.groupby("fault", sort=False):
        counts = " | ".join(str(runs[one].sum()) for one in ("injected", "lost", "differing"))
        print(f"| {name} | {len(runs)} | {counts} | {runs['seconds'].mean() / quiet:.1f} |")


if __name__ == "__main__":
    main(tyro.cli(Soak, description=__doc__))

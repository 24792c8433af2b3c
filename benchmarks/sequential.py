"""Samples that a group-sequential test saves a certificate, and the radius that this costs.

Certifies the stored noises of a run twice: with all n samples, and with tests at which an image
may stop. Both have the same guarantee.

    rddrs certify paper-mnist --save-scales --out runs/tested ...
    python benchmarks/sequential.py --dir runs/tested --checkpoint LeNet5_0.25.pth
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from inputs import Folder, network

from rddrs_dist import Budget, Fit, Streams, certify
from rddrs_dist.analysis.tables import floor_to


@dataclass(frozen=True, kw_only=True)
class Options(Folder):
    """What is certified."""

    checkpoint: Path  # the network of that run
    n: int = 100_000  # samples that estimate
    sequential_tests: int = 6  # tests of the count, at least two
    tolerance: float = 0.05  # share of its radius that an image may lose


def main(options: Options) -> None:
    """Prints a line per method."""
    torch.set_num_threads(options.threads)
    model, every = network(options.checkpoint), Budget(n=options.n)
    early = replace(every, sequential_tests=options.sequential_tests, tolerance=options.tolerance)
    print("| method | images | samples per image | of all, % | ACR with all | ACR |")
    print("|---|---:|---:|---:|---:|---:|")
    for method in options.known():
        rows = options.rows(method, abstentions=True)
        sizes, drawn = {every: [], early: []}, []
        for k in range(len(rows)):
            row, region = rows.iloc[k], options.region(rows.iloc[[k]])
            limit = np.array([row["radius_limit"]], dtype=float)
            fit = replace(Fit.of(region.noise), limit=np.nan_to_num(limit, nan=np.inf))
            for budget, proxies in sizes.items():
                streams = Streams.of(0, [row["index"]])
                found = certify(model, region.centre, fit, budget, streams)
                right = found.region.prediction[0] == row["label"]
                proxies.append(found.region.proxy_radius[0] if right else 0.0)
                drawn += [found.n[0]] * (budget is early)
        mean, acrs = np.mean(drawn), [floor_to(float(np.mean(own)), 3) for own in sizes.values()]
        share = f"{mean:,.0f} | {100 * mean / options.n:.1f}"
        print(f"| {method} | {len(rows)} | {share} | {acrs[0]:.3f} | {acrs[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Samples that a certificate saves by looking at its count early, and the radius that this costs.

Certifies the stored noises of a run twice: with all n samples, and with looks at which an image
may stop. Both have the same guarantee.

    rddrs certify paper-mnist --save-scales --out runs/looked ...
    python benchmarks/looks.py --dir runs/looked --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from rddrs_dist import Budget, Streams, certify, checkpoints, data
from rddrs_dist.analysis.curves import in_order
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.results import read
from rddrs_dist.results.scales import Scales


@dataclass(frozen=True)
class Options:
    """What is certified.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        checkpoint: The network of that run.
        data_root: Folder of the data.
        n: Samples that estimate.
        looks: Looks at the count.
        tolerance: Share of its radius that an image may lose.
        images: Images of each method; by default all.
        threads: CPU threads.
    """

    dir: Path
    checkpoint: Path
    data_root: Path = Path("data")
    n: int = 100_000
    looks: int = 6
    tolerance: float = 0.05
    images: int | None = None
    threads: int = 1


def main(options: Options) -> None:
    """Prints a line per method."""
    torch.set_num_threads(options.threads)
    frame, scales = read(options.dir), Scales(options.dir)
    images = data.load(frame.attrs["dataset"], "test", options.data_root)
    model = checkpoints.load(options.checkpoint).model.to(memory_format=torch.channels_last)
    if options.looks < 2:
        raise SystemExit(f"--looks must be at least 2, got {options.looks}")
    every = Budget(n=options.n)
    early = replace(every, looks=options.looks, tolerance=options.tolerance)
    print("| method | images | samples per image | of all, % | ACR with all | ACR |")
    print("|---|---:|---:|---:|---:|---:|")
    for method in in_order(set(frame["method"])):
        rows = frame.loc[frame["method"] == method].iloc[: options.images]
        sizes, drawn = {every: [], early: []}, []
        limits = rows["radius_limit"].fillna(np.inf)
        for index, label, limit in zip(rows["index"], rows["label"], limits, strict=True):
            image = torch.from_numpy(images.images[index][None])
            noise = scales.noise(method, [index], images.event_shape)
            for budget in sizes:
                streams = Streams.of(0, [index])
                found = certify(model, image, noise, budget, streams, limit=np.array([limit]))
                right = found.prediction[0] == label
                sizes[budget].append(found.proxy_radius[0] if right else 0.0)
                if budget is early:
                    drawn.append(found.n[0])
        mean, acrs = np.mean(drawn), [floor_to(float(np.mean(own)), 3) for own in sizes.values()]
        share = f"{100 * mean / options.n:.1f}"
        print(
            f"| {method} | {len(rows)} | {mean:,.0f} | {share} | {acrs[0]:.3f} | {acrs[1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

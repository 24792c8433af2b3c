"""Draw figure 1 of the RDDRS paper: regions in the plane, and their areas as the plane turns.

python jobs/figure1.py --out FOLDER trains a three-class network in the unit square and fits,
certifies and checks the regions of one test point by DDRS, ANCER, RDDRS and RDDRS-TR, data and
network turned by 0 to 90 degrees. See jobs/README.md.
"""

import os
import sys
from collections.abc import Iterable

import pandas as pd
import torch
import tyro
from plane import figure, summary
from plane.measure import TurnedStreams, regions, table
from plane.options import Options, check
from plane.problem import Problem

from rddrs_dist import Streams, cli


def measured(
    problem: Problem, options: Options, angles: Iterable[float], first: int
) -> pd.DataFrame:
    """Regions of all methods at angles, from samples of its own at each.

    Args:
        problem: As it is at no angle.
        options: Settings and budget.
        angles: In degrees.
        first: Index of the random streams of the first angle; the others follow.
    """
    found = []
    for index, angle in enumerate(angles, first):
        found += regions(problem, options, angle, Streams.of(options.seed, [index]))
        print(f"{index + 1} of {2 * options.angles}", file=sys.stderr, flush=True)
    return table(found)


def figure1(options: Options) -> int:
    """Measures, prints and draws."""
    check(options)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the layers are tiny
    problem = Problem.made(options.sigma, options.seed)
    every = measured(problem, options, options.degrees.tolist(), 0)
    unturned = measured(problem, options, [0.0] * options.angles, options.angles)
    angle = options.drawn[1]
    turned = regions(problem, options, angle, TurnedStreams(options.seed, (0,), angle))
    own, alone = (summary.of_class(rows, problem.prediction) for rows in (every, unturned))
    if not len(own):
        raise ValueError(f"no region was certified with n = {options.n}: give a larger --n")
    spreads, plain = summary.spreads(own, alone), every.loc[every["angle"] == 0]
    checks = summary.checks(pd.concat([every, unturned]))
    print(summary.by_angle(every), summary.spreads_text(spreads), checks, sep="\n\n")
    print(summary.turned_text(plain, table(turned)))
    left_out = len(every) - len(own)
    print(f"{left_out} of {len(every)} regions are not of the network's class: left out")
    text = figure.caption(options, max(spreads["gap"]), left_out)
    written = figure.write(problem, own, alone, options, text)
    for name, rows in (("figure1", every), ("figure1-unturned", unturned)):
        written.append(options.out / f"{name}.csv")
        rows.to_csv(written[-1], index=False, lineterminator="\n")
    print("\nwrote " + ", ".join(str(path) for path in written))
    return cli.COMPLETE


def main(flags: list[str] | None = None) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    try:
        return figure1(tyro.cli(Options, prog="figure1.py", args=flags))
    except (ValueError, OSError) as error:
        if os.environ.get("RDDRS_DEBUG"):
            raise
        print("rddrs: error: " + " ".join(str(error).split()), file=sys.stderr)
        return cli.WRONG


if __name__ == "__main__":
    sys.exit(main())

"""Draw figure 1 of the RDDRS paper: regions in the plane, and their areas as the plane turns.

python jobs/figure1.py --out FOLDER trains a three-class network in the unit square and fits,
certifies and checks the regions of one test point by DDRS, ANCER, RDDRS and RDDRS-TR, data and
network turned by 0 to 90 degrees. See jobs/README.md.
"""

import os
import sys
from collections.abc import Sequence

import pandas as pd
import torch
import tyro
from plane import figure, summary
from plane.measure import TurnedStreams, rows
from plane.options import DRAWN, Options, check
from plane.problem import Problem

from rddrs_dist import Streams, cli


def measured(
    problem: Problem, options: Options, angles: Sequence[float], samples: Sequence[Streams]
) -> pd.DataFrame:
    """Regions of all methods at angles.

    Args:
        problem: As it is at no angle.
        options: Settings and budget.
        angles: In degrees.
        samples: Those of each angle.
    """
    found = []
    for angle, streams in zip(angles, samples, strict=True):
        found += rows(problem, options, angle, streams)
        print(f"{len(found) // len(DRAWN)} of {len(angles)}", file=sys.stderr, flush=True)
    return pd.DataFrame(found)


def figure1(options: Options) -> int:
    """Measures, prints and draws."""
    check(options)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the layers are tiny
    problem = Problem.made(options.sigma, options.seed)
    angles = options.degrees.tolist()
    own = [Streams.of(options.seed, [index]) for index in range(2 * options.angles)]
    alike = [TurnedStreams(options.seed, (0,), angle) for angle in angles]
    every = {
        "figure1": measured(problem, options, angles, alike),
        "figure1-samples": measured(problem, options, angles, own[: len(angles)]),
        "figure1-unturned": measured(problem, options, [0.0] * len(angles), own[len(angles) :]),
    }
    turned, fresh, alone = (summary.of_class(one, problem.prediction) for one in every.values())
    if not len(turned):
        raise ValueError(f"no region was certified with n = {options.n}: give a larger --n")
    spreads, whole = summary.spreads(turned, fresh, alone), pd.concat(every.values())
    print(summary.spreads_text(spreads), summary.checks(whole), sep="\n\n")
    left_out = len(whole) - len(turned) - len(fresh) - len(alone)
    print(f"{left_out} of {len(whole)} regions are not of the network's class: left out")
    text = figure.caption(options, max(spreads["gap"]), left_out)
    written = figure.write(problem, figure.Measured(turned, fresh, alone), options, text)
    for name, table_of in every.items():
        written.append(options.out / f"{name}.csv")
        table_of.to_csv(written[-1], index=False, lineterminator="\n")
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

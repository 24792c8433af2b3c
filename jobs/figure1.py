"""Draw figure 1 of the RDDRS paper: regions in the plane, and their areas as the plane turns.

python jobs/figure1.py --out FOLDER trains a three-class network in the unit square and fits,
certifies and checks the regions of one test point by DDRS, ANCER, RDDRS and RDDRS-TR, data and
network turned by 0 to 90 degrees. See jobs/README.md.
"""

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from plane import figure
from plane.measure import DRAWN, Options, TurnedStreams, rows
from plane.problem import Problem

from rddrs_dist import Streams, cli
from rddrs_dist.analysis.tables import floor_to


def measured(
    problem: Problem, options: Options, angles: Sequence[float], samples: Sequence[Streams]
) -> pd.DataFrame:
    """Regions of all methods at angles in degrees, each with samples of its own."""
    found = []
    for angle, streams in zip(angles, samples, strict=True):
        found += rows(problem, options, angle, streams)
        print(f"{len(found) // len(DRAWN)} of {len(angles)}", file=sys.stderr, flush=True)
    return pd.DataFrame(found)


def spreads(turned: pd.DataFrame, fresh: pd.DataFrame, alone: pd.DataFrame) -> pd.DataFrame:
    """How much the areas of each method change with the angle; spread is (most - least) / mean.

    Args:
        turned: Rows at all angles, from the same samples turned.
        fresh: Rows at all angles, from new samples at each.
        alone: Rows at no angle, from other samples each time.
    """
    found = []
    for name, rows_of in turned.groupby("method", sort=False):
        certified, exact = rows_of[["certified_area", "exact_area"]].to_numpy(dtype=float).T
        new, same = (
            one.loc[one["method"] == name, "certified_area"].to_numpy(dtype=float)
            for one in (fresh, alone)
        )
        found.append(
            {
                "method": name,
                "mean exact area": exact.mean(),
                "least": exact.min(),
                "most": exact.max(),
                "spread": spread(exact),
                "of certified area": spread(certified),
                "with new samples": spread(new),
                "not turned": spread(same),
                "largest gap": float((1 - certified / exact).max()),
            }
        )
    return pd.DataFrame(found)


def spread(areas: NDArray[np.float64]) -> float:
    """(largest - smallest) / mean; NaN of none."""
    return float(np.ptp(areas) / areas.mean()) if len(areas) else float("nan")


def checks(table: pd.DataFrame) -> str:
    """What the exact probabilities say of the certificates."""
    above = np.sum(table["p_lower"] > table["p_exact"])
    return (
        f"{above} of {len(table)} certificates have a p_lower above the exact probability\n"
        f"{table['changed'].sum()} of {table['points'].sum():,} points inside certified regions "
        "have an exact probability of the class of at most 1/2; the smallest is "
        f"{floor_to(table['smallest_p'].to_numpy().min(), 4):.4f}"
    )


def figure1(options: Options) -> int:
    """Measures, prints and draws."""
    options.check()
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
    turned, fresh, alone = (
        one.loc[one["prediction"] == problem.prediction] for one in every.values()
    )
    if not len(turned):
        raise ValueError(f"no region was certified with n = {options.n}: give a larger --n")
    found, whole = spreads(turned, fresh, alone), pd.concat(every.values())
    print("areas, samples turned with data and network; spread: (most - least) / mean")
    print(found.to_string(index=False, float_format="{:.5f}".format), checks(whole), sep="\n\n")
    left_out = len(whole) - len(turned) - len(fresh) - len(alone)
    print(f"{left_out} of {len(whole)} regions are not of the network's class: left out")
    text = figure.caption(options, max(found["largest gap"]), left_out)
    written = figure.write(problem, turned, fresh, alone, options, text)
    for name, table_of in every.items():
        written.append(options.out / f"{name}.csv")
        table_of.to_csv(written[-1], index=False, lineterminator="\n")
    print("\nwrote " + ", ".join(str(path) for path in written))
    return cli.COMPLETE


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    return cli.guarded(lambda: figure1(cli.parsed(Options, "figure1.py", flags)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

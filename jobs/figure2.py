"""Draw figure 2 of the RDDRS paper: certified accuracy of all methods, one panel per network.

python jobs/figure2.py --checkpoints A.pth B.pth C.pth --sigmas 0.12 0.25 0.5 --out FOLDER is
`rddrs certify paper-mnist` for each network and `rddrs curves` of them all; other flags are those
of `rddrs certify`. Given again, it goes on where it was stopped. See jobs/README.md.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rddrs_dist import DDRS, METHODS, RDDRS, Ancer, Method, checkpoints, cli
from rddrs_dist.results import read
from rddrs_dist.run.options import Run

FULL_IMAGES, FULL_N = 10_000, 100_000
# Flags that the prediction knows nothing of; those of methods, with a dot, are others.
_LESSENING = ("indices", "n", "n0", "sequential-tests", "tolerance", "fit-seconds")


def panels(own: argparse.Namespace, rest: Sequence[str]) -> dict[Path, list[str]]:
    """A folder for each network, and the arguments of `rddrs` that start or continue its run.

    Args:
        own: Our own flags.
        rest: Those of `rddrs certify`.

    Raises:
        ValueError: If sigmas are given for some networks only, a file does not say its own, or two
            networks have one.
        FileNotFoundError: If a file is absent.
    """
    files, given = own.checkpoints, own.sigmas
    if given and len(given) != len(files):
        raise ValueError(
            f"--sigmas must be one number per checkpoint, or none where the files say theirs, got "
            f"{len(given)} for {len(files)}"
        )
    sigmas = given or [checkpoints.load(path).sigma or 0.0 for path in files]
    if not all(sigmas) or len(set(sigmas)) < len(sigmas):
        named = ", ".join(f"{sigma:g}" for sigma in sigmas)
        raise ValueError(
            f"each checkpoint must have a sigma of its own, got {named}: give --sigmas"
        )
    found = {}
    for path, sigma in zip(files, sigmas, strict=True):
        out = own.out / f"sigma-{sigma:g}"
        panel = ["--checkpoint", str(path), "--sigma", repr(sigma), "--out", str(out), "--resume"]
        found[out] = ["certify", "paper-mnist", *rest, *panel]
    return found


def samples(method: Method) -> int:
    """Samples of a fit; 1 where they depend on the image."""
    match method:
        case DDRS():
            return method.steps * method.samples
        case Ancer():
            return len(method.learning_rates) * method.steps * method.samples
        case RDDRS():
            each = method.gradient_samples + method.margin_samples
            return len(method.step_lengths) * method.steps * each
        case _:
            return 1


def predicted_hours(frame: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Core hours of all test images at the published settings, from the seconds of some.

    A fit's seconds grow with its samples, a certificate's with those that it had.

    Args:
        frame: Rows of one or more panels.
        run: The settings they were made with.

    Returns:
        A frame with columns sigma, method, fit_hours and certify_hours.
    """
    hours = FULL_IMAGES * run.execution.cpus_per_actor / 3600
    names = ["fit_seconds", "certify_seconds", "n"]
    found = frame.groupby(["sigma", "method"], as_index=False).agg(dict.fromkeys(names, "mean"))
    longer = [samples(METHODS[name]()) / samples(run.method(name)) for name in found["method"]]
    hourly = pd.DataFrame(
        {
            "fit_hours": hours * found["fit_seconds"] * longer,
            "certify_hours": hours * FULL_N / found["n"] * found["certify_seconds"],
        }
    )
    return found.drop(columns=names).join(hourly)


def full_size(own: argparse.Namespace, rest: Sequence[str]) -> str:
    """The command that does all images at the published settings, into a folder of its own.

    It is this one without what lessens the work.
    """
    kept, keep = [], True
    for word in rest:
        if word.startswith("--"):
            name = word.removeprefix("--").split("=")[0]
            keep = name not in _LESSENING and "." not in name
        kept += [word] * keep
    sigmas = ["--sigmas", *(f"{sigma:g}" for sigma in own.sigmas)] if own.sigmas else []
    files = ["--checkpoints", *map(str, own.checkpoints), *sigmas, "--out", f"{own.out}-full"]
    return shlex.join(["python", "jobs/figure2.py", *files, *kept])


def as_text(hours: pd.DataFrame) -> str:
    """The prediction with its sum."""
    total = hours[["fit_hours", "certify_hours"]].to_numpy().sum()
    return (
        f"core hours of all {FULL_IMAGES:,} images, n = {FULL_N:,}, published settings, at the "
        f"rate of these rows\n{hours.to_string(index=False, float_format='{:.2f}'.format)}\n"
        f"in all {total:,.0f}"
    )


def options(flags: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own flags, and those of `rddrs certify`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[], metavar="SIGMA")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and figure")
    return parser.parse_known_args(flags)


def figure2(own: argparse.Namespace, rest: Sequence[str]) -> int:
    """Certifies with each network, draws, and predicts."""
    todo = panels(own, rest)
    run = cli.parse(next(iter(todo.values())))
    figures = own.out / "figure2"
    for command in (*todo.values(), ["curves", *map(str, todo), "--out", str(figures)]):
        if code := cli.main(command):
            return code
    hours = predicted_hours(pd.concat([read(out) for out in todo]), run)
    text = f"{full_size(own, rest)}\n{as_text(hours)}"
    (figures / "full-size.txt").write_text(text + "\n")
    print(f"\n{text}")
    return cli.COMPLETE


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    return cli.guarded(lambda: figure2(*options(flags)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Draw figure 2 of the RDDRS paper: certified accuracy of all methods, one panel per network.

python jobs/figure2.py --checkpoints A.pth B.pth C.pth --sigmas 0.12 0.25 0.5 --out FOLDER is
`rddrs certify paper-mnist` for each network and `rddrs curves` of them all; other flags are those
of `rddrs certify`. Given again, it goes on where it was stopped. See jobs/README.md.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rddrs_dist import DDRS, METHODS, RDDRS, Ancer, Method, checkpoints, cli
from rddrs_dist.results import read
from rddrs_dist.run.options import Run

FULL_IMAGES, FULL_N = 10_000, 100_000
# Flags that the prediction knows nothing of; those of methods, with a dot, are others.
_LESSENING = ("indices", "n", "n0", "sequential-tests", "tolerance", "fit-seconds")


@dataclass(frozen=True)
class Panel:
    """One network and the run that certifies it.

    Attributes:
        checkpoint: Its file.
        sigma: Standard deviation of its noise.
        out: Folder of its run.
    """

    checkpoint: Path
    sigma: float
    out: Path

    def command(self, flags: Sequence[str]) -> list[str]:
        """Arguments of `rddrs` that start or continue the run."""
        own = ["--checkpoint", str(self.checkpoint), "--sigma", repr(self.sigma)]
        return ["certify", "paper-mnist", *flags, *own, "--out", str(self.out), "--resume"]


def panels(files: Sequence[Path], sigmas: Sequence[float], out: Path) -> list[Panel]:
    """Pairs networks with their sigmas and names a folder for each.

    Args:
        files: Files of networks.
        sigmas: One for each; none where the files say theirs.
        out: Folder of all panels.

    Raises:
        ValueError: If sigmas are given for some networks only, a file does not say its own, or two
            networks have one.
        FileNotFoundError: If a file is absent.
    """
    if sigmas and len(sigmas) != len(files):
        raise ValueError(
            f"--sigmas must be one number per checkpoint, or none where the files say theirs, got "
            f"{len(sigmas)} for {len(files)}"
        )
    own = [*sigmas] or [checkpoints.load(path).sigma or 0.0 for path in files]
    if not all(own) or len(set(own)) < len(own):
        raise ValueError(
            "each checkpoint must have a sigma of its own, got "
            f"{', '.join(f'{sigma:g}' for sigma in own)}: give --sigmas"
        )
    return [
        Panel(path, sigma, out / f"sigma-{sigma:g}")
        for path, sigma in zip(files, own, strict=True)
    ]


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
    table = []
    for (sigma, name), rows in frame.groupby(["sigma", "method"]):  # pyright: ignore[reportGeneralTypeIssues]
        fit, certificate, drawn = rows[["fit_seconds", "certify_seconds", "n"]].to_numpy().mean(0)
        longer = samples(METHODS[name]()) / samples(run.method(name))
        row = {"sigma": sigma, "method": name, "fit_hours": hours * longer * fit}
        table.append(row | {"certify_hours": hours * FULL_N / drawn * certificate})
    return pd.DataFrame(table)


def full_size(own: argparse.Namespace, rest: Sequence[str]) -> str:
    """The command that does all images at the published settings, into a folder of its own.

    It is this one without what lessens the work.

    Args:
        own: Our own flags.
        rest: Those of `rddrs certify`.
    """
    kept, keep = [], True
    for word in rest:
        if word.startswith("--"):
            name = word.removeprefix("--").split("=")[0]
            keep = name not in _LESSENING and "." not in name
        if keep:
            kept.append(word)
    sigmas = ["--sigmas", *(f"{sigma:g}" for sigma in own.sigmas)] if own.sigmas else []
    files = ["--checkpoints", *map(str, own.checkpoints), *sigmas, "--out", f"{own.out}-full"]
    return shlex.join(["python", "jobs/figure2.py", *files, *kept])


def as_text(hours: pd.DataFrame) -> str:
    """Prints the prediction with its sum."""
    total = hours[["fit_hours", "certify_hours"]].to_numpy().sum()
    title = (
        f"core hours of all {FULL_IMAGES:,} images, n = {FULL_N:,}, published settings, at the "
        "rate of these rows"
    )
    table = hours.to_string(index=False, float_format=lambda value: f"{value:.2f}")
    return f"{title}\n{table}\nin all {total:,.0f}"


def options(flags: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own flags, and those of `rddrs certify`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[], metavar="SIGMA")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and figure")
    return parser.parse_known_args(flags)


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    own, rest = options(flags)
    try:
        todo = panels(own.checkpoints, own.sigmas, own.out)
        run = cli.parse(todo[0].command(rest))
    except (ValueError, OSError) as error:
        print(f"rddrs: error: {error}", file=sys.stderr)
        return cli.WRONG
    for panel in todo:
        if code := cli.main(panel.command(rest)):
            return code
    figures = own.out / "figure2"
    if code := cli.main(["curves", *(str(panel.out) for panel in todo), "--out", str(figures)]):
        return code
    assert isinstance(run, Run)
    hours = predicted_hours(pd.concat([read(panel.out) for panel in todo]), run)
    text = f"{full_size(own, rest)}\n{as_text(hours)}"
    (figures / "full-size.txt").write_text(text + "\n")
    print(f"\n{text}")
    return cli.COMPLETE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

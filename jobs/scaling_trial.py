"""Measure how certification scales: with actors, and with the dimension of the images.

python jobs/scaling_trial.py --out FOLDER --data-root FOLDER --cifar-parquet FOLDER

Images per hour against actors; seconds per image of each method against dimension, beside what
rates of this machine and counted work predict; and from these the cost of the whole CIFAR-10 test
set. See jobs/README.md.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
import tyro
from scaling import actors, figure
from scaling.measure import Bench, Found
from scaling.options import Trial, check
from scaling.sources import Source
from scaling.tables import (
    actors_table,
    dimension_table,
    fitted,
    memory_table,
    prediction,
    records,
)

from rddrs_dist import cli
from rddrs_dist.results.files import replace_json
from rddrs_dist.run.costs import TERMS, Rates, seconds
from rddrs_dist.run.scheduler import NoActorError


def source_of_prediction(trial: Trial, told: dict[str, Any] | None) -> str:
    """What the prediction rests on, in a sentence."""
    if told is not None:
        return f"work counted here, rates of {told.get('name', trial.device_rates)} as given"
    if trial.cuda:
        return f"measured on {torch.cuda.get_device_name()}"
    return (
        f"CPU cores of this machine, {trial.cpus_per_actor} to a worker; no GPU figure is "
        "predicted without rates: give --device-rates, or run where torch finds a GPU"
    )


def device_rates(trial: Trial) -> dict[str, Any] | None:
    """The rates in the file that was given; an unusable one is refused before any work.

    Raises:
        ValueError: If it is no JSON, or not the rates that are wanted.
    """
    if trial.device_rates is None:
        return None
    try:
        told = json.loads(trial.device_rates.read_text())
        Rates.of_device(told)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{trial.device_rates} has no device rates ({error})") from error
    return told


def show(title: str, table: pd.DataFrame | dict[str, float]) -> None:
    """Prints a table."""
    print(f"\n{title}")
    if isinstance(table, dict):
        lines = [f"{name:28s} {value:.3g}" for name, value in table.items()]
        print("\n".join(lines), flush=True)
    elif len(table):
        print(table.to_string(index=False, float_format=lambda x: f"{x:,.4g}"), flush=True)
    else:
        print("(none)", flush=True)


def trial_of(trial: Trial) -> int:
    """Does the trial and writes what it found."""
    check(trial)
    told = device_rates(trial)
    trial.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(trial.cpus_per_actor)
    names = dict.fromkeys([*trial.datasets, *([trial.scaled] * (trial.scaled != "none"))])
    blocks, found = [], []
    for name in names:
        source = Source.load(trial, name)
        if name == trial.scaled:
            blocks = actors.measure(trial, source)
        if name in trial.datasets:
            found += _dimension(trial, source)
    _report(trial, actors_table(blocks) if blocks else pd.DataFrame(), found, told)
    return cli.COMPLETE


def _dimension(trial: Trial, source: Source) -> list[Found]:
    """All methods on one data set."""
    bench, found = Bench(trial, source), []
    for name in trial.methods:
        one = bench.found(getattr(trial.settings, name))
        guess = sum(seconds(one.cost, one.rates).values())
        print(f"{source.name} {name}: {one.seconds:.4g} s, predicted {guess:.4g} s", flush=True)
        found.append(one)
    return found


def _report(
    trial: Trial, blocks: pd.DataFrame, found: Sequence[Found], told: dict[str, Any] | None
) -> None:
    """Prints and writes tables and figure."""
    table = dimension_table(found)
    hours, basis = prediction(trial, found, told), source_of_prediction(trial, told)
    held = memory_table(trial, "cuda" if told is not None or trial.cuda else "cpu")
    short = ["dataset", "dimension", "method", "steps", "seconds", "predicted", *TERMS]
    show("images per hour against actors", blocks)
    show("seconds per image against dimension", table.loc[:, short])
    factors = fitted(table)
    show("what would fit best", factors)
    show(f"CIFAR-10 test set, hours: {basis}", hours)
    show("CIFAR-10, MiB of one worker with full covariances, by images in a shard", held)
    written = figure.write(blocks, table, trial.out)
    tables = {"scaling": table, "scaling-actors": blocks, "scaling-prediction": hours}
    for name, rows in (tables | {"scaling-memory": held}).items():
        written.append(trial.out / f"{name}.csv")
        rows.to_csv(written[-1], index=False, lineterminator="\n")
    rates = {one.dataset: asdict(one.rates) for one in found}
    everything = {
        "torch": torch.__version__,
        "trial": json.loads(json.dumps(asdict(trial), default=str)),
        "actors": records(blocks),
        "dimension": records(table),
        "rates": rates,
        "fit": factors,
        "prediction": {"basis": basis, "hours": records(hours), "memory_mib": records(held)},
    }
    replace_json(trial.out / "scaling.json", everything)
    print("\nwrote " + ", ".join(str(path) for path in [*written, trial.out / "scaling.json"]))


def main(flags: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    try:
        return trial_of(tyro.cli(Trial, prog="scaling_trial.py", args=flags))
    except (ValueError, OSError) as error:
        if os.environ.get("RDDRS_DEBUG"):
            raise
        return _complain(error, cli.WRONG)
    except NoActorError as error:
        return _complain(error, cli.NO_ACTORS)


def _complain(error: Exception, code: int) -> int:
    """Prints one line of error and passes an exit code on."""
    print("rddrs: error: " + " ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

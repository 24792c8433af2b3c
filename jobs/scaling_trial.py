"""Measure how certification scales: with actors, and with the dimension of the images.

    python jobs/scaling_trial.py --out FOLDER --data-root FOLDER --cifar-parquet FOLDER

Images per hour against the number of actors; seconds per image of each method on the 8x8 digits,
MNIST and CIFAR-10; and, from the seconds on CIFAR-10, the hours of its test set. See
jobs/README.md.
"""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure

from rddrs_dist import (
    DDRS,
    METHODS,
    RDDRS,
    Ancer,
    Budget,
    Context,
    Fit,
    IsotropicNoise,
    Method,
    Region,
    Streams,
    certify,
    checkpoints,
    cli,
    data,
)
from rddrs_dist.analysis import plots
from rddrs_dist.region import Floats
from rddrs_dist.run import driver
from rddrs_dist.run.events import read_events
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.options import Run, Settings, settings_of
from rddrs_dist.run.worker import Worker
from rddrs_dist.train import train_new

Name = Literal["digits", "mnist", "cifar10"]
NAMES = {"digits": "Digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
CIFAR_IMAGES = 10_000
_GRID: dict[Any, Any] = {"axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4"}
_REPEATS = 5  # times that a short measurement is made
_TRIED = 20  # test images among which those of the dimension trial are looked for


@dataclass(frozen=True)
class Checkpoints:
    """Trained networks; a network is trained for each data set that has none here."""

    digits: Path | None = None
    mnist: Path | None = None
    cifar10: Path | None = None


@dataclass(frozen=True)
class Trial:
    """Measure images per hour against actors and seconds per image against dimension."""

    out: Path  # folder for tables, figure and trained networks; made if missing
    datasets: tuple[Name, ...] = ("digits", "mnist", "cifar10")  # of the dimension trial
    methods: tuple[str, ...] = ("rs", "ddrs", "ancer", "rddrs_tr")  # methods of both trials
    actors: tuple[int, ...] = (1, 2)  # numbers of actors to compare, in turn within each round
    rounds: int = 3  # rounds of the actor trial
    scaled: Name | Literal["none"] = "mnist"  # data set of the actor trial; none: no trial
    images: int = 3  # images per actor when there are most, which every number of actors does
    cpus_per_actor: int = 1  # cores, and torch threads, of each actor and of the dimension trial
    gpus_per_actor: float = 0.0  # of each actor; above 0 the dimension trial runs on a GPU too
    address: str | None = None  # Ray cluster to join; by default a local one is started
    start_timeout: float = 120.0  # seconds to wait for actors before giving up
    data_root: Path | None = None  # folder of the data; RDDRS_DATA is read where this is not given
    cifar_parquet: Path | None = None  # CIFAR-10 as Parquet files, in place of torchvision's
    sigma: float = 0.25  # standard deviation of the noise, in pixel units
    train_images: int = 5000  # training images of a network that is trained here
    epochs: int = 3  # passes over them
    samples: int = 2000  # gradient samples per image from which DDRS and ANCER are extrapolated
    n: int = 100_000  # samples of a certificate to which seconds are extrapolated
    n_measured: int = 2000  # samples of a certificate that is measured
    seconds: float = 3.0  # a measurement is repeated, up to five times, until it has taken so long
    batch: int = 1  # images that the dimension trial does together: many on a GPU
    checkpoints: Checkpoints = field(default_factory=Checkpoints)  # trained networks
    settings: Annotated[Settings, tyro.conf.arg(name="")] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=Settings
    )

    def method(self, name: str) -> Method:
        """The method of that name with its hyper-parameters."""
        return Run(settings=self.settings).method(name)

    def run(self, name: str, checkpoint: Path, out: Path, actors: int = 1) -> Run:
        """What `rddrs certify` does in the actor trial: short fits of one image to a shard."""
        dataset, folder = self.place(name)
        # Of all methods: ANCER and RDDRS start from DDRS, which may not be among those chosen.
        short = [shortened(self.method(one), self.samples)[0] for one in METHODS]
        return Run(
            dataset=dataset,
            data_root=folder,
            checkpoint=checkpoint,
            out=out,
            sigma=self.sigma,
            methods=self.methods,
            indices=f"0:{self.images * max(self.actors)}",
            n=self.n_measured,
            shard_size=1,
            execution=Execution(
                actors=actors,
                cpus_per_actor=self.cpus_per_actor,
                gpus_per_actor=self.gpus_per_actor,
                address=self.address,
                start_timeout=self.start_timeout,
                resume=True,  # the folder is there
            ),
            settings=settings_of(*short),
        )

    def place(self, name: str) -> tuple[str, Path | None]:
        """Name and folder from which a data set is read."""
        if name == "cifar10" and self.cifar_parquet is not None:
            return "parquet", self.cifar_parquet
        return name, self.data_root

    def check(self) -> None:
        """Refuses what cannot be meant, with a ValueError in one line."""
        if not self.actors or min(self.actors) < 1 or len(set(self.actors)) < len(self.actors):
            raise ValueError(f"--actors must be different numbers from 1 on, got {self.actors}")
        if self.rounds < 1 or self.images < 2:
            raise ValueError(
                "--rounds must be at least 1 and --images at least 2, got "
                f"{self.rounds} and {self.images}"
            )
        self.run("digits", Path(), self.out).check()
        # In a job the address of the cluster is in the environment, and the folder is temporary.
        if os.environ.get("RAY_ADDRESS") and not self.out.is_absolute():
            raise ValueError(f"--out of a job must be an absolute path, got {self.out}")


def network(trial: Trial, name: str) -> Path:
    """The checkpoint that is given, that an earlier trial trained, or that is trained now.

    What is trained here is trained for speed alone: seconds hardly depend on how good it is.
    """
    given, sigma = getattr(trial.checkpoints, name), trial.sigma
    path = given or trial.out / f"{name}-{sigma:g}.safetensors"
    if given is not None or path.exists():
        return path
    dataset, folder = trial.place(name)
    whole, count = data.load(dataset, "train", folder), trial.train_images
    some = replace(whole, images=whole.images[:count], labels=whole.labels[:count])
    architecture = "lenet" if some.event_shape[0] == 1 else "resnet20"
    print(f"training {architecture} on {len(some)} images", flush=True)
    model = train_new(architecture, some, sigma=sigma, epochs=trial.epochs)
    facts = {"event_shape": some.event_shape, "classes": some.classes, "sigma": sigma}
    checkpoints.save(path, model, architecture=architecture, **facts)
    return path


def shortened(method: Method, samples: int) -> tuple[Method, float, int]:
    """Cuts DDRS and ANCER to so many gradient samples, RDDRS to one step; leaves others whole.

    Returns a few steps of a single candidate; how often these make all steps of all candidates;
    and samples that go forward to compare the candidates.
    """
    match method:
        case DDRS():
            steps = min(method.steps, max(1, round(samples / method.samples)))
            short = replace(method, steps=steps, candidate_every=steps)
            candidates, factor = -(-method.steps // method.candidate_every), method.steps / steps
        case Ancer():
            steps = min(method.steps, max(1, round(samples / method.samples)))
            short = replace(method, steps=steps, learning_rates=method.learning_rates[:1])
            candidates = len(method.learning_rates)
            factor = candidates * method.steps / steps
        case RDDRS():
            short = replace(method, steps=1, step_lengths=method.step_lengths[:1])
            candidates = len(method.step_lengths)
            factor = candidates * method.steps
        case _:
            return method, 1.0, 0
    return short, factor, candidates * method.compare_samples * (candidates > 1)


def actor_trial(trial: Trial, checkpoint: Path) -> pd.DataFrame:
    """Runs of `rddrs certify`, each number of actors in turn within each round.

    A row says round, actors, images_per_hour and efficiency, the rate per actor over that of the
    fewest actors in the same round.
    """
    rows = []
    for number, actors in itertools.product(range(trial.rounds), trial.actors):
        rate = _rate(trial, checkpoint, actors)
        done = f"round {number + 1}/{trial.rounds}"
        print(f"{done}: {actors} actors, {rate:,.0f} images/h", flush=True)
        rows.append({"round": number, "actors": actors, "images_per_hour": rate})
    table = pd.DataFrame(rows)
    each = table["images_per_hour"] / table["actors"]
    fewest = each.where(table["actors"] == min(trial.actors)).groupby(table["round"])
    return table.assign(efficiency=each / fewest.transform("max"))


def _rate(trial: Trial, checkpoint: Path, actors: int) -> float:
    """Images per hour of one run."""
    with tempfile.TemporaryDirectory() as out:
        driver.certify(trial.run(trial.scaled, checkpoint, Path(out), actors))
        calls = read_events(Path(out)).to_pandas()
    if wrong := sorted(set(calls["outcome"]) - {"done"}):
        raise ValueError(f"calls were {', '.join(wrong)}: their seconds say nothing, try again")
    ends = calls["ended"].to_numpy()
    return 3600 * steady_rate(ends - calls["seconds"].to_numpy(), ends, actors)


def steady_rate(begins: Floats, ends: Floats, actors: int) -> float:
    """Images per second while all actors are at work, each of them past its first call.

    An actor's first call loads libraries and fills caches. A call of one image, from begins to
    ends, (N,), that reaches beyond the time in which all are at work counts by its share.
    """
    running = (begins <= begins[:, None]) & (ends > begins[:, None])  # (N, N), at each begin
    full = np.flatnonzero(running.sum(1) >= actors)
    full = full[begins[full].argsort()]
    start = ends[running[full[0]]].max() if len(full) else np.inf
    stop = ends[running[full[-1]]].min() if len(full) else -np.inf  # one finds no image left
    if not stop > start:
        raise ValueError(
            f"{len(begins)} images leave no time in which all of {actors} actors are at work and "
            "past their first: give more --images"
        )
    inside = np.minimum(ends, stop) - np.maximum(begins, start)
    return float((inside.clip(0) / (ends - begins)).sum() / (stop - start))


class Bench:
    """A worker and a few images of a data set, with which methods are measured."""

    def __init__(self, trial: Trial, name: str, checkpoint: Path) -> None:
        """Reads them as a run does: the first images that RS does not abstain on.

        Abstentions are not compared with training images, which would be measured as fast.
        """
        self.trial, self.name = trial, name
        inputs = driver.read_inputs(trial.run(name, checkpoint, trial.out))
        self.worker = Worker(*inputs.work)
        self.smoothed, batch = self.worker.smoothed, trial.batch
        images = torch.from_numpy(inputs.images.images[: max(_TRIED, 2 * batch)])
        images = images.to(self.worker.device)
        fit = Fit.of(IsotropicNoise.constant(trial.sigma, images))
        streams = Streams.of(0, range(len(images)))
        region = certify(self.smoothed, images, fit, Budget(n=200), streams).region
        self.indices = np.flatnonzero(region.radius > 0)[:batch].tolist()
        self.images = images[self.indices]
        if len(self.indices) < batch:
            raise ValueError(
                f"RS certifies {len(self.indices)} of the first {len(images)} images of {name}, "
                f"wanted {batch}: give a checkpoint or more --epochs"
            )

    def measured(self, method: Method) -> dict[str, Any]:
        """One row of the table: seconds per image, by phase, of a method at its settings.

        Samples that compare candidates of a fit take as long as those of a certificate.
        """
        trial, (short, factor, compared) = self.trial, shortened(method, self.trial.samples)
        budget, streams = Budget(n=trial.n_measured), Streams.of(0, self.indices)
        device, neighbours = self.worker.device, self.worker.neighbours
        context = Context(
            trial.sigma,
            streams,
            sigma_star=IsotropicNoise.constant(2 * trial.sigma, self.images),  # as DDRS finds it
            neighbours=neighbours,
            batching=self.smoothed.batching,
        )
        fitting, fit = self._timed(lambda: short.fit(self.smoothed.model, self.images, context))
        sampling, certificate = self._timed(
            lambda: certify(self.smoothed, self.images, fit, budget, streams)
        )
        sizing, region = self._timed(lambda: _sized(certificate.region))
        looking, _ = self._timed(lambda: neighbours and neighbours.inside(region))
        each = sampling / (budget.n + budget.n0)
        phases = {
            "fit_seconds": factor * fitting + each * compared,
            "sample_seconds": each * (trial.n + budget.n0),
            "sizes_seconds": sizing,
            "neighbours_seconds": looking,
        }
        total, threads = sum(phases.values()), torch.get_num_threads()
        cpu = f"{threads} CPU thread{'s' * (threads > 1)}"
        return {
            "dataset": self.name,
            "dimension": region.dimension,
            "method": method.name,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
            "steps": float(fit.steps.mean()),
            "seconds": total,
            **phases,
            "cifar10_hours": CIFAR_IMAGES * total / 3600 if self.name == "cifar10" else None,
        }

    def _timed(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Median seconds per image of a few calls, and what the last one returned."""
        times: list[float] = []
        found = None
        while len(times) < _REPEATS and sum(times) < self.trial.seconds:
            start = time.perf_counter()
            found = call()
            if self.worker.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return float(np.median(times)) / len(self.images), found


def _sized(region: Region) -> Region:
    """The same region, with the sizes of a row computed afresh."""
    again = replace(region, noise=replace(region.noise))
    _ = again.l2_radius, again.proxy_radius, again.max_axis
    return again


def draw(blocks: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    """Draws efficiency against actors, see `actor_trial`, and seconds against dimension."""
    with matplotlib.rc_context({**plots.RC, **_GRID}):
        figure = Figure(figsize=(8.2, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.set(xlabel="Actors", ylabel="Rate per actor, relative to the fewest")
        if len(blocks):
            medians = blocks.groupby("actors")["efficiency"].median()
            left.axhline(1, color="grey", linestyle="--", linewidth=0.8)
            left.plot(medians.index, medians.to_numpy(), color="black", label="median")
            left.plot(blocks["actors"], blocks["efficiency"], "k.", label="one round")
            left.set_xticks(medians.index)
            left.set_ylim(0, 1.12 * max(1.0, *blocks["efficiency"]))
            left.legend(loc="lower left")
        right.set(xlabel="Dimension $d$ of an image", ylabel="Seconds per image")
        right.set(xscale="log", yscale="log")
        for name, rows in table.sort_values("dimension").groupby("method", sort=False):
            method = METHODS[str(name)]
            own = {"color": method.colour, "linestyle": method.dashes, "label": method.label}
            right.plot(rows["dimension"], rows["seconds"], marker="o", markersize=4.5, **own)
        sizes = dict(zip(table["dimension"], table["dataset"], strict=True))
        right.set_xticks(list(sizes), [f"{d:,}\n{NAMES[name]}" for d, name in sizes.items()])
        right.minorticks_off()
        right.legend(title=f"one worker on {table['device'].iloc[0]}")
        figure.savefig(path, dpi=200, metadata={"Software": None})


def measure(trial: Trial) -> int:
    """Does the trial and writes what it found."""
    trial.check()
    trial.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(trial.cpus_per_actor)
    names = dict.fromkeys((*trial.datasets, trial.scaled))
    networks = {name: network(trial, name) for name in names if name != "none"}
    blocks, rows = pd.DataFrame(), []
    if trial.scaled != "none":
        blocks = actor_trial(trial, networks[trial.scaled])
    for name in trial.datasets:
        bench = Bench(trial, name, networks[name])
        for method in trial.methods:
            rows.append(bench.measured(trial.method(method)))
            print(f"{name} {method}: {rows[-1]['seconds']:.4g} s per image", flush=True)
    table = pd.DataFrame(rows)
    for found in filter(len, (blocks, table)):
        print(f"\n{found.to_string(index=False)}")
    draw(blocks, table, trial.out / "scaling.png")
    for name, found in {"scaling": table, "scaling-actors": blocks}.items():
        found.to_csv(trial.out / f"{name}.csv", index=False, lineterminator="\n")
    print(f"\nwrote scaling.png, scaling.csv and scaling-actors.csv in {trial.out}")
    return cli.COMPLETE


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    return cli.guarded(lambda: measure(cli.parsed(Trial, "scaling_trial.py", flags)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

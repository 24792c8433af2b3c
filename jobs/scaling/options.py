"""What the scaling trial can be told."""

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import torch
from tyro.conf import arg

from rddrs_dist.methods import METHODS
from rddrs_dist.run.counting import shortened
from rddrs_dist.run.options import Run, Settings

DATASETS = ("digits", "mnist", "cifar10")


@dataclass(frozen=True)
class Checkpoints:
    """Trained networks; one is trained for a data set that has none here.

    Attributes:
        digits: For the 8x8 digits.
        mnist: For MNIST.
        cifar10: For CIFAR-10.
    """

    digits: Path | None = None
    mnist: Path | None = None
    cifar10: Path | None = None


@dataclass(frozen=True)
class Trial:
    """Measure images per hour against actors and seconds per image against dimension.

    Attributes:
        out: Folder for tables, figure and trained networks; made if missing.
        datasets: Data sets of the dimension trial: digits, mnist, cifar10.
        methods: Methods of both trials.
        actors: Numbers of actors to compare, in turn within each round.
        rounds: Rounds of the actor trial.
        scaled: Data set of the actor trial; none leaves that trial out.
        images: Images that each actor does in a round, the first of them to warm up.
        cpus_per_actor: CPU cores, and torch threads, of each actor and of the dimension trial.
        gpus_per_actor: GPUs of each actor.
        address: Ray cluster to join; by default a local one is started.
        start_timeout: Seconds to wait for actors before giving up.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        cifar_parquet: Folder of CIFAR-10 in the hub layout, in place of that of torchvision.
        download: Download data sets that are not there.
        sigma: Standard deviation of the noise, in pixel units.
        train_images: Training images of a network that is trained here.
        epochs: Passes over them.
        samples: Gradient samples per image after which DDRS and ANCER are extrapolated to their
            settings; RDDRS is extrapolated from one step.
        n: Samples of a certificate to which times are extrapolated.
        n_measured: Samples of a certificate that is measured.
        seconds: A measurement is repeated, up to five times, until it has taken so long.
        device: Where the dimension trial runs; by default cuda where torch finds it.
        batch: Images of the dimension trial that are done together; a GPU wants as many as its
            memory holds.
        device_rates: JSON file with a GPU's rates, for a prediction without that GPU; see
            jobs/README.md.
        devices: Numbers of GPUs, or of CPU cores, to predict the whole CIFAR-10 test set for.
        checkpoints: Trained networks.
        settings: Hyper-parameters of each method.
    """

    out: Path
    datasets: tuple[str, ...] = DATASETS
    methods: tuple[str, ...] = ("rs", "ddrs", "ancer", "rddrs_tr")
    actors: tuple[int, ...] = (1, 2)
    rounds: int = 3
    scaled: str = "mnist"
    images: int = 3
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0
    address: str | None = None
    start_timeout: float = 120.0
    data_root: Path | None = None
    cifar_parquet: Path | None = None
    download: bool = False
    sigma: float = 0.25
    train_images: int = 5000
    epochs: int = 3
    samples: int = 2000
    n: int = 100_000
    n_measured: int = 2000
    seconds: float = 3.0
    device: str | None = None
    batch: int = 1
    device_rates: Path | None = None
    devices: tuple[int, ...] = (1, 8)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    settings: Annotated[Settings, arg(name="")] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=Settings
    )

    @property
    def cuda(self) -> bool:
        """Whether the dimension trial runs on a GPU."""
        return (self.device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cuda"

    @property
    def short(self) -> Settings:  # pyright: ignore[reportInvalidTypeForm]
        """The settings, cut down as `costs.shortened` does."""
        own = {
            name: shortened(getattr(self.settings, name), self.samples).method for name in METHODS
        }
        return replace(self.settings, **own)

    def run(self, actors: int) -> Run:
        """The run of the actor trial with so many actors."""
        return Run(
            dataset=self.scaled,
            out=self.out,
            sigma=self.sigma,
            methods=self.methods,
            n=self.n_measured,
            shard_size=1,
            actors=actors,
            cpus_per_actor=self.cpus_per_actor,
            gpus_per_actor=self.gpus_per_actor,
            address=self.address,
            start_timeout=self.start_timeout,
            settings=self.short,
        )


def check(trial: Trial) -> None:
    """Refuses what cannot be meant.

    Raises:
        ValueError: In one line.
    """
    known = ", ".join(DATASETS)
    for name in (*trial.datasets, *((trial.scaled,) if trial.scaled != "none" else ())):
        if name not in DATASETS:
            raise ValueError(f"unknown dataset {name!r}: choose from {known}")
    if not trial.datasets:
        raise ValueError(f"--datasets must name at least one of {known}")
    for name in ("actors", "devices"):
        numbers = getattr(trial, name)
        if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
            raise ValueError(f"--{name} must be different numbers of at least 1, got {numbers}")
    least = {"rounds": 1, "images": 2, "train_images": 1, "epochs": 1, "samples": 1, "batch": 1}
    for name, value in least.items():
        if getattr(trial, name) < value:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be at least {value}, got {getattr(trial, name)}")
    if trial.device not in (None, "cpu", "cuda"):
        raise ValueError(f"--device must be cpu or cuda, got {trial.device!r}")
    # In a job the address of the cluster is in the environment, and the folder is temporary.
    if os.environ.get("RAY_ADDRESS") and not trial.out.is_absolute():
        raise ValueError(f"--out of a job must be an absolute path, got {trial.out}")
    for given in fields(trial.checkpoints):
        path = getattr(trial.checkpoints, given.name)
        if path is not None and not path.is_file():
            raise ValueError(f"no checkpoint file {path}: name an existing one or leave it out")
    _ = trial.run(1)

"""Configuration of a run, its presets and its identity."""

import hashlib
import json
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from rddrs_dist import __version__
from rddrs_dist.certify import Budget
from rddrs_dist.methods import DDRS, METHODS, RDDRS, Ancer, Method
from rddrs_dist.results.columns import canonical_json
from rddrs_dist.run.shards import Limits
from rddrs_dist.smoothing.precision import Precision, checked

# One field per method, named after it: the command line and the identity follow from METHODS.
Settings = make_dataclass(
    "Settings",
    [(name, method, field(default=method())) for name, method in METHODS.items()],
    frozen=True,
)


@dataclass(frozen=True)
class Run:
    """Certify images of a data set with several methods, on local Ray actors or a cluster.

    Attributes:
        dataset: Data set: digits, mnist, cifar10 or parquet.
        checkpoint: Trained network: a file written by `rddrs train`, or a state dict of a LeNet.
        out: Folder for the results; made if missing.
        sigma: Standard deviation of the noise, in pixel units; by default the one in the
            checkpoint.
        methods: Methods to run, in this order.
        indices: Test images: start:stop:step, single numbers, or several of these with commas; by
            default all.
        n0: Samples per image that select the class.
        n: Samples per image that estimate its probability.
        alpha: Probability with which a certificate may be wrong.
        looks: How often the count is looked at, after n / 2^(looks - 1), ..., n / 2, n samples,
            each time at level alpha / looks; an image stops where more samples would not help. The
            guarantee is the same, the samples are fewer.
        tolerance: An image stops at a look where its radius falls short of what all n samples are
            expected to give by at most this share; no bound on what is lost.
        levels: The classifier that is certified is the network on pixels rounded to multiples of
            1 / levels (255 for images of eight bits), which no rounding error of x + S z can
            change. Fits see the network as it is.
        precision: In which the convolutions of the certified network multiply on a GPU: float32,
            or tf32, which keeps 11 bits of each factor and takes half the time. Fits use the
            latter. CPUs have float32 alone.
        seed: Seed of all random streams.
        shard_size: Images per unit of work. On a CPU a small number keeps all actors busy to the
            end; a GPU wants as many as its memory holds.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        download: Download the data set if it is not there.
        resume: Continue the run in `out`.
        actors: Worker processes, each with its own copy of the network.
        cpus_per_actor: CPU cores, and torch threads, of each actor.
        gpus_per_actor: GPUs of each actor; a fraction lets actors share one.
        memory: GiB of memory that the samples and states in one launch may take on each actor; by
            default four fifths of what is free on its GPU, and no bound on a CPU, whose launches
            are small. Images that do not share a launch for it only take longer.
        address: Ray cluster to join ("auto" finds a running one); by default a local one is
            started.
        start_timeout: Seconds to wait for the first actor before giving up.
        fit_seconds: Seconds per image and method after which a fit returns what it has; by default
            none. What it has then depends on the machine, so rows are no longer reproducible.
        image_seconds: Seconds per image, all methods together, after which its actor is killed and
            the image tried again elsewhere; by default none.
        max_attempts: Times that a shard may fail or be late before its images are tried alone, and
            an image before it gets the noise of RS.
        max_losses: Actors that may be lost over a shard, likewise.
        save_scales: Store the scale of every certified noise beside the rows, as `rddrs soundness`
            and `rddrs verify` want it: for a full covariance 2 d^2 bytes per image (1.2 MB on
            MNIST).
        settings: Hyper-parameters of each method.
    """

    dataset: Literal["digits", "mnist", "cifar10", "parquet"] | str = "digits"
    checkpoint: Path | None = None
    out: Path | None = None
    sigma: float | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    indices: str | None = None
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    looks: int = 1
    tolerance: float = 0.05
    levels: int | None = None
    precision: Precision = "float32"
    seed: int = 0
    shard_size: int = 4
    data_root: Path | None = None
    download: bool = False
    resume: bool = False
    actors: int = 2
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0
    memory: float | None = None
    address: str | None = None
    start_timeout: float = 120.0
    fit_seconds: float | None = None
    image_seconds: float | None = None
    max_attempts: int = 3
    max_losses: int = 3
    save_scales: bool = False
    settings: Annotated[Settings, arg(name="")] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=Settings
    )

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"--methods must name each method once, got {list(self.methods)}")
        if self.sigma is not None and not 0 < self.sigma < float("inf"):
            raise ValueError(f"--sigma must be positive and finite, got {self.sigma}")
        counts = ("actors", "shard_size", "cpus_per_actor", "max_attempts", "max_losses", "levels")
        for name in counts:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if self.gpus_per_actor < 0 or self.start_timeout <= 0 or self.seed < 0:
            raise ValueError(
                "--gpus-per-actor and --seed must not be negative and --start-timeout must be "
                f"positive, got {self.gpus_per_actor}, {self.seed} and {self.start_timeout}"
            )
        if checked(self.precision, "--precision") == "tf32" and not self.gpus_per_actor:
            raise ValueError(
                "--precision tf32 wants GPUs, got --gpus-per-actor 0: leave it out on CPUs"
            )
        for name in ("fit_seconds", "image_seconds", "memory"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")
        _ = self.budget

    @property
    def limits(self) -> Limits:
        """When to stop trying."""
        late = float("inf") if self.image_seconds is None else self.image_seconds
        return Limits(self.start_timeout, late, self.max_attempts, self.max_losses)

    @property
    def budget(self) -> Budget:
        """Samples and confidence."""
        return Budget(self.n0, self.n, self.alpha, self.looks, self.tolerance)

    def method(self, name: str) -> Method:
        """The method of that name with its hyper-parameters."""
        return getattr(self.settings, name)

    @property
    def fitted(self) -> tuple[Method, ...]:
        """The methods of the run, DDRS in front if it or its sigma_star is wanted."""
        chosen = [self.method(name) for name in self.methods if name != DDRS.name]
        needs_ddrs = DDRS.name in self.methods or any(m.from_sigma_star for m in chosen)
        return (self.method(DDRS.name),) * needs_ddrs + tuple(chosen)

    def identity(
        self, sigma: float, images: int, data: str, training: str | None, weights: str
    ) -> dict[str, Any]:
        """What decides the rows, as plain JSON values; nothing about who computes them.

        Args:
            sigma: Standard deviation of the noise.
            images: Images in the data set.
            data: Its sha256.
            training: The sha256 of its training images, if it has any.
            weights: The checkpoint's sha256.
        """
        return {
            "code_version": __version__,
            "dataset": self.dataset,
            "data_sha256": data,
            "training_sha256": training,
            "weights_sha256": weights,
            "sigma": sigma,
            "methods": list(self.methods),
            "settings": {m.name: _plain(vars(m)) for m in self.fitted},
            "indices": self.indices or f"0:{images}",
            "n0": self.n0,
            "n": self.n,
            "alpha": self.alpha,
            "looks": self.looks,
            "tolerance": self.tolerance,
            "levels": self.levels,
            "precision": self.precision,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "device": "cuda" if self.gpus_per_actor > 0 else "cpu",
            "threads": self.cpus_per_actor,
            "fit_seconds": self.fit_seconds,
        }


def _plain(value: Any) -> Any:
    """A value as JSON has it, so that it compares equal after a round trip."""
    return json.loads(json.dumps(value))


def run_id(identity: dict[str, Any]) -> str:
    """Hash of the canonical JSON of a run's identity."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Soundness:
    """Shrink certified regions until no two of different predictions overlap.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        rule: narrow: regions become narrower toward those they overlap with; order-free: they
            shrink by the smallest factor of their pairs; in-order: they shrink until they leave
            the images before them alone, as in the DDRS paper.
        actors: Blocks of pairs that are worked on at once.
        cpus_per_actor: CPU cores, and torch threads, of each.
        address: Ray cluster to join; by default a local one is started.
    """

    dir: Positional[Path]
    data_root: Path | None = None
    rule: Literal["narrow", "order-free", "in-order"] = "narrow"
    actors: int = 2
    cpus_per_actor: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        for name in ("actors", "cpus_per_actor"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Training:
    """Train a network with Gaussian noise on its images.

    Attributes:
        dataset: Data set: digits, mnist, cifar10 or parquet.
        out: Checkpoint to write, a .safetensors file.
        sigma: Standard deviation of the noise added to each batch, in pixel units.
        architecture: lenet, lenet-caffe or resnet20; by default lenet for grey images and
            resnet20 for coloured ones.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Step length of Adam.
        seed: Seed of the weights, the order and the noise.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        download: Download the data set if it is not there.
        device: Where to train: cpu or cuda.
    """

    dataset: Literal["digits", "mnist", "cifar10", "parquet"] | str = "digits"
    out: Path | None = None
    sigma: float = 0.25
    architecture: str | None = None
    epochs: int = 10
    batch_size: int = 100
    learning_rate: float = 1e-3
    seed: int = 0
    data_root: Path | None = None
    download: bool = False
    device: str = "cpu"


_QUICK = Path("runs/quickstart")

TRAINING_PRESETS: dict[str, Training] = {
    "quickstart": Training(out=_QUICK / "lenet-0.25.safetensors", epochs=40),
    "paper-mnist": Training(dataset="mnist", out=Path("runs/paper-mnist/lenet-0.25.safetensors")),
}

PRESETS: dict[str, Run] = {
    "quickstart": Run(
        checkpoint=_QUICK / "lenet-0.25.safetensors",
        out=_QUICK / "certify",
        indices="0:240:6",
        n=10_000,
        save_scales=True,
        settings=Settings(
            ddrs=DDRS(steps=300, candidate_every=100, learning_rate=1e-3),
            ancer=Ancer(learning_rates=(0.04,)),
            # Growth goes with gamma / d: the papers' steps, made for d = 784, explode at d = 64.
            rddrs=RDDRS(step_lengths=(0.25,), steps=50, gradient_samples=1000),
        ),
    ),
    "paper-mnist": Run(
        dataset="mnist",
        checkpoint=Path("runs/paper-mnist/lenet-0.25.safetensors"),
        out=Path("runs/paper-mnist/certify"),
    ),
}

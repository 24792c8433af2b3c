"""What a user asks for on the command line, and presets of it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from rddrs_dist.certify import Budget
from rddrs_dist.data import DATASETS
from rddrs_dist.families import FAMILIES
from rddrs_dist.methods import DDRS, METHODS, RDDRS, URS, Aim, Ancer, Method
from rddrs_dist.run.experiment import Execution, check_shared, flag
from rddrs_dist.smoothing.precision import Precision


def _unchecked(method: type[Method], names: Collection[str] = ()) -> type:
    """A dataclass with the fields of a method, or some of them, and none of its checks.

    The command line is parsed into these, and methods are made of them afterwards: what a method
    then refuses is an error of ours, which no parser has wrapped.
    """
    own = [one for one in fields(method) if not names or one.name in names]  # pyright: ignore[reportArgumentType]
    named = [(one.name, one.type, field(default=one.default)) for one in own]
    made = make_dataclass(method.__name__, named, frozen=True)
    made.__doc__ = method.__doc__
    return made


_UNCHECKED = {name: _unchecked(method) for name, method in METHODS.items()}
# What a training may name.
_CHANGES = _unchecked(Aim, [one.name for one in FAMILIES])
# One field per method, named after it: the command line follows from METHODS.
Settings = make_dataclass(
    "Settings",
    [(name, own, field(default=own())) for name, own in _UNCHECKED.items()],
    frozen=True,
)


def settings_of(*methods: Method) -> Any:
    """Settings with the hyper-parameters of some methods; those of the others are the defaults."""
    return Settings(**{one.name: _UNCHECKED[one.name](**vars(one)) for one in methods})


@contextmanager
def naming_flags(*names: str) -> Iterator[None]:
    """For a block whose errors begin with the name of a field: they begin with its flag then."""
    try:
        yield
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise ValueError(f"{flag(name)} {rest}" if name in names else str(error)) from error


@dataclass(frozen=True)
class Run:
    """Certify images of a data set with several methods, on local Ray actors or a cluster.

    Attributes:
        dataset: Data set: DATASETS.
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
        sequential_tests: Tests of the count in a group-sequential test, after n / 2^(k - 1), ...,
            n / 2, n samples for k tests, each time at level alpha / k; an image stops where more
            samples would not help. The guarantee is the same, the samples are fewer.
        tolerance: An image stops at a test where its radius falls short of what all n samples are
            expected to give by at most this share; no bound on what is lost.
        quantisation: The classifier that is certified is the network on pixels rounded to
            multiples of 1 / quantisation (255 for images of eight bits), which no rounding error
            of x + S z can change. Fits see the network as it is.
        precision: In which the convolutions of the certified network multiply on a GPU: float32,
            or tf32, which keeps 11 bits of each factor and takes half the time. Fits use the
            latter. CPUs have float32 alone.
        seed: Seed of all random streams.
        shard_size: Images per unit of work. On a CPU a small number keeps all actors busy to the
            end; a GPU wants as many as its memory holds.
        fit_seconds: Seconds per image and method after which a fit returns what it has; by default
            none. What it has then depends on the machine, so rows are no longer reproducible.
        sight_samples: Samples that measure the blindness of each certified row, one at each of as
            many random training images with another label; 0: blindness and data radii are not
            measured.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        download: Download the data set if it is not there.
        execution: Who computes, with what, and when to give up.
        settings: Hyper-parameters of each method.
    """

    dataset: str = "digits"
    checkpoint: Path | None = None
    out: Path | None = None
    sigma: float | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    indices: str | None = None
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    sequential_tests: int = 1
    tolerance: float = 0.05
    quantisation: int | None = None
    precision: Precision = "float32"
    seed: int = 0
    shard_size: int = 4
    fit_seconds: float | None = None
    sight_samples: int = 2000
    data_root: Path | None = None
    download: bool = False
    execution: Annotated[Execution, arg(name="")] = field(default_factory=Execution)
    settings: Annotated[Settings, arg(name="")] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=Settings
    )

    def check(self) -> None:
        """Refuses what cannot be run, as a ValueError in one line that names the flag."""
        for name in ("checkpoint", "out"):
            if getattr(self, name) is None:
                raise ValueError(f"{flag(name)} is required")
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            known, given = ", ".join(METHODS), " ".join(self.methods) or "none"
            raise ValueError(
                f"--methods must name each method once, got {given}: choose from {known}"
            )
        check_shared(self)
        self.execution.check()
        if self.precision == "tf32" and not self.execution.gpus_per_actor:
            raise ValueError(
                "--precision tf32 wants GPUs, got --gpus-per-actor 0: leave it out on CPUs"
            )
        _ = self.budget, [self.method(name) for name in METHODS]

    @property
    def budget(self) -> Budget:
        """Samples and confidence."""
        own = (self.n0, self.n, self.alpha, self.sequential_tests, self.tolerance)
        with naming_flags(*(one.name for one in fields(Budget))):
            return Budget(*own)

    def method(self, name: str) -> Method:
        """The method of that name with its hyper-parameters.

        Raises:
            ValueError: If one of them cannot be.
        """
        settings = vars(getattr(self.settings, name))
        with naming_flags(*(f"{name}.{field}" for field in settings)):
            return METHODS[name](**settings)


@dataclass(frozen=True)
class Training:
    """Train a network with Gaussian noise on its images.

    With --universal the noise of urs, one for all images, is fitted to it afterwards, and the
    network trained under that, several times; the checkpoint then holds the last noise too.

    Attributes:
        dataset: Data set: DATASETS.
        out: Checkpoint to write, a .safetensors file.
        sigma: Standard deviation of the noise added to each batch, in pixel units.
        architecture: lenet, lenet-caffe or resnet20; by default lenet for grey images and
            resnet20 for coloured ones.
        epochs: Passes over the training images.
        universal: How often a noise for all images is fitted and trained under; 0: never.
        universal_epochs: Passes over the training images under each of these noises.
        batch_size: Images per step.
        learning_rate: Step length of Adam.
        seed: Seed of the weights, the order and the noise.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        download: Download the data set if it is not there.
        device: Where to train: cpu or cuda.
        urs: How such a noise is fitted.
        aim: Changes of images, where some are named: noise along a random multiple of them is
            added to that of sigma.
    """

    dataset: str = "digits"
    out: Path | None = None
    sigma: float = 0.25
    architecture: str | None = None
    epochs: int = 10
    universal: int = 0
    universal_epochs: int = 3
    batch_size: int = 100
    learning_rate: float = 1e-3
    seed: int = 0
    data_root: Path | None = None
    download: bool = False
    device: str = "cpu"
    urs: _UNCHECKED[URS.name] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=_UNCHECKED[URS.name]
    )
    aim: _CHANGES = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=_CHANGES
    )

    def check(self) -> None:
        """Refuses what cannot be, as a ValueError in one line."""
        if self.universal < 0 or self.universal_epochs < 1:
            raise ValueError(
                "--universal must not be negative and --universal-epochs be at least 1, got "
                f"{self.universal} and {self.universal_epochs}"
            )
        if self.universal and not self.sigma:
            raise ValueError("--universal starts from the noise of --sigma, got --sigma 0")
        _ = self.universal_method, self.changes

    @property
    def changes(self) -> Aim | None:
        """What names changes of images; None where none is named."""
        with naming_flags(*(f"aim.{one}" for one in vars(self.aim))):
            made = Aim(**vars(self.aim))
        return made if any(getattr(made, one.name) for one in FAMILIES) else None

    @property
    def universal_method(self) -> URS:
        """The method that fits the noise of all images."""
        return URS(**vars(self.urs))


for _options in (Run, Training):
    _options.__doc__ = str(_options.__doc__).replace("DATASETS", ", ".join(DATASETS))

_QUICK = Path("runs/quickstart")

TRAINING_PRESETS: dict[str, Training] = {
    "quickstart": Training(
        out=_QUICK / "lenet-0.25.safetensors",
        epochs=40,
        universal=2,
        universal_epochs=10,
        urs=settings_of(URS(samples=500)).urs,
    ),
    "paper-mnist": Training(dataset="mnist", out=Path("runs/paper-mnist/lenet-0.25.safetensors")),
}

PRESETS: dict[str, Run] = {
    "quickstart": Run(
        checkpoint=_QUICK / "lenet-0.25.safetensors",
        out=_QUICK / "certify",
        indices="0:240:6",
        n=10_000,
        execution=Execution(save_scales=True),
        settings=settings_of(
            DDRS(steps=300, candidate_every=100, learning_rate=1e-3),
            Ancer(learning_rates=(0.04,)),
            # Growth goes with gamma / d: the papers' steps, made for d = 784, explode at d = 64.
            RDDRS(step_lengths=(0.25,), steps=50, gradient_samples=1000),
            Aim(rotation=10.0, shift=0.5),
        ),
    ),
    "paper-mnist": Run(
        dataset="mnist",
        checkpoint=Path("runs/paper-mnist/lenet-0.25.safetensors"),
        out=Path("runs/paper-mnist/certify"),
    ),
}

"""What decides the rows of a run, and who computes them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from rddrs_dist.certify import Budget
from rddrs_dist.methods import DDRS, METHODS, Method
from rddrs_dist.results.columns import canonical_json
from rddrs_dist.smoothing.precision import Precision, checked
from rddrs_dist.version import __version__

_BUDGET = tuple(field.name for field in fields(Budget))
# Fields whose JSON is not simply their value.
_APART = ("methods", "start", "budget")


@dataclass(frozen=True)
class Experiment:
    """What decides the rows; its hash is the identity of a run, and it is what a worker gets.

    Attributes:
        training_sha256: Hash of the training images; None where the data set has none.
        sigma: Standard deviation of the base noise, in pixels.
        methods: Methods whose rows are wanted, in this order.
        start: DDRS, from which others start.
        indices: Test images, as on the command line.
        shard_size: Images per unit of work, which are computed together.
        quantisation: See `Smoothed`.
        precision: See `Smoothed`.
        device: cpu or cuda.
        threads: Torch threads of a worker.
        fit_seconds: Seconds per image and method after which a fit returns what it has.
        sight_samples: Samples that measure the blindness of a row; 0 where sight is not measured.

    Raises:
        ValueError: If a value is not one that it may have.

    Example:
        >>> from rddrs_dist import RS, DDRS, Budget
        >>> from rddrs_dist.run.experiment import Experiment
        >>> one = Experiment("digits", "d", None, "w", 0.25, (RS(),), DDRS(), "0:10", Budget())
        >>> Experiment.from_json(one.as_json()) == one
        True
    """

    dataset: str
    data_sha256: str
    training_sha256: str | None
    weights_sha256: str
    sigma: float
    methods: tuple[Method, ...]
    start: DDRS
    indices: str
    budget: Budget
    seed: int = 0
    shard_size: int = 4
    quantisation: int | None = None
    precision: Precision = "float32"
    device: str = "cpu"
    threads: int = 1
    fit_seconds: float | None = None
    sight_samples: int = 2000
    code_version: str = __version__

    def __post_init__(self) -> None:
        check_shared(self)

    @property
    def fitted(self) -> tuple[Method, ...]:
        """The methods, with the start in front where it is one of them or wanted by one."""
        others = tuple(one for one in self.methods if one.name != self.start.name)
        wanted = len(others) < len(self.methods) or any(one.from_sigma_star for one in others)
        return (self.start,) * wanted + others

    @property
    def universal(self) -> Method | None:
        """The method whose noise is the same for all images, if it is one of them."""
        return next((method for method in self.methods if method.universal), None)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values, which compare equal after a round trip."""
        plain = {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in _APART
        }
        plain |= {name: getattr(self.budget, name) for name in _BUDGET}
        plain["methods"] = [method.name for method in self.methods]
        plain["settings"] = {method.name: vars(method) for method in self.fitted}
        return json.loads(json.dumps(plain))

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "Experiment":
        """The experiment that `as_json` has written.

        Raises:
            ValueError: If it was written by another version, which knew other fields, or a value
                is not one that it may have.
        """
        version, settings = config.get("code_version"), config.get("settings", {})
        try:
            known = {name: _method(name, own) for name, own in settings.items()}
            made = cls(
                methods=tuple(known[name] for name in config["methods"]),
                start=known.get(DDRS.name, DDRS()),  # pyright: ignore[reportArgumentType]
                budget=Budget(**{name: config[name] for name in _BUDGET}),
                **{one.name: config[one.name] for one in fields(cls) if one.name not in _APART},
            )
            if unknown := config.keys() - made.as_json().keys():
                raise TypeError(f"unknown {', '.join(sorted(unknown))}")
            return made
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the configuration of a run must be one of version {__version__}, got one of "
                f"{version} ({type(error).__name__}: {error}): use that version of rddrs_dist, or "
                "certify again"
            ) from error

    @property
    def run_id(self) -> str:
        """Hash of its canonical JSON."""
        return hashlib.sha256(canonical_json(self.as_json()).encode()).hexdigest()[:16]


def _method(name: str, settings: Mapping[str, Any]) -> Method:
    """A method from its hyper-parameters in JSON."""
    own = {key: tuple(one) if isinstance(one, list) else one for key, one in settings.items()}
    return METHODS[name](**own)


@dataclass(frozen=True)
class Execution:
    """Who computes, with what, and when to give up; no row depends on it.

    Attributes:
        executor: ray: worker processes on this machine or a cluster; local: this process, one
            shard after another, without Ray, so that a debugger reaches a fit.
        actors: Worker processes, each with its own copy of the network; by default 2, and 1 with
            --executor local.
        cpus_per_actor: CPU cores, and torch threads, of each actor.
        gpus_per_actor: GPUs of each actor; a fraction lets actors share one.
        memory: GiB of memory that the samples and states in one launch may take on each actor; by
            default four fifths of what is free on its GPU, and no bound on a CPU, whose launches
            are small. Images that do not share a launch for it only take longer.
        address: Ray cluster to join ("auto" finds a running one); by default a local one is
            started.
        start_timeout: Seconds to wait for the first actor before giving up.
        image_seconds: Seconds per image, all methods together, after which its actor is killed and
            the image tried again elsewhere; by default none.
        max_attempts: Times that a shard may fail or be late before its images are tried alone, and
            an image before it gets the noise of RS.
        max_losses: Actors that may be lost over a shard, likewise.
        save_scales: Store the scale of every certified noise beside the rows, as `rddrs disjoint`
            and `rddrs verify` want it: for a full covariance 2 d^2 bytes per image (1.2 MB on
            MNIST).
        resume: Continue the run in `out`.
    """

    executor: Literal["ray", "local"] = "ray"
    actors: int | None = None
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0
    memory: float | None = None
    address: str | None = None
    start_timeout: float = 120.0
    image_seconds: float | None = None
    max_attempts: int = 3
    max_losses: int = 3
    save_scales: bool = False
    resume: bool = False

    @property
    def workers(self) -> int:
        """How many actors are wanted."""
        return self.actors or {"ray": 2, "local": 1}[self.executor]

    def check(self) -> None:
        """Refuses values that cannot be, as a ValueError in one line that names the flag."""
        at_least_one(self, "actors", "cpus_per_actor", "max_attempts", "max_losses")
        positive(self, "memory", "start_timeout", "image_seconds")
        if self.gpus_per_actor < 0:
            raise ValueError(f"--gpus-per-actor must not be negative, got {self.gpus_per_actor}")
        if self.executor == "local":
            self._check_local()

    def _check_local(self) -> None:
        """Refuses what wants other processes."""
        elsewhere = {
            "--address": self.address,
            "--image-seconds": self.image_seconds,
            "--actors": self.actors if self.workers > 1 else None,
        }
        for flag, value in elsewhere.items():
            if value is not None:
                raise ValueError(
                    f"--executor local computes in this one process and cannot do {flag} {value}: "
                    f"leave {flag} out, or use --executor ray"
                )
        if self.gpus_per_actor not in (0, 1):
            raise ValueError(
                "--executor local has one GPU, for itself, got --gpus-per-actor "
                f"{self.gpus_per_actor:g}: give 1"
            )
        if self.gpus_per_actor and not torch.cuda.is_available():
            raise ValueError(
                f"--gpus-per-actor {self.gpus_per_actor:g} wants a GPU and torch finds none here: "
                "leave it out, or install torch with CUDA"
            )


def flag(name: str) -> str:
    """A field as the command line calls it."""
    return "--" + name.replace("_", "-")


def at_least_one(options: Any, *names: str) -> None:
    """Refuses counts below 1 among fields that may be None."""
    for name in names:
        if (value := getattr(options, name)) is not None and value < 1:
            raise ValueError(f"{flag(name)} must be at least 1, got {value}")


def positive(options: Any, *names: str) -> None:
    """Refuses numbers among fields that may be None that are not positive and finite."""
    for name in names:
        if (value := getattr(options, name)) is not None and not 0 < value < float("inf"):
            raise ValueError(f"{flag(name)} must be positive and finite, got {value}")


def not_negative(options: Any, *names: str) -> None:
    """Refuses numbers below 0."""
    for name in names:
        if (value := getattr(options, name)) < 0:
            raise ValueError(f"{flag(name)} must not be negative, got {value}")


def check_shared(options: Any) -> None:
    """Refuses values that neither a Run nor an Experiment may have."""
    at_least_one(options, "shard_size", "quantisation")
    positive(options, "sigma", "fit_seconds")
    not_negative(options, "seed", "sight_samples")
    checked(options.precision)

"""What a method is: hyper-parameters, and a fit that returns a noise and never grades itself."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import IsotropicNoise, Noise
from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.batching import UNBOUNDED, Batching
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower


class Status(Enum):
    """How a fit ended."""

    CLOSED_FORM = "there was nothing to optimise"
    CONVERGED = "another step would gain nothing that can be seen"
    MAX_STEPS = "the last planned step was taken"
    DEADLINE = "time ran out; the noise reached by then was kept"
    NONFINITE = "a step was not finite; the last finite noise was kept"
    BLIND = "no noise that was tried leaves the classifier its sight"
    FALLBACK = "no fit came back, however often it was tried; this is the noise of RS"


class MethodError(ValueError):
    """A mistake in a method, which fitting again cannot mend: it ends a run at once."""


@dataclass(frozen=True)
class Context:
    """What a fit needs besides the network and the images.

    Attributes:
        sigma: The standard deviation the network was trained with.
        streams: Random streams of the images.
        deadline: Value of `time.monotonic()` at which a fit returns what it has.
        sigma_star: DDRS noise of the images, from which ANCER and RDDRS start.
        neighbours: Training images that regions ought not to hold if their label is another; None
            where there are none.
        batching: How many images share a launch.
        universal: The noise that all images share, of one image; see `Method.prepare`.
        n: Samples of the certificate that follows.
        alpha: Its error probability.
    """

    sigma: float
    streams: Streams
    deadline: float = float("inf")
    sigma_star: IsotropicNoise | None = None
    neighbours: Neighbours | None = None
    batching: Batching = UNBOUNDED
    universal: Noise | None = None
    n: int = 100_000
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise ValueError(f"sigma must be positive and finite, got {self.sigma}")

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        """The context of a part of the images."""
        start = None if self.sigma_star is None else self.sigma_star[rows]
        return replace(self, streams=self.streams[rows], sigma_star=start)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline

    def start(self) -> IsotropicNoise:
        """The DDRS noise to start from.

        Raises:
            ValueError: If there is none.
        """
        if self.sigma_star is None:
            raise ValueError(
                "this method starts from the DDRS noise and the context has none: use fit_all, "
                "which fits DDRS first, or pass replace(context, sigma_star=fit.noise) of DDRS()"
            )
        return self.sigma_star


@dataclass(frozen=True, eq=False)
class Fit:
    """The outcome of a fit: what `certify` takes.

    Attributes:
        noise: The noise chosen for each of B images.
        status: B of them, how each image's fit ended.
        steps: (B,) int64, steps taken; of the candidate that was chosen where there are several.
        objective: (B,) float64, the method's own objective at the last step; NaN if it has none.
        limit: (B,) float64, the largest radius that a region of this noise is to have, however
            large a one the network supports; inf where there is none.

    Raises:
        MethodError: If something is not of as many images as the noise, or there is no limit.
        ValueError: If a limit is not positive.
    """

    noise: Noise
    status: Sequence[Status]
    steps: NDArray[np.int64]
    objective: NDArray[np.float64] = field(repr=False)
    limit: NDArray[np.float64] = field(default=None, repr=False)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        count = len(self.noise)
        if not isinstance(self.limit, np.ndarray):
            raise MethodError(
                f"limit of a fit must be an array of {count} radii, got {self.limit}: inf stands "
                "for no limit, and Fit.of(noise) is a fit without limits"
            )
        sizes = [len(one) for one in (self.status, self.steps, self.objective, self.limit)]
        if set(sizes) != {count}:
            raise MethodError(
                f"status, steps, objective and limit of a fit must be of its {count} images each, "
                f"got {', '.join(map(str, sizes))}"
            )
        if not (self.limit > 0).all():  # NaN is none either
            raise ValueError(
                f"limits of a fit must be positive, got {self.limit}: inf stands for no limit"
            )

    @classmethod
    def of(cls, noise: Noise, status: Status = Status.CLOSED_FORM) -> Self:
        """The fit of a noise that nothing was optimised for, without limits."""
        count = len(noise)
        steps, objective = np.zeros(count, np.int64), np.full(count, math.nan)
        return cls(noise, [status] * count, steps, objective, np.full(count, math.inf))

    def __getitem__(self, rows: slice) -> "Fit":
        """The fit of a part of the images."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})


class Method(ABC):
    """A way to choose the noise of each image, without ever seeing a label.

    A method is a frozen dataclass: its fields are its hyper-parameters, its configuration and its
    command line. One file and one entry of `METHODS` add a method.

    Attributes:
        name: As in rows, flags and `METHODS`.
        label: As in figures and tables.
        paper: Where it was published.
        colour: Of its lines, as matplotlib takes it.
        dashes: Of its lines, likewise, so that they can be told apart without colours.
        from_sigma_star: Whether it starts from the noise of DDRS; `fit_all` fits that first.
        universal: Whether all images share its noise, which `prepare` fits once per run.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    paper: ClassVar[str]
    colour: ClassVar[str]
    dashes: ClassVar[Any]
    from_sigma_star: ClassVar[bool] = False
    universal: ClassVar[bool] = False

    def prepare(self, model: nn.Module, context: Context) -> Noise:
        """Fits the noise that all images share, that of one image, to training images.

        Args:
            model: As of `fit`.
            context: sigma, streams of one index and, as its neighbours, training images.

        Raises:
            NotImplementedError: If each image has a noise of its own.
        """
        raise NotImplementedError(f"{self.name} has no noise that all images share")

    def taken(self, stored: Noise | None) -> Noise | None:
        """The noise that a checkpoint holds for all images, or None if another is to be fitted.

        Raises:
            ValueError: If it is not of the structure that is asked for.
        """
        return stored

    @abstractmethod
    def _samples(self) -> int:
        """Samples per image in one launch, which decides how many images share one."""

    def _state(self, dimension: int) -> int:
        """Bytes per image that a fit holds beside samples."""
        return 8 * dimension

    @abstractmethod
    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        """Fits images that share launches."""

    def fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        """Chooses the noise of each image.

        Args:
            model: Maps (N, *event) to logits (N, K); differentiable in its input, in evaluation
                mode.
            images: (B, *event).
            context: sigma, streams and, for the methods that need it, sigma_star.

        Raises:
            ValueError: If the context lacks what the method starts from.
        """
        state = self._state(images[0].numel())
        groups = context.batching.batches(images, self._samples(), state).groups(len(images))
        with multiplying("tf32", images.device):  # what fits find is graded by certificates
            fits = [self._fit(model, images[rows], context[rows]) for rows in groups]
        return concatenate(fits)


def concatenate(fits: Sequence[Fit]) -> Fit:
    """One fit of all the images of several fits of one method."""
    noises = [fit.noise for fit in fits]
    return Fit(
        type(noises[0]).concatenate(noises),
        [status for fit in fits for status in fit.status],
        np.concatenate([fit.steps for fit in fits]),
        np.concatenate([fit.objective for fit in fits]),
        np.concatenate([fit.limit for fit in fits]),
    )


def best_of(
    model: nn.Module, images: Tensor, candidates: Sequence[Fit], context: Context, n: int
) -> Fit:
    """The candidate with the largest proxy radius of each image, from n samples of each.

    All candidates see the same samples, and none of these is used again for certification. A tie
    goes to the earlier candidate.
    """
    if len(candidates) == 1:
        return candidates[0]
    scores, streams, batching = [], context.streams, context.batching
    for noise in (fit.noise for fit in candidates):
        counts = class_counts(model, images, noise, n, streams, Stage.COMPARE, batching=batching)
        p_lower = clopper_pearson_lower(counts.amax(1).cpu().numpy(), n, alpha=0.001)
        scores.append(normal_quantile_lower(p_lower) * noise.mean_axis.cpu().numpy())
    best = np.argmax(scores, axis=0)
    rows = [slice(i, i + 1) for i in range(len(images))]
    return concatenate([candidates[k][row] for k, row in zip(best, rows, strict=True)])

"""The regions of a point: fitted, certified by sampling, and checked in closed form."""

import math
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tyro.conf import arg

from rddrs_dist import ABSTAIN, Certificate, Context, Fit, Neighbours, Streams, certify, fit_all
from rddrs_dist.methods import Method
from rddrs_dist.run.experiment import positive
from rddrs_dist.run.options import Run, Settings
from rddrs_dist.smoothing import Stage

from .exact import Floats, decision_region, disc, ellipse_area, exact_radius, probability
from .problem import Problem, rotation

DRAWN = ("ddrs", "ancer", "rddrs", "rddrs_tr")
RIGHT_ANGLE = 90.0
_ROUND = 1e-4  # an ellipse whose axes differ by less, as a share, has no direction


@dataclass(frozen=True)
class Options:
    """Draw figure 1: regions in the plane, and certified area as data and network turn.

    Attributes:
        out: Folder for figure and table; made if missing.
        angles: Angles from 0 to 90 degrees, equally spaced, at least 3.
        sigma: Standard deviation of the noise of training, and the start of DDRS; the data lie in
            the unit square.
        n0: Samples per region that select the class.
        n: Samples per region that estimate its probability.
        alpha: Probability with which a certificate may be wrong.
        seed: Seed of the data, the network and all samples.
        settings: Hyper-parameters of each method.
    """

    out: Path
    angles: int = 19
    sigma: float = 0.04
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    seed: int = 0
    settings: Annotated[Settings, arg(name="")] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=Settings
    )

    @property
    def degrees(self) -> NDArray[np.float64]:
        """The angles."""
        return np.linspace(0, RIGHT_ANGLE, self.angles)

    @property
    def run(self) -> Run:
        """The same as `rddrs certify` knows it."""
        return Run(n0=self.n0, n=self.n, alpha=self.alpha, settings=self.settings)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, DDRS first: two others start from its noise."""
        return tuple(self.run.method(name) for name in DRAWN)

    def check(self) -> None:
        """Refuses what cannot be meant, with a ValueError in one line."""
        if self.angles < 3:
            raise ValueError(f"--angles must be at least 3, got {self.angles}")
        positive(self, "sigma")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, got {self.seed}")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out must be a folder, got the file {self.out}")
        _ = self.run.budget, self.methods


@dataclass(frozen=True)
class TurnedStreams(Streams):
    """The samples of `Streams`, turned by degrees: with them a computation turns as a whole."""

    degrees: float = 0.0

    def normal(self, stage: Stage, step: int, block: int, n: int, images: Tensor) -> Tensor:
        """Standard normal samples; see Streams.normal."""
        plain = super().normal(stage, step, block, n, images)
        return plain @ plain.new_tensor(rotation(self.degrees)).mT


def rows(
    problem: Problem, options: Options, angle: float, streams: Streams
) -> list[dict[str, Any]]:
    """The regions of all methods, a row each, data and network turned by an angle in degrees."""
    turned, found = problem.turned(angle), []
    known = Neighbours(turned.points, turned.labels)
    context = Context(problem.sigma, streams, neighbours=known)
    decided = cache(partial(decision_region, turned.network))
    for method, fit in fit_all(options.methods, turned.network, turned.test, context):
        sampled = certify(turned.network, turned.test, fit, options.run.budget, streams)
        answer = int(sampled.region.prediction[0])
        edges = decided(turned.prediction if answer == ABSTAIN else answer)
        found.append({"angle": angle, "method": method.name, **_checked(edges, fit, sampled)})
    return found


def _checked(edges: Floats, fit: Fit, sampled: Certificate) -> dict[str, Any]:
    """A certified region beside the exact one of the same noise and limit.

    Args:
        edges: Where the certified class wins; the network's own class for an abstention.
        fit: The noise, S, and its limit.
        sampled: The certificate.

    Returns:
        prediction, the class that the region is certified for, or ABSTAIN; certified_area, a lower
        bound, and exact_area, of the region of the same noise at the exact probability; p_lower
        and p_exact, the probability of the class in closed form; radius and exact_radius, Phi^-1
        of the two, or the limit of the fit where that is less; min_axis and max_axis; orientation
        of the larger axis; points of a grid that fills the certified region, smallest_p, the
        smallest exact probability at one of them, and changed, how many have 1/2 at most;
        fit_status and fit_steps; s_xx, s_xy, s_yx and s_yy, S row by row.
    """
    region, scale = sampled.region, fit.noise.matrix()[0].numpy()
    centre, radius = region.centre[0].double().numpy(), float(region.radius[0])
    share = probability(edges, centre + disc(radius) @ scale.T, scale)
    p = float(share[0])  # the centre comes first
    exact = min(exact_radius(p), float(fit.limit[0]))
    share = share[: len(share) if radius > 0 else 0]
    return {
        "prediction": int(region.prediction[0]),
        "certified_area": math.pi * float(region.proxy_radius[0]) ** 2,
        "exact_area": ellipse_area(scale, exact),
        "p_lower": float(sampled.p_lower[0]),
        "p_exact": p,
        "radius": radius,
        "exact_radius": exact,
        "min_axis": float(region.min_axis[0]),
        "max_axis": float(region.max_axis[0]),
        "orientation": orientation(scale),
        "smallest_p": float(share.min(initial=1)),
        "points": len(share),
        "changed": int((share <= 0.5).sum()),
        "fit_status": fit.status[0].name.lower(),
        "fit_steps": int(fit.steps[0]),
        **dict(zip(("s_xx", "s_xy", "s_yx", "s_yy"), scale.ravel().tolist(), strict=True)),
    }


def orientation(scale: NDArray[np.float64]) -> float:
    """Direction of the longer axis of {S u : |u| < 1} in degrees, in [0, 180); NaN of a circle."""
    directions, axes, _ = np.linalg.svd(scale)
    if axes[0] <= axes[1] * (1 + _ROUND):
        return math.nan
    return math.degrees(math.atan2(directions[1, 0], directions[0, 0])) % 180

"""The regions of a point: fitted, certified by sampling, and checked in closed form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from rddrs_dist import ABSTAIN, Certificate, Context, Fit, IsotropicNoise, Streams, certify
from rddrs_dist.smoothing import Stage

from .exact import DecisionRegion, disc, ellipse_area, exact_radius
from .options import Options
from .problem import Problem, rotation

_ROUND = 1e-4  # an ellipse whose axes differ by less, as a share, has no direction


@dataclass(frozen=True)
class TurnedStreams(Streams):
    """The samples of `Streams`, turned: with them a computation turns as a whole.

    Attributes:
        degrees: By how much.
    """

    degrees: float = 0.0

    def normal(self, stage: Stage, step: int, block: int, n: int, images: Tensor) -> Tensor:
        """Standard normal samples; see Streams.normal."""
        plain = super().normal(stage, step, block, n, images)
        return plain @ plain.new_tensor(rotation(self.degrees)).mT


@dataclass(frozen=True)
class Region:
    """A row of the table: one method at one angle.

    Attributes:
        angle: By which data and network are turned, in degrees.
        method: Its name.
        prediction: The class that the region is certified for, or ABSTAIN.
        certified_area: Area of the region that samples certify; a lower bound.
        exact_area: Area of the region of the same noise at the exact probability.
        p_lower: Lower confidence bound on the probability of the class.
        p_exact: The probability itself, in closed form; of the network's own class where the
            certificate abstains.
        radius: Phi^-1(p_lower), or the limit of the fit where that is less.
        exact_radius: The same of p_exact.
        min_axis: Smaller axis of the noise.
        max_axis: Larger axis of the noise.
        orientation: Direction of the larger axis in degrees, in [0, 180); NaN for a circle.
        smallest_p: Smallest probability of the class over a grid that fills the certified region.
        points: Points of that grid; none where the region is empty.
        changed: Those where it is at most 1/2, so that another class might win; 0 if all is well.
        fit_status: How the fit ended.
        fit_steps: Steps taken.
        s_xx: S, the scale of the noise, row by row.
        s_xy: See s_xx.
        s_yx: See s_xx.
        s_yy: See s_xx.
    """

    angle: float
    method: str
    prediction: int
    certified_area: float
    exact_area: float
    p_lower: float
    p_exact: float
    radius: float
    exact_radius: float
    min_axis: float
    max_axis: float
    orientation: float
    smallest_p: float
    points: int
    changed: int
    fit_status: str
    fit_steps: int
    s_xx: float
    s_xy: float
    s_yx: float
    s_yy: float


def regions(problem: Problem, options: Options, angle: float, streams: Streams) -> list[Region]:
    """The regions of all methods, data and network turned by an angle.

    Args:
        problem: As it is at no angle.
        options: Settings and budget.
        angle: In degrees.
        streams: Samples of the test point.
    """
    turned = problem.turned(angle)
    context = Context(problem.sigma, streams, neighbours=turned.reference)
    decided = cache(partial(DecisionRegion.of, turned.network))
    found = []
    for method in options.methods:
        fit = method.fit(turned.network, turned.test, context)
        if isinstance(fit.noise, IsotropicNoise):
            context = replace(context, sigma_star=fit.noise)
        sampled = certify(
            turned.network, turned.test, fit.noise, options.budget, streams, limit=fit.limit
        )
        answer = int(sampled.prediction[0])
        decision = decided(turned.prediction if answer == ABSTAIN else answer)
        found.append(_region(turned, decision, method.name, angle, fit, sampled))
    return found


def _region(
    problem: Problem,
    decision: DecisionRegion,
    name: str,
    angle: float,
    fit: Fit,
    sampled: Certificate,
) -> Region:
    """A certified region beside the exact one of the same noise and limit."""
    scale = fit.noise.matrix()[0].numpy()
    grid = problem.test[0].double().numpy() + disc(float(sampled.radius[0])) @ scale.T
    share = decision.probability(grid, scale)
    p = float(share[0])  # the centre comes first
    radius = min(exact_radius(p), float(fit.limit[0]))
    share = share[: len(share) if sampled.radius[0] > 0 else 0]
    return Region(
        angle=angle,
        method=name,
        prediction=int(sampled.prediction[0]),
        certified_area=math.pi * float(sampled.proxy_radius[0]) ** 2,
        exact_area=ellipse_area(scale, radius),
        p_lower=float(sampled.p_lower[0]),
        p_exact=p,
        radius=float(sampled.radius[0]),
        exact_radius=radius,
        min_axis=float(sampled.min_axis[0]),
        max_axis=float(sampled.max_axis[0]),
        orientation=orientation(scale),
        smallest_p=float(share.min(initial=1)),
        points=len(share),
        changed=int((share <= 0.5).sum()),
        fit_status=fit.status[0].name.lower(),
        fit_steps=int(fit.steps[0]),
        **dict(zip(("s_xx", "s_xy", "s_yx", "s_yy"), scale.ravel().tolist(), strict=True)),
    )


def orientation(scale: NDArray[np.float64]) -> float:
    """Direction of the longer axis of {S u : |u| < 1} in degrees, in [0, 180); NaN of a circle."""
    directions, axes, _ = np.linalg.svd(scale)
    if axes[0] <= axes[1] * (1 + _ROUND):
        return math.nan
    return math.degrees(math.atan2(directions[1, 0], directions[0, 0])) % 180


def table(found: Sequence[Region]) -> pd.DataFrame:
    """A row per region, in the order of the columns of `Region`."""
    names = [column.name for column in fields(Region)]
    return pd.DataFrame([vars(one) for one in found], columns=names)

"""Semi-axes of certified regions from the widest to the narrowest, and walks along some."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from torch import Tensor, linalg, nn

from rddrs_dist.analysis.lines import Line
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.noise import Noise
from rddrs_dist.report.charts import dashes, empty_figure
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.smoothing.sample import one_hot

_WALKED = 16  # axes of each region, evenly by the logarithm of their rank
_APART = 0.02  # decades of rank between the markers of two methods
MULTIPLES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SAMPLES = 100
_HALVINGS = 3  # of the last factor of two, which leave 9 %


@dataclass(frozen=True, eq=False)
class Axes:
    """Axes of a noise, the widest first.

    Attributes:
        lengths: (d,) float64, lower bounds of the standard deviations along them.
        directions: (d, d), unit vectors in rows; None for a ball, whose axes are any.
    """

    lengths: NDArray[np.float64]
    directions: NDArray[np.float64] | None

    def direction(self, rank: int) -> NDArray[np.float64]:
        """The unit vector of one axis, (d,); of a ball a random one, the same each time."""
        if self.directions is not None:
            return self.directions[rank]
        drawn = np.random.default_rng(rank).standard_normal(len(self.lengths))
        return drawn / np.linalg.norm(drawn)


def axes(noise: Noise) -> Axes:
    """The axes of the noise of one image."""
    lengths = noise.axes_below[0].flip(0).numpy()
    if not noise.is_diagonal:
        vectors = linalg.eigh(noise.covariance()[0]).eigenvectors
        return Axes(lengths, vectors.T.flip(0).numpy())
    variances = noise.variances()[0]
    if bool((variances == variances[0]).all()):
        return Axes(lengths, None)
    order = variances.argsort(descending=True)
    return Axes(lengths, torch.eye(len(order), dtype=torch.float64)[order].numpy())


@torch.no_grad()
def reach(model: nn.Module, image: Tensor, eps: Tensor, target: int, step: Tensor) -> float:
    """The largest multiple of a step, there and back, up to which the most frequent class stays.

    First `MULTIPLES` are tried, then halves of the interval in which the class changes, on a
    logarithmic scale. An estimate with the same few samples of noise at all points: a picture, not
    a certificate. A class that changes and comes back between two multiples is not seen.

    Args:
        model: Maps (N, *event) to logits.
        image: (1, *event).
        eps: (n, *event), samples of its noise.
        target: The class.
        step: (*event), a displacement.

    Returns:
        The multiple, the smaller of both directions; 0 where the class has changed at the first.
    """

    def stays(multiple: float) -> bool:
        return all(
            _wins(model(image + sign * multiple * step + eps), target) for sign in (1.0, -1.0)
        )

    changes = next((multiple for multiple in MULTIPLES if not stays(multiple)), None)
    if changes is None:
        return MULTIPLES[-1]
    held = changes / 2
    if changes == MULTIPLES[0]:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (held * changes) ** 0.5
        held, changes = (middle, changes) if stays(middle) else (held, middle)
    return held


def _wins(logits: Tensor, target: int) -> bool:
    """Whether a class is the most frequent answer."""
    votes = one_hot(logits).sum(0)
    return int(votes.argmax()) == target and int(votes[target]) > 0


def empty(d: int) -> go.Figure:
    """A figure for semi-axes of images of d elements, with the diameter of their domain."""
    figure = empty_figure(x="rank of the axis, widest first", y="semi-axis, pixels")
    figure.update_layout(hoverdistance=-1)  # ranks are far apart at the left
    diameter = math.sqrt(d)
    figure.update_xaxes(type="log", dtick=1, range=[-0.1, math.log10(d) + 0.1])
    figure.update_yaxes(type="log", dtick=1, range=[-2, math.log10(100 * diameter)])
    figure.add_hline(y=diameter, line={"width": 1, "dash": "dot", "color": "#888888"})
    figure.add_annotation(
        text="diameter of the pixel domain",
        x=1,
        xref="paper",
        xanchor="right",
        y=math.log10(diameter),
        yanchor="bottom",
        showarrow=False,
    )
    return figure


def traces(
    line: Line,
    row: Mapping[Any, Any],
    image: Tensor,
    eps: Tensor,
    found: Axes,
    model: nn.Module | None,
    aside: float = 0.0,
) -> list[go.Scatter]:
    """Semi-axes of the region of one method, and walks along some; nothing of an abstention.

    Args:
        line: That of the method.
        row: Its row of the image.
        image: (1, *event).
        eps: (n, *event), samples of its noise.
        found: The axes of that noise.
        model: The network; None where nothing is to be walked.
        aside: Places by which markers stand aside, so that those of no other method hide them.
    """
    if row["prediction"] == ABSTAIN:
        return []
    semi = row["radius"] * found.lengths
    common: dict[str, Any] = {"meta": {"method": line.method}}
    drawn = go.Scatter(
        x=np.arange(1, len(semi) + 1, dtype=np.int32),
        y=semi.astype(np.float32),
        customdata=[_four_digits(length) for length in semi],
        mode="lines",
        line={"width": 2, "dash": dashes(line)},
        hovertemplate=f"<b>{line.label}</b>, axis %{{x}}: certified to %{{customdata}}"
        "<extra></extra>",
        **common,
    )
    if model is None:
        return [drawn]
    ranks = np.unique(np.geomspace(1, len(semi), _WALKED).round().astype(int)) - 1
    steps = [torch.from_numpy(found.direction(k) * semi[k]).view(image.shape[1:]) for k in ranks]
    held = [reach(model, image, eps, row["prediction"], step.float()) for step in steps]
    # Of a ball every direction is an axis.
    places = [f"axis {k + 1}" if found.directions is not None else "at random" for k in ranks]
    told = map(_reached, held, semi[ranks])
    walks = go.Scatter(
        x=(ranks + 1) * 10 ** (_APART * aside),
        y=semi[ranks] * np.maximum(held, MULTIPLES[0]),
        customdata=[f"{place}: {text}" for place, text in zip(places, told, strict=True)],
        mode="markers",
        marker={"size": 8, "symbol": [_symbol(multiple) for multiple in held]},
        hovertemplate=f"<b>{line.label}</b>, %{{customdata}}<extra></extra>",
        **common,
    )
    return [drawn, walks]


def _four_digits(length: float) -> str:
    """A length with four significant digits, rounded down."""
    places = 3 - math.floor(math.log10(length)) if 0 < length < math.inf else 0
    return f"{floor_to(length, max(0, places)):.{max(0, places)}f}"


def _reached(multiple: float, length: float) -> str:
    """A walk in words; a length is that of the certified semi-axis."""
    if multiple == 0:
        return "the class has changed at the border"
    further = "and further" if multiple == MULTIPLES[-1] else "of the certified length"
    reached = _four_digits(multiple * length)
    return f"the class stays up to {floor_to(multiple, 2):g} times {further} ({reached})"


def _symbol(multiple: float) -> str:
    """Marker of a walk: an arrow where it never ended."""
    return {0.0: "x", MULTIPLES[-1]: "triangle-up"}.get(multiple, "circle")

"""Semi-axes of certified regions from the widest to the narrowest, and walks along some."""

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from rddrs_dist.report.charts import dashes, frame_of
from rddrs_dist.report.walk import MULTIPLES, Axes, reach
from rddrs_dist.results.schema import ABSTAIN
from rddrs_dist.results.styles import label, looks
from rddrs_dist.results.tables import floor_to

_WALKED = 5  # axes of each region, evenly by rank


def empty(d: int) -> go.Figure:
    """A figure for semi-axes of images of d elements, with the diameter of their domain."""
    figure = frame_of(x="rank of the axis, widest first", y="semi-axis, pixels")
    diameter = math.sqrt(d)
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


def lines(
    row: dict[str, Any], image: Tensor, eps: Tensor, found: Axes, model: nn.Module | None
) -> list[go.Scatter]:
    """Semi-axes of the region of one method, and walks along some.

    Args:
        row: Of the image and method.
        image: (1, *event).
        eps: (n, *event), samples of its noise.
        found: The axes of that noise.
        model: The network; None where nothing is to be walked.
    """
    if row["prediction"] == ABSTAIN:
        return []
    semi, name = row["radius"] * found.lengths, label(row["method"])
    line = go.Scatter(
        x=np.arange(1, len(semi) + 1, dtype=np.int32),
        y=semi.astype(np.float32),
        customdata=[_four_digits(length) for length in semi],
        mode="lines",
        line={"width": 2, "dash": dashes(looks({row["method"]: ""})[row["method"]])},
        meta={"method": row["method"]},
        hovertemplate=f"<b>{name}</b>, axis %{{x}}: certified to %{{customdata}}<extra></extra>",
    )
    return [line] if model is None else [line, _walks(row, image, eps, found, model)]


def _walks(
    row: dict[str, Any], image: Tensor, eps: Tensor, found: Axes, model: nn.Module
) -> go.Scatter:
    """How far the class stays along some axes, both ways."""
    d, name = len(found.lengths), label(row["method"])
    ranks = np.unique(np.linspace(0, d - 1, _WALKED).round().astype(int))
    held = []
    for rank in ranks:
        unit = found.direction(rank)
        step = torch.from_numpy(unit * found.lengths[rank] * row["radius"]).view(image.shape[1:])
        ways = [reach(model, image, eps, row["prediction"], w * step.float()) for w in (1, -1)]
        held.append(min(ways))
    semi = row["radius"] * found.lengths[ranks]
    return go.Scatter(
        x=ranks + 1,
        y=semi * np.maximum(held, MULTIPLES[0]),
        customdata=[
            _reached(multiple, length) for multiple, length in zip(held, semi, strict=True)
        ],
        mode="markers",
        marker={"size": 9, "symbol": [_symbol(multiple) for multiple in held]},
        meta={"method": row["method"]},
        hovertemplate=f"<b>{name}</b>, axis %{{x}}: %{{customdata}}<extra></extra>",
    )


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
    return f"the class stays up to {multiple:g} times {further} ({reached})"


def _symbol(multiple: float) -> str:
    """Marker of a walk: an arrow where it never ended."""
    return {0.0: "x", MULTIPLES[-1]: "triangle-up"}.get(multiple, "circle")

"""Semi-axes of certified regions from the widest to the narrowest, and walks along some."""

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from rddrs_dist.analysis.curves import METHOD_ORDER
from rddrs_dist.analysis.styles import label, looks
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.report.charts import dashes, frame_of
from rddrs_dist.report.walk import MULTIPLES, Axes, reach
from rddrs_dist.results.columns import ABSTAIN

_WALKED = 16  # axes of each region, evenly by the logarithm of their rank
_APART = 0.02  # decades of rank between the markers of two methods


def empty(d: int) -> go.Figure:
    """A figure for semi-axes of images of d elements, with the diameter of their domain."""
    figure = frame_of(x="rank of the axis, widest first", y="semi-axis, pixels")
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


def lines(
    row: dict[str, Any], image: Tensor, eps: Tensor, found: Axes, model: nn.Module | None
) -> list[go.Scatter]:
    """Semi-axes of the region of one method, and walks along some; nothing of an abstention.

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
    """How far the class stays along some axes."""
    d, name = len(found.lengths), label(row["method"])
    ranks = np.unique(np.geomspace(1, d, _WALKED).round().astype(int)) - 1
    held = []
    for rank in ranks:
        unit = found.direction(rank)
        step = torch.from_numpy(unit * found.lengths[rank] * row["radius"]).view(image.shape[1:])
        held.append(reach(model, image, eps, row["prediction"], step.float()))
    semi = row["radius"] * found.lengths[ranks]
    # Of a ball every direction is an axis.
    places = [f"axis {k + 1}" if found.directions is not None else "at random" for k in ranks]
    told = map(_reached, held, semi)
    return go.Scatter(
        x=(ranks + 1) * 10 ** _shift(row["method"]),
        y=semi * np.maximum(held, MULTIPLES[0]),
        customdata=[f"{place}: {text}" for place, text in zip(places, told, strict=True)],
        mode="markers",
        marker={"size": 8, "symbol": [_symbol(multiple) for multiple in held]},
        meta={"method": row["method"]},
        hovertemplate=f"<b>{name}</b>, %{{customdata}}<extra></extra>",
    )


def _shift(method: str) -> float:
    """Decades by which the markers of a method stand aside, so that none hides another."""
    known = METHOD_ORDER.index(method) if method in METHOD_ORDER else len(METHOD_ORDER)
    return _APART * (known - (len(METHOD_ORDER) - 1) / 2)


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

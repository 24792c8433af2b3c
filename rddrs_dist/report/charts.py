"""Interactive figures of a report: curves and histograms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from rddrs_dist.analysis.curves import Curve, axis_end, curves
from rddrs_dist.analysis.lines import Line, available, by_sigma, cube_of
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.analysis.tables import floor_to

_KNOTS = 500  # of a curve; fewer than in the CSV files, so that the page stays small
_DIGITS = 4  # of a radius
_BINS = 24  # of a histogram
_CLASSES = 20  # with a histogram of their own
_EXACT_32 = 2.0**23  # whole numbers below it print the same from single precision


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure and when it is shown.

    Attributes:
        title: What stands above it.
        figure: Its traces name their method in `meta`, and take its colour on the page.
        size: Name in `sizes.SIZES` that it is about; shown while that one is chosen.
    """

    title: str
    figure: go.Figure
    size: str | None = None


def dashes(line: Line, width: float = 2) -> str:
    """Dashes of a line, in pixels, as plotly takes them, for lines of a width."""
    if isinstance(line.dashes, str):
        return line.dashes
    return ",".join(f"{width * part:g}px" for part in line.dashes[1])


def empty_figure(x: str, y: str) -> go.Figure:
    """An empty figure whose colours come from the page."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        showlegend=False,
        margin={"l": 52, "r": 12, "t": 8, "b": 44},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(title={"text": x, "standoff": 8}, zeroline=False, automargin=True)
    figure.update_yaxes(title={"text": y, "standoff": 6}, zeroline=False)
    return figure


def curve_charts(lines: Sequence[Line]) -> list[Chart]:
    """Certified accuracy against radius: one chart per size and sigma."""
    cubes = {one.name: cube_of(lines) for one in SIZES.values() if one.of_volume}
    return [
        Chart(f"σ = {sigma:g}", _panel(drawn, size, cubes.get(size)), size)
        for size in available(lines)
        for sigma, panel in by_sigma(lines).items()
        if (drawn := curves(panel, size, knots=_KNOTS))
    ]


def _panel(panel: Sequence[Curve], size: str, cube: tuple[int, float] | None) -> go.Figure:
    """The curves of one sigma, with their bands. All that hover.js prints is floored."""
    figure = empty_figure(x=SIZES[size].axis, y="certified accuracy")
    figure.update_layout(hovermode=False, meta={"told": "curve"})
    for one in panel:
        line, images = one.line, len(one.line)
        radii, accuracy = floored(one.radii, _DIGITS), one.accuracy.astype(np.float32)
        border: dict[str, Any] = {"x": radii, "mode": "lines", "line_width": 0, "line_shape": "vh"}
        border["meta"] = {"method": line.method}
        figure.add_scatter(y=one.lower.astype(np.float32), **border)
        figure.add_scatter(y=accuracy, fill="tonexty", **border)
        counts = np.rint(one.accuracy * images)
        told = [counts, floored(100 * counts / images, 1), floored(100 * one.lower, 1)]
        figure.add_scatter(
            x=radii,
            y=accuracy,
            mode="lines",
            line={"width": 2, "shape": "vh", "dash": dashes(line)},
            customdata=np.stack(told, 1).astype(np.float32),
            meta={"method": line.method, "name": line.label, "images": images},
        )
    end = axis_end(panel)
    figure.update_xaxes(range=[0, 1.03 * end or 1], rangemode="nonnegative")
    if not end:
        here = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        figure.add_annotation(text="nothing certified", **here)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    if cube and cube[1] <= end:
        _mark_cube(figure, cube[1])
    return figure


def _mark_cube(figure: go.Figure, radius: float) -> None:
    """Draws where the ball has the volume of the pixel cube, with its name above the panel."""
    figure.update_layout(margin={"t": 22})
    figure.add_shape(
        type="line",
        **{"x0": radius, "x1": radius, "y0": 0, "y1": 1, "yref": "paper"},
        line={"width": 1, "color": "#888888"},
        # Part of the line, and so in its place on a logarithmic axis too.
        label={"text": "pixel cube", "textposition": "end", "textangle": 0, "yanchor": "bottom"},
    )


def floored(values: NDArray[np.float64], digits: int) -> NDArray[np.floating]:
    """Rounds down to a number of decimal digits, and keeps them in as few bytes as they need."""
    down = np.array([floor_to(value, digits) for value in values])
    return down.astype(np.float32) if down.max() * 10**digits < _EXACT_32 else down


def histogram_charts(lines: Sequence[Line]) -> list[Chart]:
    """Radii of the images of each class: one chart per size, sigma and class."""
    charts, panels = [], by_sigma(lines)
    for size, (sigma, panel) in product(available(lines), panels.items()):
        found = [(line, line.certified(size)) for line in panel]
        known = [(line, sizes) for line, sizes in found if sizes is not None]
        every = np.concatenate([[], *(sizes for _, sizes in known)])
        positive = every[np.isfinite(every) & (every > 0)]
        if not len(positive):
            continue
        bounds = np.histogram_bin_edges(np.log10(positive), _BINS)
        counts = pd.concat([line.rows["label"] for line, _ in known]).value_counts()
        for name in sorted(counts.head(_CLASSES).index):
            own = [(line, sizes[line.rows["label"] == name]) for line, sizes in known]
            title = f"class {name}" + (f", σ = {sigma:g}" if len(panels) > 1 else "")
            charts.append(Chart(title, _histogram(own, bounds), size))
    return charts


def _histogram(
    own: Sequence[tuple[Line, NDArray[np.float64]]], bounds: NDArray[np.float64]
) -> go.Figure:
    """Images per bin of each line, none certified at the left; bounds are base 10 logarithms."""
    bins = ["none", *(f"{10**a:.3g} to {10**b:.3g}" for a, b in pairwise(bounds))]
    figure, tallest = empty_figure(x="", y=""), 0
    figure.update_layout(hovermode=False, meta={"told": "histogram", "bins": bins})
    for line, sizes in own:  # as outlines, since filled bars would hide each other
        counts, _ = np.histogram(np.log10(sizes[sizes > 0]), bounds)
        # An empty bin at either end closes an outline.
        counts = np.array([0, np.sum(sizes <= 0), *counts, 0], np.int32)
        tallest = max(tallest, *counts)
        figure.add_scatter(
            x=np.arange(-2, len(counts) - 2, dtype=np.int32),
            y=counts,
            mode="lines",
            line={"width": 1.7, "shape": "hvh", "dash": dashes(line, 1)},
            meta={"method": line.method, "name": line.label},
        )
    places = range(_BINS // 4, len(bounds), _BINS // 4)
    figure.update_layout(margin={"l": 30, "r": 6, "t": 4, "b": 22})
    figure.update_xaxes(
        tickvals=[-1, *(place - 0.5 for place in places)],
        ticktext=["none", *(f"{10 ** bounds[place]:.2g}" for place in places)],
        tickangle=0,
        range=[-1.6, _BINS],
    )
    # Counts are whole: at most four steps of 1, 2 or 5 times a power of ten.
    power = 10 ** max(0, math.floor(math.log10(max(1, tallest / 4))))
    step = next(step for k in (1, 2, 5, 10) if (step := k * power) >= tallest / 4)
    figure.update_yaxes(tickformat="d", dtick=step, range=[0, 1.1 * tallest])
    return figure

"""Interactive figures of a report: curves, histograms, seconds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rddrs_dist.analysis.curves import Curve, axis_end, curves, in_order, lines, select
from rddrs_dist.analysis.logs.marks import printed
from rddrs_dist.analysis.sizes import available, certified, silent
from rddrs_dist.analysis.styles import Look, looks
from rddrs_dist.analysis.tables import floor_to

AXES = {
    "proxy": "proxy radius",
    "capped": "proxy radius, semi-axes cut at the diameter of the pixel domain",
    "l2": "l2 radius",
    "sound": "proxy radius of the sound region",
    "simultaneous": "proxy radius, certified for all images at once",
}
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
        metric: Name in `metrics.METRICS` that it is about; shown while that one is chosen.
    """

    title: str
    figure: go.Figure
    metric: str | None = None


def looks_of(frame: pd.DataFrame) -> dict[str, Look]:
    """How each method looks, in the order of figures and tables."""
    found = looks(printed(frame))
    return {name: found[name] for name in in_order(found)}


def dashes(look: Look, width: float = 2) -> str:
    """Dashes of a method, in pixels, as plotly takes them, for lines of a width."""
    if isinstance(look.dashes, str):
        return look.dashes
    return ",".join(f"{width * part:g}px" for part in look.dashes[1])


def curve_charts(frame: pd.DataFrame) -> list[Chart]:
    """Certified accuracy against radius: one chart per metric and sigma."""
    known = looks_of(frame)
    charts = []
    for metric in available(frame):
        drawn = curves(frame, metric, knots=_KNOTS)
        for sigma in sorted({one.sigma for one in drawn}):
            panel = [one for one in drawn if one.sigma == sigma]
            charts.append(Chart(f"σ = {sigma:g}", _panel(panel, metric, known), metric))
    return charts


def _panel(panel: Sequence[Curve], metric: str, known: Mapping[str, Look]) -> go.Figure:
    """The curves of one sigma, with their bands."""
    figure = frame_of(x=AXES[metric], y="certified accuracy")
    figure.update_layout(hovermode=False, meta={"told": "curve"})
    for one in panel:
        figure.add_traces(list(_traces(one, known[one.method])))
    end = axis_end(panel) or max(float(one.radii[-2]) for one in panel)
    figure.update_xaxes(range=[0, 1.03 * end] if end else [0, 1], rangemode="nonnegative")
    if not end:
        here = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        figure.add_annotation(text="nothing certified", **here)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def _traces(one: Curve, look: Look) -> Iterator[go.Scatter]:
    """Band and line of a curve. All that is printed on hovering is floored; see hover.js."""
    radii = floored(one.radii, _DIGITS)
    common: dict[str, Any] = {"x": radii, "mode": "lines", "meta": {"method": one.method}}
    yield go.Scatter(y=one.lower.astype(np.float32), line={"width": 0, "shape": "vh"}, **common)
    yield go.Scatter(
        y=one.accuracy.astype(np.float32),
        line={"width": 0, "shape": "vh"},
        fill="tonexty",
        **common,
    )
    counts = np.rint(one.accuracy * one.images)
    told = [counts, floored(100 * counts / one.images, 1), floored(100 * one.lower, 1)]
    yield go.Scatter(
        y=one.accuracy.astype(np.float32),
        line={"width": 2, "shape": "vh", "dash": dashes(look)},
        customdata=np.stack(told, 1).astype(np.float32),
        **common | {"meta": {"method": one.method, "name": look.name, "images": one.images}},
    )


def floored(values: np.ndarray, digits: int) -> np.ndarray:
    """Rounds down to a number of decimal digits, and keeps them in as few bytes as they need."""
    down = np.array([floor_to(value, digits) for value in values])
    return down.astype(np.float32) if down.max() * 10**digits < _EXACT_32 else down


def histogram_charts(frame: pd.DataFrame) -> list[Chart]:
    """Radii of the images of each class: one chart per metric, sigma and class."""
    charts = []
    known, sigmas = looks_of(frame), sorted(set(frame["sigma"].tolist()))
    for metric in available(frame):
        for sigma in sigmas:
            rows = _with_metric(frame.loc[frame["sigma"] == sigma], metric)
            sizes, labels = certified(rows, metric), rows["label"].to_numpy()
            methods, bounds = rows["method"].to_numpy(), edges(sizes)
            for name in _frequent(labels) if len(bounds) else ():
                own = labels == name
                title = f"class {name}" + (f", σ = {sigma:g}" if len(sigmas) > 1 else "")
                figure = _histogram(methods[own], sizes[own], bounds, known)
                charts.append(Chart(title, figure, metric))
    return charts


def _with_metric(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows without those of logs that lack a metric."""
    return rows.groupby("method", sort=False).filter(lambda own: not silent(own, metric))


def _frequent(labels: np.ndarray) -> list[int]:
    """The most frequent classes, in order of their numbers."""
    names, counts = np.unique(labels, return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")[:_CLASSES]].tolist())


def edges(sizes: np.ndarray) -> np.ndarray:
    """Edges of the bins: equal on a logarithmic axis, over all sizes above zero."""
    positive = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not len(positive):
        return np.array([])
    low, high = float(positive.min()), float(positive.max())
    found = np.geomspace(low, high if high > low else 2 * low, _BINS + 1)
    found[-1] = max(np.nextafter(high, np.inf), found[-1])
    found[0] = low
    return found


def _histogram(
    methods: np.ndarray, sizes: np.ndarray, bounds: np.ndarray, known: Mapping[str, Look]
) -> go.Figure:
    """Images per bin of each method, those that are not certified in a bin at the left.

    Outlines, since filled bars of several methods would hide each other.
    """
    bins = ["none", *(f"{a:.3g} to {b:.3g}" for a, b in pairwise(bounds))]
    figure, tallest = frame_of(x="", y=""), 0
    figure.update_layout(hovermode=False, meta={"told": "histogram", "bins": bins})
    for method in in_order(set(methods.tolist())):
        counts = _counts(sizes[methods == method], bounds)
        tallest, look = max(tallest, *counts), known[method]
        figure.add_scatter(
            x=np.arange(-2, len(counts) - 2, dtype=np.int32),
            y=counts,
            mode="lines",
            line={"width": 1.7, "shape": "hvh", "dash": dashes(look, 1)},
            meta={"method": method, "name": look.name},
        )
    places = range(_BINS // 4, len(bounds), _BINS // 4)
    figure.update_layout(margin={"l": 30, "r": 6, "t": 4, "b": 22})
    figure.update_xaxes(
        tickvals=[-1, *(place - 0.5 for place in places)],
        ticktext=["none", *(f"{bounds[place]:.2g}" for place in places)],
        tickangle=0,
        range=[-1.6, _BINS],
    )
    figure.update_yaxes(tickformat="d", dtick=_whole_step(tallest), range=[0, 1.1 * tallest])
    return figure


def _counts(own: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Images without a certificate and in each bin; an empty bin at either end closes a line."""
    counts, _ = np.histogram(own[own > 0], bounds)
    return np.array([0, np.sum(own <= 0), *counts, 0], np.int32)


def _whole_step(largest: int) -> int:
    """Step of an axis of counts: 1, 2 or 5 times a power of ten, at most four of them."""
    power = 10 ** max(0, math.floor(math.log10(max(1, largest / 4))))
    return next(step for k in (1, 2, 5, 10) if (step := k * power) >= largest / 4)


def cost_charts(frame: pd.DataFrame) -> list[Chart]:
    """Mean seconds per image, of the fit and of the certificate; nothing of logs."""
    figure = frame_of(x="seconds per image, mean", y="")
    known = looks_of(frame)
    keys = [one for one in lines(frame) if not is_log_line(frame, *one)]
    if not keys:
        return []
    several = len({sigma for sigma, _ in keys}) > 1
    names = [known[m].name + (f", σ = {sigma:g}" if several else "") for sigma, m in keys]
    parts = (("fit_seconds", "fit", ""), ("certify_seconds", "certify", "/"))
    # A trace for each method, so that it can be switched.
    for (sigma, method), name in zip(keys, names, strict=True):
        rows = select(frame, method=method, sigma=sigma)
        for column, text, pattern in parts:
            figure.add_bar(
                y=[name],
                x=[float(np.mean(rows[column]))],
                orientation="h",
                width=0.6,
                meta={"method": method},
                marker={"pattern": {"shape": pattern}},
                hovertemplate=f"%{{y}}, {text}: %{{x:.3f}} s<extra></extra>",
            )
    figure.update_layout(barmode="stack", height=90 + 30 * len(names), margin={"l": 130})
    figure.update_yaxes(autorange="reversed")
    return [Chart("", figure)]


def is_log_line(frame: pd.DataFrame, sigma: float, method: str) -> bool:
    """Whether a line is that of an imported log, which has no counts."""
    return bool(select(frame, method=method, sigma=sigma)["count"].isna().all())


def frame_of(x: str, y: str) -> go.Figure:
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

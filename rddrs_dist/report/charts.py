"""Interactive figures of a report: curves, histograms, seconds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rddrs_dist.results.curves import ALPHA_CURVE, Curve, axis_end, curves, in_order, lines, select
from rddrs_dist.results.logs.marks import printed
from rddrs_dist.results.metrics import available, certified, silent
from rddrs_dist.results.styles import Look, looks
from rddrs_dist.results.tables import floor_to

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
_FORMAT = f".{_DIGITS}f"
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


def dashes(look: Look) -> str:
    """Dashes of a method, in pixels, as plotly takes them."""
    if isinstance(look.dashes, str):
        return look.dashes
    return ",".join(f"{2 * part}px" for part in look.dashes[1])


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
    for one in panel:
        figure.add_traces(list(_traces(one, known[one.method])))
    end = axis_end(panel)
    figure.update_xaxes(range=[0, 1.03 * end] if end else [0, 1], rangemode="nonnegative")
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def _traces(one: Curve, look: Look) -> Iterator[go.Scatter]:
    """Band and line of a curve. All that is printed on hovering is floored."""
    radii = floored(one.radii, _DIGITS)
    common: dict[str, Any] = {"x": radii, "mode": "lines", "meta": {"method": one.method}}
    band = common | {"hoverinfo": "skip", "showlegend": False}
    yield go.Scatter(y=one.lower.astype(np.float32), line={"width": 0, "shape": "vh"}, **band)
    yield go.Scatter(
        y=one.accuracy.astype(np.float32),
        line={"width": 0, "shape": "vh"},
        fill="tonexty",
        **band,
    )
    counts = np.rint(one.accuracy * one.images)
    told = [counts, floored(100 * counts / one.images, 1), floored(100 * one.lower, 1)]
    yield go.Scatter(
        y=one.accuracy.astype(np.float32),
        line={"width": 2, "shape": "vh", "dash": dashes(look)},
        customdata=np.stack(told, 1).astype(np.float32),
        hovertemplate=(
            f"<b>{look.name}</b><br>radius ≥ %{{x:{_FORMAT}}}<br>%{{customdata[0]}} of "
            f"{one.images} images: %{{customdata[1]:.1f}} %<br>at least %{{customdata[2]:.1f}} % "
            f"with {1 - ALPHA_CURVE:.0%} confidence<extra></extra>"
        ),
        **common,
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
            for name in _frequent(labels):
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
    """Images per bin of each method, those that are not certified in a bin at the left."""
    texts = ["none", *(f"{a:.3g} to {b:.3g}" for a, b in pairwise(bounds))]
    figure = frame_of(x="", y="")
    figure.update_layout(barmode="overlay", bargap=0.05, margin={"l": 30, "r": 6, "t": 4, "b": 22})
    for method in in_order(set(methods.tolist())):
        own = sizes[methods == method]
        counts, _ = np.histogram(own[own > 0], bounds) if len(bounds) else (np.zeros(0), None)
        figure.add_bar(
            x=np.arange(-1, len(counts)),
            y=np.concatenate([[np.sum(own <= 0)], counts]).astype(np.int32),
            customdata=texts,
            opacity=0.6,
            meta={"method": method},
            hovertemplate=f"<b>{known[method].name}</b> %{{customdata}}: %{{y}}<extra></extra>",
        )
    places = range(_BINS // 4, len(bounds), _BINS // 4)
    figure.update_xaxes(
        tickvals=[-1, *(place - 0.5 for place in places)],
        ticktext=["none", *(f"{bounds[place]:.2g}" for place in places)],
        tickangle=0,
        range=[-1.6, _BINS],
    )
    figure.update_yaxes(tickformat="d", nticks=4, rangemode="tozero")
    return figure


def cost_chart(frame: pd.DataFrame) -> Chart:
    """Mean seconds per image, of the fit and of the certificate."""
    figure = frame_of(x="seconds per image, mean", y="")
    known = looks_of(frame)
    keys = [one for one in lines(frame) if not is_log_line(frame, *one)]
    several = len({sigma for sigma, _ in keys}) > 1
    names = [known[m].name + (f", σ = {sigma:g}" if several else "") for sigma, m in keys]
    for column, text, pattern in (("fit_seconds", "fit", ""), ("certify_seconds", "certify", "/")):
        means = [float(np.mean(select(frame, method=m, sigma=sigma)[column])) for sigma, m in keys]
        figure.add_bar(
            y=names,
            x=means,
            orientation="h",
            name=text,
            meta={"methods": [method for _, method in keys]},
            marker={"pattern": {"shape": pattern}},
            hovertemplate=f"%{{y}}, {text}: %{{x:.3f}} s<extra></extra>",
        )
    figure.update_layout(barmode="stack", height=90 + 30 * len(names), margin={"l": 130})
    figure.update_yaxes(autorange="reversed")
    return Chart("", figure)


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

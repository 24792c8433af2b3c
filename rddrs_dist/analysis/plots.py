"""Figures of certified accuracy against radius; the one module that imports matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import Curve, axis_end, curves, in_order, lines, to_frame
from rddrs_dist.analysis.logs.marks import printed
from rddrs_dist.analysis.sizes import available
from rddrs_dist.analysis.styles import Look, looks
from rddrs_dist.analysis.tables import floor_to

AXES = {
    "proxy": r"Proxy radius $R$",
    "capped": r"Proxy radius $R$, semi-axes cut at the diameter of the domain",
    "l2": r"$\ell_2$ radius",
    "sound": r"Proxy radius $R$ of the sound region (thin: before)",
    "simultaneous": r"Proxy radius $R$, certified for all images at once",
}
_SLACK = 1.5  # a tail that is at most this much longer is shown whole
RC: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "svg.hashsalt": "rddrs_dist",  # element names do not change from one run to the next
    "svg.fonttype": "path",
}
_PANELS = {1: (4.7, 2.8), 2: (2.9, 2.3)}  # inches, by number of columns
_PANEL = (2.35, 2.1)
_MARGIN = 0.55
_LEGEND_ENTRY, _LEGEND_CHARACTER = 1.0, 0.062  # inches
_CAPTION_SIZE = 8.0
_CAPTION_LINE = 0.145  # inches
_CAPTION_CHARACTERS = 19.0  # per inch
_EQUALS = "\u00a0=\u00a0"  # no line ends beside an equals sign
_SYMBOLS = {"$": r"\$", "σ": r"$\sigma$", "α": r"$\alpha$", "n₀": "$n_0$", ", n =": ", $n$ ="}


def write(frame: pd.DataFrame, folder: str | Path) -> list[Path]:
    """Writes the figure of each metric as PNG, SVG and CSV: curves-proxy.*, curves-l2.*.

    Where a soundness pass was made there is curves-sound.* too, with the sizes before it as thin
    lines.

    Args:
        frame: Rows as `read` or `read_many` returns them, with their `attrs`.
        folder: Where the files go; created where it does not exist.

    Returns:
        The paths written. The same rows give the same bytes.

    Raises:
        ValueError: If there is no row or the folder is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"figures go to a folder, got the file {folder}; pass another --out")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for metric in available(frame):
        stem = folder / f"curves-{metric}"
        figure = draw(frame, [metric])
        written += [stem.with_suffix(end) for end in (".png", ".svg", ".csv")]
        with matplotlib.rc_context(RC):
            figure.savefig(written[-3], dpi=200, metadata={"Software": None})
            figure.savefig(written[-2], metadata={"Date": None, "Creator": None})
        to_frame(curves(frame, metric)).to_csv(written[-1], index=False, lineterminator="\n")
    return written


def draw(frame: pd.DataFrame, metrics: Sequence[str] = ("proxy", "l2")) -> Figure:
    """Draws one row of panels per metric, one panel per sigma and one line per method.

    Args:
        frame: Rows as `read` or `read_many` returns them, with their `attrs`.
        metrics: Names in `metrics.METRICS`, from top to bottom.

    Returns:
        The figure, with legend above and caption below the panels. A log that lacks a metric has
        no line in its row, and the caption says so.

    Raises:
        ValueError: If there is no row, a metric is not known or no line has it.
    """
    if not len(frame):
        raise ValueError("a figure wants at least one row, got none; read a run with rows")
    sigmas = sorted({sigma for sigma, _ in lines(frame)})
    rows = {metric: _by_sigma(curves(frame, metric), sigmas) for metric in metrics}
    if lacking := [metric for metric, panels in rows.items() if not any(panels)]:
        raise ValueError(f"no log of the figure has {', '.join(lacking)}; leave it out")
    before = _by_sigma(curves(frame, "proxy"), sigmas)
    columns, how = len(sigmas), looks(printed(frame))
    with matplotlib.rc_context(RC):
        size = np.array(_PANELS.get(columns, _PANEL)) * (columns, len(rows)) + _MARGIN
        figure = Figure(figsize=tuple(size), layout="constrained")
        axes = figure.subplots(len(rows), columns, sharey=True, squeeze=False)
        cuts = [
            cut
            for line, panels in zip(axes, rows.values(), strict=True)
            for ax, panel, whole in zip(line, panels, before, strict=True)
            if (cut := _panel(ax, panel, whole, how))
        ]
        _label_axes(axes, list(rows), sigmas)
        drawn = {one.method for panels in rows.values() for panel in panels for one in panel}
        _legend(figure, [how[method] for method in in_order(drawn)])
        add_caption(figure, caption(frame, cuts, metrics))
    return figure


def _by_sigma(drawn: list[Curve], sigmas: Sequence[float]) -> list[list[Curve]]:
    """Groups curves into panels."""
    return [[one for one in drawn if one.sigma == sigma] for sigma in sigmas]


def _panel(ax: Axes, panel: list[Curve], whole: list[Curve], how: Mapping[str, Look]) -> str:
    """Draws the curves of one panel, and thinly what they were before the soundness pass.

    Returns what its axis leaves out, if anything.
    """
    if not panel:
        ax.text(0.5, 0.5, "not known", ha="center", transform=ax.transAxes)
        ax.set_xticks([])
        return ""
    drawn = {one.method for one in panel if one.metric == "sound"}
    before = [one for one in whole if one.method in drawn]
    for one in before:
        color = how[one.method].color
        ax.plot(one.radii, one.accuracy, drawstyle="steps-pre", color=color, lw=0.6)
    for one in panel:
        color, dashes = how[one.method].color, how[one.method].dashes
        front = 3.0 if one.method.startswith("rddrs") else 2.0
        ax.fill_between(
            one.radii, one.lower, one.accuracy, step="pre", color=color, alpha=0.13, linewidth=0
        )
        (line,) = ax.plot(one.radii, one.accuracy, drawstyle="steps-pre", zorder=front)
        line.set(color=color, linestyle=dashes, linewidth=1.4)
    ax.set(ylim=(0, 1.02), yticks=np.linspace(0, 1, 6))
    ax.grid(color="#e4e4e4", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return _cut(ax, [*panel, *before], how)


def _cut(ax: Axes, panel: list[Curve], how: Mapping[str, Look]) -> str:
    """Ends the axis before a long thin tail, marks it, and says what lies outside, if any."""
    end, largest = axis_end(panel), max(float(one.radii[-2]) for one in panel)
    if largest == 0:
        ax.set_xlim(0, 1)
        ax.text(0.5, 0.5, "nothing certified", ha="center", transform=ax.transAxes)
        return ""
    if end == 0 or largest <= _SLACK * end:
        ax.set_xlim(0, 1.03 * largest)
        return ""
    beyond, reached, one = max(
        ((_beyond(one, end), float(one.radii[-2]), one) for one in panel), key=lambda own: own[:2]
    )
    ax.set_xlim(0, end)
    reach = f"{floor_to(reached, 0 if reached >= 100 else 1):,}".removesuffix(".0")
    beside = max(_beyond(own, 0.72 * end) for own in panel)
    ax.text(
        *(end, beside + 0.03),
        f"to {reach} $\\rightarrow$",
        ha="right",
        fontsize=_CAPTION_SIZE,
        color=how[one.method].color,
    )
    share = f"{beyond:.1%} of its images, up to {reach}"
    return f"{how[one.method].name} at σ = {one.sigma:g} ({share})"


def _beyond(one: Curve, radius: float) -> float:
    """Returns the fraction of images that are certified farther than a radius."""
    behind = one.accuracy[np.searchsorted(one.radii, radius, side="right") :]
    return float(behind[0]) if len(behind) else 0.0


def _label_axes(axes: np.ndarray, metrics: list[str], sigmas: Sequence[float]) -> None:
    """Writes the axis labels: radius under every row, accuracy at the left, sigma on top."""
    for line, metric in zip(axes, metrics, strict=True):
        line[0].set_ylabel("Certified accuracy")
        for ax in line:
            ax.set_xlabel(AXES.get(metric, metric))
    for ax, sigma in zip(axes[0], sigmas, strict=True):
        ax.set_title(rf"$\sigma = {sigma:g}$")


def _legend(figure: Figure, drawn: list[Look]) -> None:
    """Puts one legend above all panels."""
    handles = [
        Line2D([], [], color=one.color, linestyle=one.dashes, linewidth=1.6) for one in drawn
    ]
    figure.legend(
        handles,
        [one.name for one in drawn],
        loc="outside upper center",
        ncols=_legend_columns([one.name for one in drawn], figure.get_figwidth()),
        frameon=False,
        handlelength=2.3,
        columnspacing=1.2,
    )


def _legend_columns(names: list[str], width: float) -> int:
    """Chooses as many columns as fit into a width in inches; names of logs can be long."""
    for columns in range(len(names), 1, -1):
        longest = [max(map(len, own)) for own in np.array_split(names, columns)]
        if sum(max(_LEGEND_ENTRY, 0.5 + _LEGEND_CHARACTER * own) for own in longest) <= width:
            return columns
    return 1


def add_caption(figure: Figure, text: str) -> None:
    """Adds the caption under the panels and makes the figure taller by its lines."""
    width, height = figure.get_size_inches()
    wrapped = textwrap.wrap(
        text.replace(" = ", _EQUALS),
        int(_CAPTION_CHARACTERS * width),
        break_on_hyphens=False,
        break_long_words=False,
    )
    shown = "\n".join(wrapped).replace(_EQUALS, " = ")
    for plain, mathtext in _SYMBOLS.items():
        shown = shown.replace(plain, mathtext)
    room = _CAPTION_LINE * len(wrapped) + 0.12
    figure.set_size_inches(width, height + room)
    bottom = room / (height + room)
    figure.set_layout_engine("constrained", rect=(0, bottom, 1, 1 - bottom), w_pad=0.05)
    figure.text(
        0.5,
        0.06 / (height + room),
        shown,
        ha="center",
        va="bottom",
        fontsize=_CAPTION_SIZE,
        color="#333333",
        linespacing=1.15,
    )

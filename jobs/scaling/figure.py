"""The figure of the scaling trial."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from rddrs_dist.analysis import plots
from rddrs_dist.analysis.styles import label, style

# Terms of the cost model from left to right; what it does not explain comes last.
_TERMS = {
    "network": ("network, per sample", "#4e86b8"),
    "calls": ("network, per call", "#7fb0d8"),
    "noise": ("noise drawn", "#cfe0ec"),
    "d2n": (r"$d^2 n$ products", "#f2b95c"),
    "d3": (r"$d^3$ products, decompositions", "#b5651d"),
    "rest": ("not in the model", "#e3e3e3"),
}
_NAMES = {"digits": "Digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
_GRID: dict[str, Any] = {"color": "#e4e4e4", "linewidth": 0.5}


def write(blocks: pd.DataFrame, table: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes scaling.png and scaling.svg.

    Args:
        blocks: One row per round and number of actors: actors, efficiency; may be empty.
        table: One row per data set and method: dataset, dimension, method, seconds, predicted
            and the predicted seconds of each term.
        folder: Where the files go.
    """
    with matplotlib.rc_context(plots.RC):
        figure = Figure(figsize=(10.6, 3.5 + 0.05 * len(table)), layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=(0.8, 1.1, 1.25))
        _actors(axes[0], blocks)
        _dimension(axes[1], table)
        _shares(axes[2], table)
        written = [folder / f"scaling.{end}" for end in ("png", "svg")]
        figure.savefig(written[0], dpi=200, metadata={"Software": None})
        figure.savefig(written[1], metadata={"Date": None, "Creator": None})
    return written


def _actors(ax: Axes, blocks: pd.DataFrame) -> None:
    """Efficiency against actors: one dot per round, a line through the medians."""
    _bare(ax, "Actors", "Rate per actor, relative to one actor")
    if not len(blocks):
        ax.text(0.5, 0.5, "not measured", ha="center", transform=ax.transAxes)
        return
    counts, values = blocks["actors"].to_numpy(), blocks["efficiency"].to_numpy()
    sizes = np.unique(counts)
    medians = [np.median(values[counts == size]) for size in sizes]
    ax.axhline(1, color="#9a9a9a", linewidth=0.8, linestyle=(0, (4, 3)))
    ax.plot(sizes, medians, color="#333333", linewidth=1.3, zorder=2, label="median")
    ax.plot(
        *(counts, values, "o"),
        **{"color": "#333333", "markersize": 4, "alpha": 0.55, "markeredgewidth": 0},
        label="one round",
    )
    ax.set(xticks=sizes, xlim=(0.6 * sizes[0], sizes[-1] + 0.4 * sizes[0]))
    ax.set_ylim(0, 1.12 * max(1.0, values.max()))
    ax.legend(frameon=False, loc="lower left")


def _dimension(ax: Axes, table: pd.DataFrame) -> None:
    """Seconds per image against dimension: dots are measured, lines are the model."""
    _bare(ax, "Dimension $d$ of an image", "Seconds per image, one worker")
    ax.set(xscale="log", yscale="log")
    for method in dict.fromkeys(table["method"]):
        rows = table.loc[table["method"] == method].sort_values("dimension")
        color, dashes = style(method)
        ax.plot(rows["dimension"], rows["predicted"], color=color, linestyle=dashes, linewidth=1.3)
        ax.plot(rows["dimension"], rows["seconds"], "o", color=color, markersize=4.5, zorder=3)
        ax.plot([], [], "o", color=color, linestyle=dashes, label=label(method))
    sizes = dict(zip(table["dimension"], table["dataset"], strict=True))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(list(sizes), [f"{d:,}\n{_NAMES[name]}" for d, name in sizes.items()])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.margins(x=0.12)
    _above(ax, 2, markersize=4.5, title="dots measured, lines predicted")


def _shares(ax: Axes, table: pd.DataFrame) -> None:
    """Where the time goes: the model's terms as shares of what was measured."""
    _bare(ax, "Share of the seconds per image", "")
    ax.grid(visible=False, axis="y")
    total = np.maximum(table["seconds"], table["predicted"])
    widths = {name: table[name] / total for name in _TERMS if name != "rest"}
    widths["rest"] = 1 - table["predicted"] / total
    places, left = _places(table), np.zeros(len(table))
    for name, (text, color) in _TERMS.items():
        ax.barh(places, widths[name], left=left, color=color, height=0.78, label=text)
        left = left + widths[name]
    names = [
        f"{_NAMES[dataset]}, {label(method)}"
        for dataset, method in zip(table["dataset"], table["method"], strict=True)
    ]
    ax.set_yticks(places, names, fontsize=8.5)
    for place, spent in zip(places, table["seconds"], strict=True):
        ax.text(1.015, place, duration(spent), va="center", fontsize=8.5)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    _above(ax, 3)


def _places(table: pd.DataFrame) -> np.ndarray:
    """Where bars stand, with a gap between data sets."""
    names = table["dataset"].to_numpy()
    gaps = np.concatenate([[0], np.cumsum(names[1:] != names[:-1])])
    return np.arange(len(table)) + 0.5 * gaps


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * size or (size == 1 and seconds >= 1):
            return f"{seconds / size:.1f} {unit}"
    return f"{1000 * seconds:.0f} ms"


def _bare(ax: Axes, x: str, y: str) -> None:
    """Labels and the look of the project's figures."""
    ax.set(xlabel=x, ylabel=y)
    ax.grid(**_GRID)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _above(ax: Axes, columns: int, markersize: float = 0, title: str | None = None) -> None:
    """Puts the legend above a panel, where no data is."""
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        title=title,
        title_fontsize=8.5,
        handlelength=2.2 if markersize else 1.0,
        columnspacing=1.2,
    )

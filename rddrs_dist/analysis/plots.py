"""Figures of certified accuracy against radius; the one module that imports matplotlib."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import Curve, axis_end, curves, to_frame
from rddrs_dist.analysis.lines import Line, by_sigma, chosen, methods_of
from rddrs_dist.analysis.sizes import SIZES, Size
from rddrs_dist.analysis.tables import floor_to

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


def write(lines: Sequence[Line], folder: str | Path, sizes: Sequence[str] = ()) -> list[Path]:
    """Writes the figure of each size as PNG, SVG and CSV: curves-proxy.*, curves-l2.*.

    Args:
        lines: The lines to draw.
        folder: Where the files go; created where it does not exist.
        sizes: Names in `sizes.SIZES`; by default all that the lines have.

    Returns:
        The paths written. The same rows give the same bytes.

    Raises:
        ValueError: If there is no row, a size is not known or the folder is a file.
    """
    folder, sizes = Path(folder), chosen(lines, sizes)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"figures go to a folder, got the file {folder}; pass another --out")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for size in sizes:
        stem = folder / f"curves-{size}"
        figure = draw(lines, [size])
        written += [stem.with_suffix(end) for end in (".png", ".svg", ".csv")]
        with matplotlib.rc_context(RC):
            figure.savefig(written[-3], dpi=200, metadata={"Software": None})
            figure.savefig(written[-2], metadata={"Date": None, "Creator": None})
        to_frame(curves(lines, size)).to_csv(written[-1], index=False, lineterminator="\n")
    return written


def draw(lines: Sequence[Line], sizes: Sequence[str] = ("proxy", "l2")) -> Figure:
    """Draws one row of panels per size, one panel per sigma and one curve per line.

    Args:
        lines: The lines to draw.
        sizes: Names in `sizes.SIZES`, from top to bottom.

    Returns:
        The figure, with legend above and caption below the panels. A log that lacks a size has
        no curve in its row, and the caption says so.

    Raises:
        ValueError: If there is no row, a size is not known or no line has it.
    """
    if not any(map(len, lines)):
        raise ValueError("a figure wants at least one row, got none; read a run with rows")
    panels = by_sigma(lines)
    drawn = {size: curves(lines, size) for size in sizes}
    if lacking := [size for size, own in drawn.items() if not own]:
        raise ValueError(f"no line of the figure has {', '.join(lacking)}; leave it out")
    with matplotlib.rc_context(RC):
        inches = np.array(_PANELS.get(len(panels), _PANEL)) * (len(panels), len(sizes)) + _MARGIN
        figure = Figure(figsize=tuple(inches), layout="constrained")
        axes = figure.subplots(len(sizes), len(panels), sharey=True, squeeze=False)
        cuts = [
            cut
            for row, size in zip(axes, sizes, strict=True)
            for ax, panel in zip(row, panels.values(), strict=True)
            if (cut := _panel(ax, curves(panel, size), size))
        ]
        _label_axes(axes, [SIZES[size] for size in sizes], list(panels))
        named = methods_of(one.line for own in drawn.values() for one in own)
        _legend(figure, list(named.values()))
        add_caption(figure, caption(lines, cuts, sizes))
    return figure


def _panel(ax: Axes, panel: list[Curve], size: str) -> str:
    """Draws the curves of one panel, and as thin lines the size that stands beside it.

    Returns what its axis leaves out, if anything.
    """
    if not panel:
        ax.text(0.5, 0.5, "not known", ha="center", transform=ax.transAxes)
        ax.set_xticks([])
        return ""
    beside = SIZES[size].before
    before = curves([one.line for one in panel], beside) if beside else []
    for one in before:
        ax.plot(one.radii, one.accuracy, drawstyle="steps-pre", color=one.line.colour, lw=0.6)
    for one in panel:
        colour, front = one.line.colour, 3.0 if one.line.method.startswith("rddrs") else 2.0
        ax.fill_between(
            one.radii, one.lower, one.accuracy, step="pre", color=colour, alpha=0.13, linewidth=0
        )
        (line,) = ax.plot(one.radii, one.accuracy, drawstyle="steps-pre", zorder=front)
        line.set(color=colour, linestyle=one.line.dashes, linewidth=1.4)
    ax.set(ylim=(0, 1.02), yticks=np.linspace(0, 1, 6))
    ax.grid(color="#e4e4e4", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return _cut(ax, [*panel, *before])


def _cut(ax: Axes, panel: list[Curve]) -> str:
    """Ends the axis before a long thin tail, marks it, and says what lies outside, if any."""
    end, largest = axis_end(panel), max(one.reach for one in panel)
    if largest == 0:
        ax.set_xlim(0, 1)
        ax.text(0.5, 0.5, "nothing certified", ha="center", transform=ax.transAxes)
        return ""
    if end == 0 or largest <= _SLACK * end:
        ax.set_xlim(0, 1.03 * largest)
        return ""
    farthest = max(panel, key=lambda one: (_beyond(one, end), one.reach))
    ax.set_xlim(0, end)
    reach = f"{floor_to(farthest.reach, 0 if farthest.reach >= 100 else 1):,}".removesuffix(".0")
    beside = max(_beyond(own, 0.72 * end) for own in panel)
    ax.text(
        *(end, beside + 0.03),
        f"to {reach} $\\rightarrow$",
        ha="right",
        fontsize=_CAPTION_SIZE,
        color=farthest.line.colour,
    )
    share = f"{_beyond(farthest, end):.1%} of its images, up to {reach}"
    return f"{farthest.line.label} at σ = {farthest.line.sigma:g} ({share})"


def _beyond(one: Curve, radius: float) -> float:
    """Returns the fraction of images that are certified farther than a radius."""
    behind = one.accuracy[np.searchsorted(one.radii, radius, side="right") :]
    return float(behind[0]) if len(behind) else 0.0


def _label_axes(axes: np.ndarray, sizes: Sequence[Size], sigmas: Sequence[float]) -> None:
    """Writes the axis labels: radius under every row, accuracy at the left, sigma on top."""
    for row, size in zip(axes, sizes, strict=True):
        row[0].set_ylabel("Certified accuracy")
        text = size.axis.replace("radius R", "radius $R$").replace("l2", r"$\ell_2$")
        for ax in row:
            ax.set_xlabel(f"{text} (thin: before)" if size.before else text)
    for ax, sigma in zip(axes[0], sigmas, strict=True):
        ax.set_title(rf"$\sigma = {sigma:g}$")


def _legend(figure: Figure, drawn: Sequence[Line]) -> None:
    """Puts one legend above all panels."""
    handles = [
        Line2D([], [], color=one.colour, linestyle=one.dashes, linewidth=1.6) for one in drawn
    ]
    names = [one.label for one in drawn]
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=_legend_columns(names, figure.get_figwidth()),
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

"""Figures of certified accuracy against radius; the one module that imports matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import Curve, axis_end, curves, p_lower_curves, to_frame
from rddrs_dist.analysis.lines import Line, by_sigma, chosen, cube_of, methods_of
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.analysis.tables import floor_to

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
_LEGEND_ENTRY, _LEGEND_CHARACTER = 0.5, 0.062  # inches
_LABEL_CHARACTERS = 14.0  # of an axis, per inch
_CAPTION_SIZE = 8.0
_CAPTION_LINE = 0.145  # inches
_CAPTION_CHARACTERS = 19.0  # per inch
_CERTAIN = 1e-12  # p_A at most so far below 1 is drawn at that
_P_LOWER = (
    "Share of the images that are certified with a lower bound of p_A, the probability of the "
    "class under the noise, of at least what the axis says; an average radius hides it (Sun, Mao, "
    "Müller and Vechev 2024, arXiv 2410.06895)."
)
_EQUALS = "\u00a0=\u00a0"  # no line ends beside an equals sign
_SYMBOLS = {
    "$": r"\$",
    "p_A": "$p_A$",
    "σ": r"$\sigma$",
    "α": r"$\alpha$",
    "n₀": "$n_0$",
    ", n =": ", $n$ =",
}


def write(lines: Sequence[Line], folder: str | Path, sizes: Sequence[str] = ()) -> list[Path]:
    """Writes the figures of sizes and that of p_A, as PNG, SVG and CSV: curves-l2.*, p-lower.*.

    Without sizes those that are shown by default. The folder is made if missing. The same rows
    give the same bytes.

    Raises:
        ValueError: If a size is not known or the folder is a file.
    """
    folder, sizes = Path(folder), chosen(lines, sizes)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"figures go to a folder, got the file {folder}; pass another --out")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for size in sizes:
        written += _save(folder / f"curves-{size}", draw(lines, size), curves(lines, size))
    if known := p_lower_curves(lines):
        written += _save(folder / "p-lower", draw_p_lower(lines), known)
    return written


def _save(stem: Path, figure: Figure, drawn: Sequence[Curve]) -> list[Path]:
    """Writes a figure and the curves in it."""
    png, svg, csv = (stem.with_name(f"{stem.name}.{end}") for end in ("png", "svg", "csv"))
    with matplotlib.rc_context(RC):
        figure.savefig(png, dpi=200, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
    to_frame(drawn).to_csv(csv, index=False, lineterminator="\n")
    return [png, svg, csv]


def draw(lines: Sequence[Line], size: str = "proxy") -> Figure:
    """Draws one panel per sigma and one curve per line, legend above and caption below.

    A log that lacks the size has no curve, and the caption says so.

    Raises:
        ValueError: If the size is not known or no line has it.
    """
    drawn = methods_of(one.line for one in curves(lines, size))
    if not drawn:
        raise ValueError(f"no line of the figure has {size}; leave it out")
    cube = cube_of(lines) if SIZES[size].of_volume else None
    with matplotlib.rc_context(RC):
        figure, panels = _panels(lines, "Certified accuracy")
        cuts = []
        for ax, own in panels:
            cuts += _panel(ax, curves(own, size), size, figure.get_figwidth() / len(panels))
            if cube and ax.lines and cube[1] <= ax.get_xlim()[1]:
                _mark_cube(ax, cube[1])
        _add_legend(figure, drawn)
        add_caption(figure, caption(lines, cuts, [size]))
    return figure


def draw_p_lower(lines: Sequence[Line]) -> Figure:
    """Draws the share of images certified with at least each lower bound of p_A, as `draw` does.

    Raises:
        ValueError: If no line knows its p_A.
    """
    known = [one.line for one in p_lower_curves(lines)]
    if not known:
        raise ValueError("no line of the figure has p_lower; leave it out")
    with matplotlib.rc_context(RC):
        figure, panels = _panels(lines, "Share of images")
        for ax, own in panels:
            _p_lower_panel(ax, p_lower_curves(own))
        _add_legend(figure, methods_of(known))
        add_caption(figure, caption(known, shown=_P_LOWER))
    return figure


def _panels(lines: Sequence[Line], label: str) -> tuple[Figure, list[tuple[Axes, list[Line]]]]:
    """A figure, and its axes with their lines, one per sigma."""
    panels = by_sigma(lines)
    inches = np.array(_PANELS.get(len(panels), _PANEL)) * (len(panels), 1) + _MARGIN
    figure = Figure(figsize=tuple(inches), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    axes[0].set_ylabel(label)
    for ax, sigma in zip(axes, panels, strict=True):
        ax.set_title(rf"$\sigma = {sigma:g}$")
        ax.set(ylim=(0, 1.02), yticks=np.linspace(0, 1, 6))
    return figure, list(zip(axes, panels.values(), strict=True))


def _add_legend(figure: Figure, drawn: Mapping[str, Line]) -> None:
    """Puts what the lines are called above the panels."""
    longest = max(len(one.legend) for one in drawn.values())
    fitting = int(figure.get_figwidth() / (_LEGEND_ENTRY + _LEGEND_CHARACTER * longest))
    styles = [
        Line2D([], [], color=one.colour, linestyle=one.dashes, linewidth=1.6, label=one.legend)
        for one in drawn.values()
    ]
    place: dict[str, Any] = {
        "loc": "outside upper center",
        "ncols": max(1, min(fitting, len(drawn))),
    }
    figure.legend(handles=styles, frameon=False, handlelength=2.3, columnspacing=1.2, **place)


def _panel(ax: Axes, panel: list[Curve], size: str, width: float) -> list[str]:
    """Draws the curves of one panel, thin ones of the size beside it; returns what it cuts off.

    `width` is that of the panel, in inches.
    """
    beside = SIZES[size].before
    text = SIZES[size].axis + (" (thin: before)" if beside else "")
    text = textwrap.fill(text, int(_LABEL_CHARACTERS * width))
    text = text.replace("radius R", "radius $R$").replace("l2", r"$\ell_2$")
    ax.set_xlabel(text, linespacing=1.0)
    if not panel:
        return _say_unknown(ax)
    before = curves([one.line for one in panel], beside) if beside else []
    for one in before:
        ax.plot(one.radii, one.accuracy, drawstyle="steps-pre", color=one.line.colour, lw=0.6)
    _draw_steps(ax, panel)
    return _end(ax, [*panel, *before])


def _p_lower_panel(ax: Axes, panel: list[Curve]) -> None:
    """Draws the distributions of one panel on an axis that spreads what is near 1."""
    ax.set_xlabel("Lower bound of $p_A$")
    if not panel:
        _say_unknown(ax)
        return
    end = min(max(one.reach for one in panel), 1 - _CERTAIN)
    # Before anything is drawn: the axis has no room for the 0 at which curves start. It ends half
    # a decade behind the last step, which the border would hide.
    ax.set_xscale("logit", nonpositive="clip")
    ax.set_xlim(0.5, max(0.9, 1 - (1 - end) / 3))
    _draw_steps(ax, panel)
    ticks = [1 - 10.0**-k for k in range(1, 12)]
    ax.xaxis.set_major_locator(FixedLocator([0.5, *ticks]))
    ax.xaxis.set_major_formatter(FixedFormatter(["0.5", *(f"{one:.12g}" for one in ticks)]))
    ax.xaxis.set_minor_locator(NullLocator())


def _say_unknown(ax: Axes) -> list[str]:
    """A panel in which no line has what is drawn."""
    ax.text(0.5, 0.5, "not known", ha="center", transform=ax.transAxes)
    ax.set_xticks([])
    return []


def _draw_steps(ax: Axes, panel: Sequence[Curve]) -> None:
    """Draws curves with their bands, and what is the same in all panels."""
    for one in panel:
        colour, front = one.line.colour, 3.0 if one.line.method.startswith("rddrs") else 2.0
        ax.fill_between(
            one.radii, one.lower, one.accuracy, step="pre", color=colour, alpha=0.13, linewidth=0
        )
        (line,) = ax.plot(one.radii, one.accuracy, drawstyle="steps-pre", zorder=front)
        line.set(color=colour, linestyle=one.line.dashes, linewidth=1.4)
    ax.grid(color="#e4e4e4", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _mark_cube(ax: Axes, radius: float) -> None:
    """Draws where the ball has the volume of the pixel cube; its name stands above the panel."""
    ax.axvline(radius, color="#555555", linewidth=0.7, zorder=1.5, gid="cube")
    above = ax.secondary_xaxis("top")
    above.set_xticks([radius], labels=["pixel cube"])
    above.tick_params(length=2, width=0.7, labelsize=_CAPTION_SIZE, labelcolor="#555555", pad=1)
    above.spines["top"].set_visible(False)


def _end(ax: Axes, panel: list[Curve]) -> list[str]:
    """Ends the axis, before a long thin tail too, and says what lies outside, if any."""
    end = axis_end(panel)
    farthest = max(panel, key=lambda one: (one.beyond(end), one.reach))
    ax.set_xlim(0, 1.03 * end or 1)
    if end == 0:
        ax.text(0.5, 0.5, "nothing certified", ha="center", transform=ax.transAxes)
    if farthest.reach <= end:
        return []
    ax.set_xlim(0, end)
    reach = f"{floor_to(farthest.reach, 0 if farthest.reach >= 100 else 1):,}".removesuffix(".0")
    ax.annotate(
        f"to {reach} $\\rightarrow$",
        (end, 0.03 + max(one.beyond(0.72 * end) for one in panel)),
        ha="right",
        fontsize=_CAPTION_SIZE,
        color=farthest.line.colour,
        # The mark of the pixel cube may pass behind it.
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
    )
    share = f"{farthest.beyond(end):.1%} of its images, up to {reach}"
    return [f"{farthest.line.label} at σ = {farthest.line.sigma:g} ({share})"]


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
    figure.set_size_inches(width, height + _CAPTION_LINE * len(wrapped) + 0.12)
    figure.supxlabel(shown, fontsize=_CAPTION_SIZE, color="#333333", linespacing=1.15)

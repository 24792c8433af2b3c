"""The drawing of figure 1."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from rddrs_dist import METHODS
from rddrs_dist.analysis import plots

from .options import DRAWN, RIGHT_ANGLE, Options
from .problem import Problem

_SIZE = (7.4, 4.7)  # inches, without the caption
_SHOWN = (0.1, 0.9)  # of the unit square, both ways
_FILLS = ("#fbf3d0", "#dde7ee", "#ece3e9")  # pale sand, blue and mauve: none of a method's colour
_DOTS = ("#d3c379", "#a3b8c7", "#c3aebb")
_DOT = 3.0  # points, the marker of a certificate
_FAINT: dict[str, Any] = {"markersize": _DOT, "alpha": 0.3, "markeredgewidth": 0}
_PIXELS = 700  # of the decision regions, along a side
# Typeset once the lines of the caption are broken.
_MATHS = {"x+Su": "$x + Su$", "|u|": "$|u|$", " S ": " $S$ "}


@dataclass(frozen=True, eq=False)
class Measured:
    """What is drawn: a row per region, see `measure.rows`.

    Attributes:
        turned: At each angle, from the same samples turned.
        fresh: At each angle, from new samples.
        alone: At no angle, from other samples each time.
    """

    turned: pd.DataFrame
    fresh: pd.DataFrame
    alone: pd.DataFrame


def write(problem: Problem, found: Measured, options: Options, text: str) -> list[Path]:
    """Writes figure1.png and figure1.svg.

    Args:
        problem: As it is at no angle.
        found: The regions.
        options: Name the angles to draw and the folder.
        text: The caption.
    """
    with matplotlib.rc_context(plots.RC):
        figure = Figure(figsize=_SIZE, layout="constrained")
        grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 1.18, 0.3))
        for column, angle in enumerate(options.drawn):
            rows = found.turned.loc[found.turned["angle"] == angle]
            for row in range(2):
                ax = figure.add_subplot(grid[row, column])
                _plane(ax, problem.turned(angle))
                _ellipses(ax, problem.turned(angle), rows, certified=row == 1)
                _label_plane(ax, angle, row, column)
        areas = figure.add_subplot(grid[:, 2])
        _areas(areas, found)
        _unturned(figure.add_subplot(grid[:, 3], sharey=areas), found.alone)
        _around(figure, text)
        _settle(figure)
        written = [options.out / f"figure1.{end}" for end in ("png", "svg")]
        figure.savefig(written[0], dpi=200, metadata={"Software": None})
        figure.savefig(written[1], metadata={"Date": None, "Creator": None})
    return written


def _style(name: str) -> dict[str, Any]:
    """Colour and dashes of a method, as matplotlib takes them."""
    return {"color": METHODS[name].colour, "linestyle": METHODS[name].dashes}


def _around(figure: Figure, text: str) -> None:
    """Legend above and caption below."""
    handles = [
        Line2D([], [], **_style(name), linewidth=1.6, label=METHODS[name].label) for name in DRAWN
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(handles),
        frameon=False,
        handlelength=2.6,
    )
    plots.add_caption(figure, text)
    shown = figure.texts[-1].get_text()
    for plain, maths in _MATHS.items():
        shown = shown.replace(plain, maths)
    figure.texts[-1].set_text(shown)


def _settle(figure: Figure) -> None:
    """Rounds where panels stand: the last digits of the layout differ from run to run."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_position(Bbox(ax.get_position(original=True).get_points().round(4)))


def _plane(ax: Axes, problem: Problem) -> None:
    """Decision regions, data and test point."""
    low, high = _SHOWN
    side = low + (high - low) * (np.arange(_PIXELS) + 0.5) / _PIXELS
    points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2).astype(np.float32)
    answers = problem.network(torch.from_numpy(points)).argmax(1).numpy()
    ax.imshow(
        answers.reshape(_PIXELS, _PIXELS),
        origin="lower",
        extent=(low, high, low, high),
        cmap=ListedColormap(_FILLS),
        vmin=-0.5,
        vmax=len(_FILLS) - 0.5,
        interpolation="nearest",
    )
    colors = np.array(_DOTS)[problem.labels.numpy()]
    ax.scatter(*problem.points.numpy().T, s=1.5, c=colors, linewidths=0, zorder=1.5)
    ax.plot(*problem.test[0].tolist(), "+", color="black", markersize=6, zorder=4)


def _ellipses(ax: Axes, problem: Problem, rows: pd.DataFrame, *, certified: bool) -> None:
    """x + S u with |u| = 1, or with |u| the certified radius."""
    for row in rows.to_dict("records"):
        scale = np.array([[row["s_xx"], row["s_xy"]], [row["s_yx"], row["s_yy"]]])
        outline = ellipse(problem, scale, row["radius"] if certified else 1.0)
        width = 1.4 if certified else 0.9
        ax.plot(*outline.T, **_style(row["method"]), linewidth=width, zorder=3)


def ellipse(problem: Problem, scale: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Outline of {x + S u : |u| < radius} about the test point, (P, 2)."""
    angles = np.linspace(0, 2 * np.pi, 361)
    circle = radius * np.stack([np.cos(angles), np.sin(angles)])
    return problem.test[0].double().numpy() + (scale @ circle).T


def _label_plane(ax: Axes, angle: float, row: int, column: int) -> None:
    """Titles of the columns, names of the rows, ticks at the outside."""
    ax.set(xlim=_SHOWN, ylim=_SHOWN, xticks=(0.2, 0.5, 0.8), yticks=(0.2, 0.5, 0.8))
    ax.tick_params(labelbottom=row == 1, labelleft=column == 0)
    if row == 0:
        ax.set_title("Data and network" if angle == 0 else f"Turned by {angle:g}°")
    if column == 0:
        ax.set_ylabel("Certified regions" if row else "Sampling regions")


def _areas(ax: Axes, found: Measured) -> None:
    """Area against angle: dots are certificates, lines are exact, faint dots have new samples."""
    for name in DRAWN:
        rows, own = found.turned.loc[found.turned["method"] == name], _style(name)
        new = found.fresh.loc[found.fresh["method"] == name]
        ax.plot(new["angle"], new["certified_area"], "o", color=own["color"], **_FAINT)
        ax.plot(rows["angle"], rows["exact_area"], **own, lw=1.2)
        ax.plot(rows["angle"], rows["certified_area"], "o", color=own["color"], markersize=_DOT)
    ax.set(xlabel="Angle (degrees)", title="Area of certified regions")
    ax.set_xticks(np.linspace(0, RIGHT_ANGLE, 7))
    ax.set(xlim=(-3, RIGHT_ANGLE + 3), ylim=(0, None))
    grey = "#4d4d4d"
    handles = [
        Line2D([], [], color=grey, lw=1.2, label="exact probability"),
        Line2D([], [], color=grey, marker="o", markersize=_DOT, lw=0, label="certificate"),
        Line2D([], [], color=grey, marker="o", lw=0, label="from new samples", **_FAINT),
    ]
    ax.legend(handles=handles, loc="lower left", frameon=False)
    _bare(ax)


def _unturned(ax: Axes, unturned: pd.DataFrame) -> None:
    """Certified areas at no angle from other samples: how far dots scatter by chance alone."""
    for place, name in enumerate(DRAWN):
        areas = unturned.loc[unturned["method"] == name, "certified_area"]
        places = np.full(len(areas), place)
        ax.plot(places, areas, "o", color=METHODS[name].colour, **_FAINT)
    ax.set(xlim=(-0.8, len(DRAWN) - 0.2), xticks=[], xlabel="0°, other\nsamples")
    ax.tick_params(labelleft=False)
    _bare(ax)


def _bare(ax: Axes) -> None:
    """The look of the project's figures."""
    ax.grid(color="#e4e4e4", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def caption(options: Options, gap: float, left_out: int) -> str:
    """Says what the figure shows and under which settings.

    Args:
        options: The settings.
        gap: Largest share of an exact area that the certified one lacks.
        left_out: Regions that are certified for another class or for none.
    """
    settings = "default settings" if options.published else "settings of its own"
    others = f" Left out: {left_out} regions of another class or none." if left_out else ""
    return (
        "Fills: decision regions of a ReLU network; small dots: its training data; +: the test "
        "point x. Sampling regions: x+Su with |u| = 1, S the scale of the noise; certified "
        "regions: |u| below the certified radius. Right: data, network, x and all samples are "
        "turned about the centre of the unit square. Dots: Monte Carlo certificates, each a lower "
        "bound with probability 1−α; lines: the same noise at its exact probability; dots are up "
        f"to {math.ceil(1000 * gap) / 10:.1f} % below. Faint dots: certificates from new samples "
        f"at each angle, and at the far right from {options.angles} draws, nothing turned: they "
        f"scatter by chance alone. σ = {options.sigma:g}, n₀ = {options.n0:,}, n = {options.n:,}, "
        f"α = {options.alpha:g}, seed {options.seed}, every method with its {settings}.{others}"
    )

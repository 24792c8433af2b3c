"""The drawing of figure 1."""

import math
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

from rddrs_dist import METHODS
from rddrs_dist.analysis import plots
from rddrs_dist.run.options import Settings

from .measure import DRAWN, RIGHT_ANGLE, Options
from .problem import Problem

_SIZE = (7.4, 4.7)  # inches, without the caption
_SHOWN = (0.1, 0.9)  # of the unit square, both ways
_FILLS = ("#fbf3d0", "#dde7ee", "#ece3e9")  # pale sand, blue and mauve: none of a method's colour
_DOTS = ("#d3c379", "#a3b8c7", "#c3aebb")
_DOT: dict[str, Any] = {"marker": "o", "markersize": 3.0, "linewidth": 0}  # of a certificate
_FAINT = _DOT | {"alpha": 0.3, "markeredgewidth": 0}
_PIXELS = 700  # of the decision regions, along a side
# Typeset once the lines of the caption are broken.
_MATHS = {"x+Su": "$x + Su$", "|u|": "$|u|$", " S ": " $S$ "}


def write(
    problem: Problem,
    turned: pd.DataFrame,
    fresh: pd.DataFrame,
    alone: pd.DataFrame,
    options: Options,
    text: str,
) -> list[Path]:
    """Writes figure1.png and figure1.svg, with a caption, of three tables; see `spreads`."""
    nearest = float(min(options.degrees, key=lambda angle: abs(angle - RIGHT_ANGLE / 2)))
    with matplotlib.rc_context(plots.RC):
        figure = Figure(figsize=_SIZE, layout="constrained")
        grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 1.18, 0.3))
        for column, angle in enumerate((0.0, nearest)):
            for row in range(2):
                ax = figure.add_subplot(grid[row, column])
                regions = turned.loc[turned["angle"] == angle]
                _plane(ax, problem.turned(angle), regions, certified=row == 1)
                ax.tick_params(labelbottom=row == 1, labelleft=column == 0)
                if row == 0:
                    ax.set_title("Data and network" if angle == 0 else f"Turned by {angle:g}°")
                if column == 0:
                    ax.set_ylabel("Certified regions" if row else "Sampling regions")
        areas = figure.add_subplot(grid[:, 2])
        _areas(areas, turned, fresh)
        _unturned(figure.add_subplot(grid[:, 3], sharey=areas), alone)
        _around(figure, text)
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
    place = {"loc": "outside upper center", "ncols": len(handles)}
    figure.legend(handles=handles, **place, frameon=False, handlelength=2.6)
    plots.add_caption(figure, text)
    shown = figure.texts[-1].get_text()
    for plain, maths in _MATHS.items():
        shown = shown.replace(plain, maths)
    figure.texts[-1].set_text(shown)
    # Where panels stand is rounded: the last digits of the layout differ from run to run.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_position(Bbox(ax.get_position(original=True).get_points().round(4)))


def _plane(ax: Axes, problem: Problem, rows: pd.DataFrame, *, certified: bool) -> None:
    """Decision regions, data, test point, and x + S u with |u| = 1 or the certified radius."""
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
    angles, centre = np.linspace(0, 2 * np.pi, 361), problem.test[0].double().numpy()
    circle = np.stack([np.cos(angles), np.sin(angles)])
    for row in rows.to_dict("records"):
        scale = np.array([[row["s_xx"], row["s_xy"]], [row["s_yx"], row["s_yy"]]])
        radius, width = (row["radius"], 1.4) if certified else (1.0, 0.9)
        outline = centre + (scale @ (radius * circle)).T
        ax.plot(*outline.T, **_style(row["method"]), linewidth=width, zorder=3)
    ax.set(xlim=_SHOWN, ylim=_SHOWN, xticks=(0.2, 0.5, 0.8), yticks=(0.2, 0.5, 0.8))


def _areas(ax: Axes, turned: pd.DataFrame, fresh: pd.DataFrame) -> None:
    """Area against angle: dots are certificates, lines are exact, faint dots have new samples."""
    for name in DRAWN:
        rows, new = (one.loc[one["method"] == name] for one in (turned, fresh))
        own = _style(name)
        ax.plot(new["angle"], new["certified_area"], color=own["color"], **_FAINT)
        ax.plot(rows["angle"], rows["exact_area"], **own, linewidth=1.2)
        ax.plot(rows["angle"], rows["certified_area"], color=own["color"], **_DOT)
    ax.set(xlabel="Angle (degrees)", title="Area of certified regions")
    ax.set_xticks(np.linspace(0, RIGHT_ANGLE, 7))
    ax.set(xlim=(-3, RIGHT_ANGLE + 3), ylim=(0, None))
    kinds = {"exact probability": {"linewidth": 1.2}, "certificate": _DOT}
    kinds["from new samples"] = _FAINT
    handles = [Line2D([], [], color="#4d4d4d", label=name, **own) for name, own in kinds.items()]
    ax.legend(handles=handles, loc="lower left", frameon=False)
    _bare(ax)


def _unturned(ax: Axes, alone: pd.DataFrame) -> None:
    """Certified areas at no angle from other samples: how far dots scatter by chance alone."""
    for place, name in enumerate(DRAWN):
        areas = alone.loc[alone["method"] == name, "certified_area"]
        ax.plot([place] * len(areas), areas, color=METHODS[name].colour, **_FAINT)
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
    settings = "default settings" if options.settings == Settings() else "settings of its own"
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

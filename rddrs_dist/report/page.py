"""One self-contained HTML file that shows what runs have found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.sizes import METRICS, available
from rddrs_dist.analysis.tables import TITLES
from rddrs_dist.report import attempts, charts, facts
from rddrs_dist.report.conflicts import conflicts
from rddrs_dist.report.gallery import Entry
from rddrs_dist.results import files as parts

_FILES = ("page.html", "page.css", "hover.js", "page.js")


@dataclass
class _Figures:
    """The figures of a page, drawn by its script one by one as they come into view."""

    known: list[go.Figure]

    def place(self, figure: go.Figure) -> int:
        """Adds a figure; the number by which the page names it."""
        self.known.append(figure)
        return len(self.known) - 1

    def as_json(self) -> str:
        """All of them, with nothing in it that would end a script element."""
        return "[" + ",".join(_script(one.to_json()) for one in self.known) + "]"


def _script(text: str | None) -> str:
    """JSON that may stand inside a script element."""
    return (text or "null").replace("<", "\\u003c")


def render(frame: pd.DataFrame, entries: Sequence[Entry], remarks: Sequence[str]) -> str:
    """The page.

    Args:
        frame: Rows as `read_many` returns them.
        entries: Images of the gallery.
        remarks: What the gallery lacks, and why.
    """
    figures, known, calls = _Figures([]), charts.looks_of(frame), attempts.events(frame)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    folder = resources.files("rddrs_dist.report")
    html, style, *scripts = (folder.joinpath(name).read_text("utf-8") for name in _FILES)
    return environment.from_string(html).render(
        style=style,
        scripts=scripts,
        plotly=get_plotlyjs(),
        title=f"Certified robustness, {frame.attrs['dataset'] or 'unnamed data'}",
        caption=caption(frame, metrics=available(frame)),
        incomplete=[name for name, own in frame.attrs["runs"].items() if not own["complete"]],
        methods=[(name, look.name, look.color) for name, look in known.items()],
        metrics=[(name, TITLES[name]) for name in METRICS if name in available(frame)],
        curves=charts.curve_charts(frame),
        radii=facts.at_radii(frame),
        histograms=charts.histogram_charts(frame),
        cost=charts.cost_charts(frame),
        costs=facts.cost(frame),
        endings=[facts.endings(frame)],
        attempts=attempts.attempts(frame, calls),
        slowest=attempts.slowest(frame, calls),
        conflicts=conflicts(frame),
        provenance=facts.provenance(frame, calls),
        entries=entries,
        remarks=remarks,
        place=figures.place,
        figures=figures.as_json,
        palette=_script(json.dumps({name: look.color for name, look in known.items()})),
    )


def check_path(path: Path) -> None:
    """Refuses a path that no page can go to.

    Raises:
        ValueError: If it is a folder, its folder does not exist, or that is the folder of a run.
    """
    if path.is_dir() or not path.parent.is_dir():
        got = "a folder" if path.is_dir() else "a file in a folder that does not exist"
        raise ValueError(f"--out must be an .html file to write, got {got}: {path}")
    parts.refuse_run(path.parent, "a page")


def write(path: Path, text: str) -> int:
    """Writes the page, whole or not at all; returns its bytes.

    Raises:
        OSError: If it could not be written.
    """
    content = text.encode()
    parts.replace(path, content, then="report again")
    return len(content)

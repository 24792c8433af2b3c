"""One self-contained HTML file that shows what runs have found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from rddrs_dist.analysis.captions import caption, dataset
from rddrs_dist.analysis.lines import Line, available, methods_of, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.report import attempts, charts, facts
from rddrs_dist.report.gallery import Entry
from rddrs_dist.results import files

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


def render(
    lines: Sequence[Line], entries: Sequence[Entry] = (), remarks: Sequence[str] = ()
) -> str:
    """The page.

    Args:
        lines: The lines to show.
        entries: Images of the gallery.
        remarks: What the gallery lacks, and why.
    """
    figures, known, calls = _Figures([]), methods_of(lines), attempts.events(lines)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    folder = resources.files("rddrs_dist.report")
    html, style, *scripts = (folder.joinpath(name).read_text("utf-8") for name in _FILES)
    return environment.from_string(html).render(
        style=style,
        scripts=scripts,
        plotly=get_plotlyjs(),
        title=f"Certified robustness, {dataset(lines)}",
        caption=caption(lines, sizes=available(lines)),
        incomplete=[one.folder for one in sources(lines) if not one.complete],
        methods=[(name, one.label, one.colour) for name, one in known.items()],
        sizes=[(name, SIZES[name].title) for name in available(lines)],
        curves=charts.curve_charts(lines),
        radii=facts.at_radii(lines),
        histograms=charts.histogram_charts(lines),
        cost=facts.cost(lines),
        endings=[facts.endings(lines)],
        attempts=attempts.attempts(lines, calls),
        slowest=attempts.slowest(lines, calls),
        conflicts=facts.conflicts(lines),
        provenance=facts.provenance(lines, calls),
        entries=entries,
        remarks=remarks,
        place=figures.place,
        figures=figures.as_json,
        palette=_script(json.dumps({name: one.colour for name, one in known.items()})),
    )


def check_path(path: Path) -> None:
    """Refuses a path that no page can go to.

    Raises:
        ValueError: If it is a folder, its folder does not exist, or that is the folder of a run.
    """
    if path.is_dir() or not path.parent.is_dir():
        got = "a folder" if path.is_dir() else "a file in a folder that does not exist"
        raise ValueError(f"--out must be an .html file to write, got {got}: {path}")
    files.refuse_run(path.parent, "a page")


def write(path: Path, text: str) -> int:
    """Writes the page, whole or not at all; returns its bytes.

    Raises:
        OSError: If it could not be written.
    """
    content = text.encode()
    files.replace(path, content, then="report again")
    return len(content)

"""One self-contained HTML file that shows what runs have found."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from rddrs_dist.analysis.captions import caption, dataset
from rddrs_dist.analysis.lines import Line, available, methods_of, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.report import charts, facts
from rddrs_dist.report.gallery import Entry
from rddrs_dist.results import files

_FILES = ("page.html", "page.css", "hover.js", "page.js")


def render(
    lines: Sequence[Line], entries: Sequence[Entry] = (), remarks: Sequence[str] = ()
) -> str:
    """The page.

    Args:
        lines: The lines to show.
        entries: Images of the gallery.
        remarks: What the gallery lacks, and why.
    """
    known, calls = methods_of(lines), facts.events(lines)
    curves, histograms = charts.curve_charts(lines), charts.histogram_charts(lines)
    figures = [one.figure for one in (*curves, *entries, *histograms)]
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
        curves=curves,
        radii=facts.at_radii(lines),
        histograms=histograms,
        cost=facts.cost(lines),
        endings=facts.endings(lines),
        attempts=facts.attempts(lines, calls),
        slowest=facts.slowest(lines, calls),
        conflicts=facts.conflicts(lines),
        provenance=facts.provenance(lines, calls),
        entries=entries,
        remarks=remarks,
        # Nothing in it may end a script element.
        figures=f"[{','.join(str(one.to_json()) for one in figures)}]".replace("<", "\\u003c"),
        palette={name: one.colour for name, one in known.items()},
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

"""One self-contained HTML file that shows what runs have found."""

from collections.abc import Sequence
from importlib import resources

import jinja2
from plotly.offline import get_plotlyjs

from rddrs_dist.analysis.captions import caption, dataset, sight
from rddrs_dist.analysis.lines import Line, available, methods_of, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.report import charts, facts
from rddrs_dist.report.gallery import Entry

_FILES = ("page.html", "page.css", "hover.js", "page.js")


def render(
    lines: Sequence[Line],
    entries: Sequence[Entry] = (),
    remarks: Sequence[str] = (),
    held: facts.Table | None = None,
) -> str:
    """The page of lines, with images of the gallery, and remarks on what it lacks, and why.

    On request it has the table of what regions hold.
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
        sight=" ".join(sight(lines)),
        incomplete=[one.folder for one in sources(lines) if not one.complete],
        names={one.label: one.method for one in lines},
        methods=[(name, one.legend, one.colour) for name, one in known.items()],
        sizes=[(name, SIZES[name].title) for name in available(lines)],
        curves=curves,
        radii=facts.at_radii(lines),
        held=held or facts.Table([]),
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

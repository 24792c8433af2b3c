"""The command `rddrs report`: its flags and what it does."""

from dataclasses import dataclass
from pathlib import Path

from rddrs_dist.analysis.commands import Shown
from rddrs_dist.results import files


@dataclass(frozen=True)
class Report(Shown):
    """Write one page that shows what one or more runs have found, as the HTML file --out.

    Attributes:
        images: Images to look at more closely; by default those with the largest, median and
            smallest region of each run. Wants stored scales (--save-scales) and the data.
        checkpoints: Networks of the runs, to see how far one can walk before the class changes.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
    """

    images: tuple[int, ...] | None = None
    checkpoints: tuple[Path, ...] = ()
    data_root: Path | None = None


def report(options: Report) -> int:
    """Writes the page, whole or not at all."""
    # Imported here: plotly takes its time, and the other commands need not wait for it.
    from rddrs_dist.report.facts import held
    from rddrs_dist.report.gallery import gallery
    from rddrs_dist.report.page import render

    out = options.out
    if out.is_dir() or not out.parent.is_dir():
        got = "a folder" if out.is_dir() else "a file in a folder that does not exist"
        raise ValueError(f"--out must be an .html file to write, got {got}: {out}")
    files.refuse_run(out.parent, "a page")
    lines = options.lines()
    found = gallery(lines, options.images, options.checkpoints, options.data_root)
    page = render(lines, *found, held(lines, options.data_root)).encode()
    files.replace(out, page, then="report again")
    print(f"wrote {out} ({len(page) / 1e6:.1f} MB): open it in a browser")
    return 0

"""The command `rddrs report`: its flags and what it does."""

from dataclasses import dataclass
from pathlib import Path

from rddrs_dist.analysis.commands import Shown


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
    """Writes the page."""
    # Imported here: plotly takes its time, and the other commands need not wait for it.
    from rddrs_dist.report.gallery import gallery
    from rddrs_dist.report.page import check_path, render, write

    check_path(options.out)
    lines = options.lines()
    found = gallery(lines, options.images, options.checkpoints, options.data_root)
    size = write(options.out, render(lines, *found))
    print(f"wrote {options.out} ({size / 1e6:.1f} MB): open it in a browser")
    return 0

"""The commands `curves | inside | explain | status | export`: their flags and what they do."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from rddrs_dist.analysis import captions, inside, tables
from rddrs_dist.analysis.explain import explained
from rddrs_dist.analysis.lines import Line, chosen, lines_of, read_lines
from rddrs_dist.analysis.logs import export as write_logs
from rddrs_dist.analysis.logs import read_logs
from rddrs_dist.analysis.status import status as told
from rddrs_dist.results import files, read_run
from rddrs_dist.sight import SIGHTED


@dataclass(frozen=True)
class Shown:
    """What a figure or a page is about.

    Attributes:
        dirs: Folders written by `rddrs certify`.
        out: Where to write.
        common: Show only the images that all methods of a sigma have certified.
        simultaneous: Also what holds for all images of a method at once, with probability
            1 - alpha.
        sighted: A region counts where the upper bound of its blindness is at most this; 1 shows
            all rows, sighted or not.
        logs: Logs that locuslab/smoothing, DDRS or ANCER wrote, radii in the l2 norm, each as
            NAME@SIGMA=FILE: what the line is called and the standard deviation of its base noise.
            NAME@SIGMA:RADIUS=FILE for a log of `rddrs export --radius RADIUS`.
    """

    dirs: Positional[tuple[Path, ...]]
    out: Path
    common: bool = False
    simultaneous: bool = False
    sighted: float = SIGHTED
    logs: tuple[str, ...] = ()

    def lines(self) -> list[Line]:
        """Reads all that is to be shown."""
        return read_lines(
            self.dirs,
            common=self.common,
            simultaneous=self.simultaneous,
            sighted=self.sighted,
            logs=read_logs(self.logs),
        )


@dataclass(frozen=True)
class Curves(Shown):
    """Draw certified-accuracy curves of one or more runs.

    Attributes:
        sizes: Sizes of regions to draw, such as l2 and proxy; by default all that are known but
            data99.
    """

    sizes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inside:
    """Find the largest rotation, shift, scaling, brightness, contrast and blur that regions hold.

    Attributes:
        dirs: Folders written by `rddrs certify --save-scales`.
        out: Folder for inside.csv, one row per image and method, and inside.md, their medians.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        sighted: A region counts where the upper bound of its blindness is at most this; 1 counts
            all rows, sighted or not.
    """

    dirs: Positional[tuple[Path, ...]]
    out: Path
    data_root: Path | None = None
    sighted: float = SIGHTED


@dataclass(frozen=True)
class Explain:
    """Say in words what the certificates of one image hold.

    Attributes:
        dir: Folder written by `rddrs certify`.
        index: The image, as its position in the test split.
        method: Method whose row is meant; by default all.
        sighted: A region counts where the upper bound of its blindness is at most this.
    """

    dir: Positional[Path]
    index: Positional[int]
    method: str | None = None
    sighted: float = SIGHTED


@dataclass(frozen=True)
class Status:
    """Show how far a run is and what it has found, while it runs and afterwards.

    Attributes:
        dir: Folder given to `rddrs certify` as --out.
    """

    dir: Positional[Path]


@dataclass(frozen=True)
class Export:
    """Write the rows of a run as tab-separated logs, one per method.

    Attributes:
        dir: Folder written by `rddrs certify`.
        out: Folder for the logs; made if missing.
        format: cohen-tsv, the columns of locuslab/smoothing, with one radius; or ancer-tsv, those
            of ANCER, with l2 and proxy radius.
        radius: The radius of cohen-tsv: l2, proxy, or disjoint after `rddrs disjoint`. Rows go out
            sighted or not: no log has a place for blindness.
    """

    dir: Positional[Path]
    out: Path
    format: Literal["cohen-tsv", "ancer-tsv"] = "cohen-tsv"
    radius: Literal["l2", "proxy", "disjoint"] = "l2"


def curves(options: Curves) -> int:
    """Draws the figures, writes the tables and prints them."""
    lines = options.lines()
    sizes = chosen(lines, options.sizes)
    # Imported here: matplotlib takes its time, and wrong input should not have to wait for it.
    from rddrs_dist.analysis import plots

    written = plots.write(lines, options.out, sizes)
    written += [options.out / "table.md", options.out / "table.csv"]
    table = tables.summary(lines, sizes)
    notes = "".join(f"\n{sentence}\n" for sentence in captions.notes(lines, sizes))
    written[-2].write_text(tables.to_markdown(table) + notes)
    table.to_csv(written[-1], index=False)
    print(tables.to_text(table) + notes)
    print("\nwrote " + ", ".join(str(path) for path in written))
    return 0


def hold(options: Inside) -> int:
    """Writes what regions hold and prints the medians."""
    files.refuse_run(options.out, "tables")
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {options.out}; pass another")
    lines = read_lines(options.dirs, sighted=options.sighted)
    found = inside.of_lines(lines, options.data_root)
    medians = inside.medians(lines, found)
    rows = [list(medians[0]), *(list(row.values()) for row in medians)]
    notes = "".join(f"\n{one}\n" for one in (inside.notes(), *captions.sight(lines)))
    options.out.mkdir(parents=True, exist_ok=True)
    written = [options.out / "inside.md", options.out / "inside.csv"]
    written[0].write_text(tables.markdown(rows) + "\n" + notes)
    found.to_csv(written[1], index=False)
    print(tables.aligned(rows) + "\n" + notes)
    print("wrote " + ", ".join(map(str, written)))
    return 0


def explain(options: Explain) -> int:
    """Prints what the certificates of one image hold."""
    lines = read_lines([options.dir], sighted=options.sighted)
    names = [line.method for line in lines]
    if options.method is not None:
        if options.method not in names:
            raise ValueError(f"--method must be one of {', '.join(names)}, got {options.method}")
        lines = [line for line in lines if line.method == options.method]
    print(explained(lines, options.index), end="")
    return 0


def status(options: Status) -> int:
    """Prints where a run stands."""
    print(told(options.dir, time.time()), end="")
    return 0


def export(options: Export) -> int:
    """Writes the rows of a run as logs."""
    kind, radius = options.format, options.radius
    written = write_logs(lines_of(*read_run(options.dir)), options.out, kind=kind, radius=radius)
    print("wrote " + ", ".join(str(path) for path in written))
    return 0

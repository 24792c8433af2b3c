"""Lines of figures: the rows of one method at one sigma, made once by what reads runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from rddrs_dist.analysis.sizes import SIZES, size_of
from rddrs_dist.methods import METHODS
from rddrs_dist.region import cube_radius
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.reading import Source, read_run, without_duplicates
from rddrs_dist.sight import SIGHTED
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

EXACT_DIGITS = 15  # as many as every number of double precision keeps
UNMEASURED = "sight not measured"
_WIDEST = 2**18  # elements of an image, more than any that is certified
_SAME = 1e-6  # less than the logarithms of the volumes of balls of two dimensions differ by
# Dashes and colours of lines that are none of our methods.
_OTHERS = tuple(product(("solid", (0, (2, 2))), ("#a6761d", "#56b4e9", "#8c6bb1")))
_AXES = {"simultaneous_l2_radius": "min_axis", "simultaneous_proxy_radius": "mean_axis"}


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a figure.

    Attributes:
        sigma: Standard deviation of the noise that the network was trained for.
        method: Name of the method, or of a log of another project.
        rows: One row per image, by index; what is not known is null.
        source: Where the rows come from; of a run that is spread over copies one of them.
        colour: Of the line, as hexadecimal digits.
        dashes: Of the line, as matplotlib takes them.
        common: Whether rows were left out since other lines lack their images.
        sighted: The upper bound of blindness up to which a region counts; 1 counts all.
    """

    sigma: float
    method: str
    rows: pd.DataFrame
    source: Source
    colour: str = "#000000"
    dashes: Any = "solid"
    common: bool = False
    sighted: float = SIGHTED

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rank(self) -> tuple[int, str]:
        """Where its method comes in a list, others than our own last."""
        return [*METHODS, self.method].index(self.method), self.method

    @property
    def is_log(self) -> bool:
        """Whether it is the log of another project."""
        return self.source.digits is not None

    @property
    def rounded(self) -> bool:
        """Whether radii may be above those that were computed, as logs print few digits."""
        return self.source.digits is not None and self.source.digits < EXACT_DIGITS

    @property
    def label(self) -> str:
        """What a legend says."""
        if self.is_log:
            return f"{self.method} ({'rounded' if self.rounded else 'log'})"
        return METHODS[self.method].label if self.method in METHODS else self.method

    @property
    def legend(self) -> str:
        """The label, with what is not known of the line."""
        if self.knows_sight:
            return self.label
        if self.is_log:
            return f"{self.label.removesuffix(')')}, {UNMEASURED})"
        return f"{self.label} ({UNMEASURED})"

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction of each image is right, (N,)."""
        return self.rows["correct"].to_numpy(bool) & ~self.abstained

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Whether there is no prediction of each image, (N,)."""
        return self.rows["prediction"].to_numpy() == ABSTAIN

    @property
    def knows_sight(self) -> bool:
        """Whether blindness was measured: a run without training images and a log have none."""
        known = ~np.isnan(self.column("blindness_upper"))
        return bool(known.any() or (self.abstained.all() and not self.is_log))

    @property
    def is_sighted(self) -> NDArray[np.bool_]:
        """Whether each region may count, (N,).

        A region whose blindness is not known counts where that is so of the whole line.
        """
        if self.sighted >= 1 or not self.knows_sight:
            return np.ones(len(self), bool)
        return self.column("blindness_upper") <= self.sighted

    @cached_property
    def dimension(self) -> int | None:
        """d, elements of an image; None where it is not known.

        No row says it, but a region's proxy radius and volume do: log volume is d log radius and
        the logarithm of the volume of the unit ball in d dimensions.
        """
        radii, volumes = self.column("proxy_radius"), self.column("log_volume")
        known = (radii > 0) & np.isfinite(volumes)
        if not known.any():
            return None
        logs, volumes = np.log(radii[known]), volumes[known]
        d = np.arange(1, _WIDEST + 1)
        unit = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1)
        for one in np.flatnonzero(np.abs(unit + d * logs[0] - volumes[0]) < _SAME):
            if (np.abs(unit[one] + d[one] * logs - volumes) < _SAME).all():
                return int(d[one])
        return None

    def column(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, (N,), NaN where it is null or not there."""
        if name not in self.rows:
            return np.full(len(self), np.nan)
        return self.rows[name].to_numpy(np.float64)

    def certified(self, size: str) -> NDArray[np.float64] | None:
        """Each image's size where the prediction is right and sighted, and -1 where it is not.

        A wrong prediction, an abstention or a region that is not sighted is -1 rather than 0, so
        that it does not count as certified at radius 0.

        Returns:
            Array (N,), in pixels scaled to [0, 1]; None where that of some region is not known.

        Raises:
            ValueError: If there is no such size, or its column is none of the rows.
        """
        known = size_of(size)
        if known.column not in self.rows and not known.wants:
            raise ValueError(
                f"size {size} must be a column of the rows, got {known.column}; choose one of "
                f"{', '.join(self.rows.select_dtypes('float').columns)}"
            )
        return self.counted(known.column)

    def counted(self, column: str) -> NDArray[np.float64] | None:
        """A column where the prediction is right and sighted, -1 elsewhere; None as above.

        An abstention may lack it: that of an image for which nothing could be computed does.
        """
        values = self.column(column)
        lacking = np.isnan(values)
        if lacking.all() or lacking[~self.abstained].any():
            return None
        return np.where(self.right & self.is_sighted, values, -1.0)

    def average(self, size: str) -> float:
        """The mean certified size, others as 0 (Zhai et al. 2020, section 5); NaN if not known."""
        sizes = self.certified(size)
        return float("nan") if sizes is None else float(np.maximum(sizes, 0.0).mean())

    def median(self, size: str) -> float:
        """The median certified size, others as 0; NaN if not known."""
        sizes = self.certified(size)
        return float("nan") if sizes is None else float(np.median(np.maximum(sizes, 0.0)))

    def with_simultaneous(self) -> "Line":
        """Adds sizes at level alpha / N, so that they hold for all N images of the line at once.

        By the union bound all N certificates of a line hold with probability at least 1 - alpha.
        The class was selected before, and counts are those of the rows: nothing is drawn anew.
        A log, which has no counts, stays as it was.
        """
        if self.is_log:
            return self
        count, n = (self.rows[name].to_numpy(np.int64) for name in ("count", "n"))
        (alpha,) = set(self.rows["alpha"])
        shares = self.source.config.get("sequential_tests", 1) * len(self)
        radius = normal_quantile_lower(clopper_pearson_lower(count, n, alpha / shares))
        radius = np.fmin(radius, self.column("radius_limit"))
        # What was an abstention stays one.
        radius = np.where(self.column("radius") > 0, radius, 0.0)
        exact = {name: radius * self.column(axis) for name, axis in _AXES.items()}
        below = {name: np.where(own > 0, np.nextafter(own, 0), 0.0) for name, own in exact.items()}
        return replace(self, rows=self.rows.assign(simultaneous_radius=radius, **below))


def read_lines(
    directories: Sequence[str | Path],
    *,
    common: bool = False,
    simultaneous: bool = False,
    sighted: float = SIGHTED,
    logs: Sequence[Line] = (),
) -> list[Line]:
    """Reads runs whose curves may be drawn beside each other; lines come in the order of figures.

    Args:
        directories: Folders of runs; a run may be given twice or be spread over copies.
        common: Whether to keep, for each sigma, only the images that every line has; otherwise
            runs of one sigma must be over the same images.
        simultaneous: Whether to add sizes that hold for all images of a line at once.
        sighted: The upper bound of blindness up to which a region counts, above 0; 1 counts all.
        logs: Lines of `logs.read_log` to be drawn beside them. Their data and networks are not
            known; their labels are held against those of the runs.

    Raises:
        FileNotFoundError: If a folder does not exist or has no part.
        ValueError: If there is nothing to read, `sighted` is no such bound, the runs are of
            different data sets, hold the same method at the same sigma twice, or are over
            different images or of different networks at one sigma.
    """
    if not directories and not logs:
        raise ValueError("at least one folder of a run is wanted, got none; name one")
    if not 0 < sighted <= 1:
        raise ValueError(
            f"--sighted must be above 0 and at most 1, got {sighted:g}; give the blindness up to "
            f"which a region counts, such as {SIGHTED:g}, or 1 for all"
        )
    found = [line for one in dict.fromkeys(directories) for line in lines_of(*read_run(one))]
    found = [replace(one, sighted=sighted) for one in found]
    _check([*found, *logs])
    panels = by_sigma(_merged([*found, *logs])).values()
    found = [one for panel in panels for one in _with_images(panel, common=common)]
    return in_order(one.with_simultaneous() if simultaneous else one for one in found)


def lines_of(source: Source, frame: pd.DataFrame) -> list[Line]:
    """The lines of rows that come from one place, in the order of figures."""
    groups = frame.sort_values("index").groupby(["sigma", "method"])
    rows = [own.reset_index(drop=True) for _, own in groups]
    return in_order(
        Line(own["sigma"].tolist()[0], own["method"].tolist()[0], own, source) for own in rows
    )


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Sorts lines by sigma and as `METHODS` does, others last, and gives each its style.

    Of six methods that are none of ours no two look the same.
    """
    ordered = sorted(lines, key=lambda one: (one.sigma, *one.rank))
    styles = {name: (own.dashes, own.colour) for name, own in METHODS.items()}
    others = sorted({one.method for one in ordered} - METHODS.keys())
    styles |= zip(others, cycle(_OTHERS), strict=False)
    styled = [(one, *styles[one.method]) for one in ordered]
    return [replace(one, dashes=dashes, colour=colour) for one, dashes, colour in styled]


def by_sigma(lines: Iterable[Line]) -> dict[float, list[Line]]:
    """The lines of each panel, by increasing sigma."""
    ordered = sorted(lines, key=lambda one: one.sigma)
    return {sigma: list(own) for sigma, own in groupby(ordered, lambda one: one.sigma)}


def methods_of(lines: Iterable[Line]) -> dict[str, Line]:
    """One line of each method, in the order of `METHODS`: lines of a method look the same.

    The name in the legend says if any of them is rounded or lacks a measure of sight.
    """
    ordered = sorted(lines, key=lambda one: (*one.rank, one.rounded, not one.knows_sight))
    return {one.method: one for one in ordered}


def sources(lines: Iterable[Line]) -> list[Source]:
    """Where lines come from, each place once."""
    return list({line.source.folder: line.source for line in lines}.values())


def cube_of(lines: Iterable[Line]) -> tuple[int, float] | None:
    """d, and the radius of the ball with the volume of [0, 1]^d; None where d is not known."""
    d = next((known for line in lines if (known := line.dimension)), None)
    return None if d is None else (d, float(cube_radius(d)))


def available(lines: Sequence[Line]) -> tuple[str, ...]:
    """Names of the sizes shown by default that every run has; a log may lack what others have."""
    return tuple(one.name for one in SIZES.values() if one.default and _have(lines, one.name))


def chosen(lines: Sequence[Line], names: Sequence[str] = ()) -> tuple[str, ...]:
    """The sizes that were asked for; those shown by default that the lines have where none was.

    Raises:
        ValueError: If there is no such size or the lines lack it.
    """
    for name in names:
        if not _have(lines, name):
            known, remedy = ", ".join(available(lines)), size_of(name).wants or "leave it out"
            raise ValueError(f"{name} is not known of all runs, which have {known}; {remedy}")
    return tuple(dict.fromkeys(names)) or available(lines)


def _have(lines: Sequence[Line], size: str) -> bool:
    """Whether every run has a size, and some line does."""
    known = [(line, line.certified(size) is not None) for line in lines]
    return any(own for _, own in known) and all(line.is_log or own for line, own in known)


def _merged(lines: Iterable[Line]) -> list[Line]:
    """Lines, those of copies of one run as one; raises where one would mix two runs."""
    merged = []
    ordered = sorted(lines, key=lambda one: (one.sigma, *one.rank))
    for (sigma, method), own in groupby(ordered, lambda one: (one.sigma, one.method)):
        copies = list(own)
        names = " and ".join(sorted(str(one.source.folder) for one in copies))
        if len({one.source.run_id for one in copies}) > 1:
            raise ValueError(
                f"method {method} at sigma {sigma} must come from one run, got {names}; leave one "
                "of them out or draw them apart"
            )
        rows = without_duplicates(pd.concat([one.rows for one in copies]), names)
        whole = max(copies, key=lambda one: one.source.complete)
        merged.append(replace(whole, rows=rows.sort_values("index", ignore_index=True)))
    return merged


def _check(lines: Sequence[Line]) -> None:
    """Raises where runs are of different data, or of different networks at one sigma."""
    runs = sources(line for line in lines if not line.is_log)
    kinds = {one.folder: (one.dataset, one.metadata.get("data_sha256")) for one in runs}
    _check_same("of one data set", kinds)
    told = [one.rows[["index", "label"]].assign(of=str(one.source.folder)) for one in lines]
    labels = pd.concat(told).drop_duplicates(["index", "label"])
    for image, own in labels.loc[labels.duplicated("index", keep=False)].groupby("index"):
        named = dict(zip(own["of"], own["label"], strict=True))
        _check_same(f"of one split, with one label for each image, as for image {image}", named)
    for sigma, panel in by_sigma(lines).items():
        networks = {one.folder: one.network for one in sources(panel) if one.network}
        _check_same(f"of one network (sha256) at sigma {sigma}", networks)


def _check_same(wanted: str, known: Mapping[Any, Any]) -> None:
    """Raises where what is known of runs differs."""
    if len(set(known.values())) > 1:
        got = ", ".join(f"{folder} has {value}" for folder, value in known.items())
        raise ValueError(f"runs of one figure must be {wanted}, got: {got}; draw them apart")


def _with_images(panel: Sequence[Line], *, common: bool) -> list[Line]:
    """The lines of one panel if all places have the same images, or with those in common."""
    images: dict[Path, set[int]] = {}
    for line in panel:
        images.setdefault(line.source.folder, set()).update(line.rows["index"])
    shared = set.intersection(*(set(one.rows["index"]) for one in panel))
    if common and shared:
        kept = [one.rows.loc[one.rows["index"].isin(list(shared))] for one in panel]
        kept = [rows.reset_index(drop=True) for rows in kept]
        return [replace(one, rows=own, common=True) for one, own in zip(panel, kept, strict=True)]
    if common or len(set(map(frozenset, images.values()))) > 1:
        counts = ", ".join(f"{folder} has {len(own)}" for folder, own in images.items())
        raise ValueError(
            f"runs at sigma {panel[0].sigma} must be over the same images, got: {counts}, "
            f"{len(shared)} in common; complete the runs, ask for the common images only where "
            "there are any, or draw them apart"
        )
    return list(panel)

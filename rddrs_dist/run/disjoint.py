"""The soundness pass: which certified regions of a run overlap, and how far they must shrink."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tyro.conf import Positional

from rddrs_dist import data
from rddrs_dist.analysis import tables
from rddrs_dist.certify import ABSTAIN
from rddrs_dist.disjoint import in_order, order_free
from rddrs_dist.results import disjoint as sound
from rddrs_dist.results import read
from rddrs_dist.results.scales import Scales
from rddrs_dist.run.overlap import Overlap, Source


@dataclass(frozen=True)
class Soundness:
    """Shrink certified regions until no two of different predictions overlap.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        rule: narrow: regions become narrower toward those they overlap with; order-free: they
            shrink by the smallest factor of their pairs; in-order: they shrink until they leave
            the images before them alone, as in the DDRS paper.
        actors: Blocks of pairs that are worked on at once.
        cpus_per_actor: CPU cores, and torch threads, of each.
        address: Ray cluster to join; by default a local one is started.
    """

    dir: Positional[Path]
    data_root: Path | None = None
    rule: Literal["narrow", "order-free", "in-order"] = "narrow"
    actors: int = 2
    cpus_per_actor: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        for name in ("actors", "cpus_per_actor"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least 1, got {getattr(self, name)}")


# How a region was told apart from those of other predictions.
BALL, PLANE, CONFLICT = "ball", "plane", "conflict"


@dataclass(frozen=True)
class Line:
    """What the pass did to one method.

    Attributes:
        method: Its name.
        regions: Images with a region.
        pairs: Pairs of regions of different predictions.
        searched: Those that needed a plane.
        conflicts: Those for which there is none.
        smaller: Regions that had to become smaller.
        before: Mean proxy radius of all images, wrong predictions and abstentions as 0.
        shrunk: The same of regions that shrink by the factor of their worst pair.
        after: The same of the sound regions.
        steps: Mean steps of conjugate gradients per pair that was searched.
        pairs_per_second: Pairs, by the wall clock.
    """

    method: str
    regions: int
    pairs: int
    searched: int
    conflicts: int
    smaller: int
    before: float
    shrunk: float
    after: float
    steps: float
    pairs_per_second: float


def soundness(options: Soundness) -> list[Line]:
    """Does the pass for all methods of a run and writes its columns beside the rows.

    What an earlier pass has left is removed first.

    Raises:
        ValueError: If scales are missing or are not those of the rows, or data differ.
        FileNotFoundError: If the run or its data are absent.
        OSError: If the result could not be written.
    """
    # Imported here: ray takes its time, and wrong input should not have to wait for it.
    from rddrs_dist.run.cluster import Tasks

    frame = read(options.dir)
    images, scales = _images(frame, options.data_root), Scales(options.dir, _hashes(frame))
    rows, lines = [], []
    with Tasks.connected(options) as tasks:
        sound.clear(options.dir)
        source = Source(options, images, scales, tasks, (itertools.count(), itertools.count()))
        for method, own in frame.groupby("method", sort=False):
            one = _Pass(source, str(method), own)
            rows.append(one.rows())
            lines.append(one.line())
    facts = {"rule": options.rule, "methods": [vars(line) for line in lines]}
    sound.write(options.dir, pd.concat(rows), facts)
    return lines


def _hashes(frame: pd.DataFrame) -> dict[tuple[str, int], str]:
    """What the scale of each row must hash to."""
    own = frame.loc[frame["prediction"] != ABSTAIN]
    named = own[["method", "index", "scale_sha256"]].itertuples(index=False)
    return {(str(method), int(index)): str(sha256) for method, index, sha256 in named}


def as_text(lines: Sequence[Line]) -> str:
    """What the pass did, one line per method; sizes and shares are floored."""
    header = (
        *("method", "regions", "pairs", "searched", "conflicts", "smaller"),
        *("mean proxy", "shrunk", "sound", "kept %", "steps", "pairs/s"),
    )
    body = [[line.method, *_cells(line)] for line in lines]
    return tables.aligned([header, *body]) + "\n"


def _cells(line: Line) -> list[str]:
    """The numbers of one line."""
    counts = (line.regions, line.pairs, line.searched, line.conflicts, line.smaller)
    kept = line.after / line.before if line.before else 1.0
    return [
        *map(str, counts),
        *(f"{tables.floor_to(size, 3):.3f}" for size in (line.before, line.shrunk, line.after)),
        f"{100 * tables.floor_to(kept, 3):.1f}",
        f"{line.steps:.1f}",
        f"{line.pairs_per_second:.0f}",
    ]


def _images(frame: pd.DataFrame, data_root: Path | None) -> data.ImageSet:
    """The images that were certified."""
    name = frame.attrs["dataset"]
    images = data.load(name, "test", data_root)
    wanted = frame.attrs["config"]["data_sha256"]
    if images.sha256 != wanted:
        raise ValueError(
            f"images of {name} must be those that were certified (sha256 {wanted[:12]}...), got "
            f"{images.sha256[:12]}...: give the folder of that run with --data-root"
        )
    return images


def _below(first: float, second: float) -> float:
    """A product of numbers of at least 0, rounded downward."""
    return max(math.nextafter(first * second, 0.0), 0.0)


class _Pass:
    """The pass for one method."""

    def __init__(self, source: Source, method: str, frame: pd.DataFrame) -> None:
        """Looks at all pairs and makes regions smaller where they must be."""
        self._rule, self._method, self._frame = source.options.rule, method, frame
        own = frame.loc[frame["prediction"] != ABSTAIN].sort_values("index")
        self._regions = own.reset_index(drop=True)
        self._radius = self._regions["radius"].to_numpy(np.float64)
        overlap = Overlap(source, method, self._regions)
        start = time.monotonic()
        self._found = overlap.search()
        self._seconds = time.monotonic() - start
        self._sizes = self._reduced(overlap)

    def _reduced(self, overlap: Overlap) -> pd.DataFrame:
        """Radius, sizes and scale of what is left of each region."""
        if self._rule == "narrow":
            return self._narrowed(overlap)
        rule = {"order-free": order_free, "in-order": in_order}[self._rule]
        return self._shrunk(rule(self._radius, self._found.conflicts))

    def _shrunk(self, radius: NDArray[np.float64]) -> pd.DataFrame:
        """Regions of the same shape; those that keep their radius keep their sizes."""
        own, kept = self._regions, radius == self._radius
        sizes = {
            f"sound_{kind}_radius": np.where(
                kept, own[f"{kind}_radius"], np.nextafter(radius * own[axis], 0.0)
            )
            for kind, axis in (("l2", "min_axis"), ("proxy", "mean_axis"))
        }
        scale = {"sound_scale_sha256": own["scale_sha256"]}
        return pd.DataFrame({"sound_radius": radius} | sizes | scale)

    def _narrowed(self, overlap: Overlap) -> pd.DataFrame:
        """Regions that are narrower toward others; see `soundness.narrowed`."""
        found = self._shrunk(self._radius)
        for one in overlap.narrowed(self._radius, self._found.conflicts):
            radius = _below(self._radius[one.region], one.share)
            sizes = (_below(radius, axis) for axis in (one.min_axis, one.mean_axis))
            own = found["sound_scale_sha256"].iloc[one.region]
            found.loc[one.region] = [radius, *sizes, one.scale.sha256 if one.scale else own]
        return found

    def _nearest(self) -> pd.DataFrame:
        """Smallest factor of each region's pairs, 1 without conflicts, and with which image."""
        conflicts, indices = self._found.conflicts, self._regions["index"].to_numpy()
        mu = np.tile(conflicts.mu(self._radius), 2)
        own = np.concatenate([conflicts.first, conflicts.second])
        other = indices[np.concatenate([conflicts.second, conflicts.first])]
        pairs = pd.DataFrame({"own": own, "mu": mu, "nearest_conflict": other})
        worst = pairs.sort_values(["mu", "nearest_conflict"]).drop_duplicates("own")
        found = worst.set_index("own").reindex(range(len(indices)))
        return found.assign(
            mu=found["mu"].fillna(1.0), nearest_conflict=found["nearest_conflict"].astype("Int64")
        )

    def rows(self) -> pd.DataFrame:
        """The new columns of every image; abstentions have no region."""
        nearest = self._nearest()
        planes = np.isin(np.arange(len(self._regions)), self._found.planes)
        witness = np.where(nearest["nearest_conflict"].notna(), CONFLICT, PLANE)
        witness = np.where(planes, witness, BALL)
        found = pd.concat([self._regions[["index"]], self._sizes, nearest], axis=1)
        found = found.assign(witness=witness).set_index("index")
        found = found.reindex(self._frame["index"]).reset_index()
        sizes = [name for name in self._sizes if name != "sound_scale_sha256"]
        empty = dict.fromkeys(sizes, 0.0) | {"mu": 1.0, "witness": BALL}
        return found.fillna(empty).assign(method=self._method, rule=self._rule)

    def line(self) -> Line:
        """What the pass did."""
        sound_ones = self._sizes["sound_proxy_radius"].to_numpy()
        shrunk = self._shrunk(order_free(self._radius, self._found.conflicts))
        right = self._regions["correct"].to_numpy(bool)
        before = self._regions["proxy_radius"].to_numpy()

        def mean(sizes: Any) -> float:
            return float((np.asarray(sizes) * right).sum() / len(self._frame))

        return Line(
            method=self._method,
            regions=len(self._regions),
            pairs=self._found.pairs,
            searched=self._found.searched,
            conflicts=len(self._found.conflicts.first),
            smaller=int((sound_ones < before).sum()),
            before=mean(before),
            shrunk=mean(shrunk["sound_proxy_radius"]),
            after=mean(sound_ones),
            steps=self._found.steps / max(self._found.searched, 1),
            pairs_per_second=self._found.pairs / self._seconds,
        )

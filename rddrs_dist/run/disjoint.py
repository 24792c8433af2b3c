"""The disjoint pass: which certified regions of a run overlap, and what is left of each of them.

This is meant for hundreds of regions per method. Of 1,000 dense regions of 784 elements the driver
holds 1.4 GB of hyperplanes (twice that while they come in) and 1.2 GB of narrowed scales, and the
workers share 2.5 GB of regions.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm
from tyro.conf import Positional

from rddrs_dist import data
from rddrs_dist.analysis import tables
from rddrs_dist.disjoint import (
    Contacts,
    bounds,
    contacts,
    in_order,
    narrowed,
    order_free,
    preconditioner,
)
from rddrs_dist.noise import Packed, pack
from rddrs_dist.region import ABSTAIN, Floats, Region, product_below
from rddrs_dist.results import disjoint as results
from rddrs_dist.results import read_run, scales
from rddrs_dist.run.experiment import Execution

# What tells a region from those of other predictions.
BALL, HYPERPLANE, CONFLICT = "ball", "hyperplane", "conflict"
# Bytes that a block of pairs may take, for each number of a vector and of a dense scale.
_BLOCK_BYTES = 1 << 30
_PER_NUMBER, _PER_ENTRY = 48, 12
# Regions whose mean shape is the preconditioner's.
_SHAPES = 64


@dataclass(frozen=True)
class Disjoint:
    """Make certified regions smaller until no two of different predictions overlap.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        rule: narrow: regions become narrower toward those they overlap with; order-free: they
            shrink by the smallest factor of their pairs; in-order: they shrink until they leave
            the images before them alone, as in the DDRS paper.
        executor: ray: blocks of pairs are worked on by processes on this machine or a cluster;
            local: in this process, one after another, without Ray.
        actors: Blocks of pairs that are worked on at once; by default 2, and 1 with
            --executor local.
        cpus_per_actor: CPU cores, and torch threads, of each.
        address: Ray cluster to join; by default a local one is started.
    """

    dir: Positional[Path]
    data_root: Path | None = None
    rule: Literal["narrow", "order-free", "in-order"] = "narrow"
    executor: Literal["ray", "local"] = "ray"
    actors: int | None = None
    cpus_per_actor: int = 1
    address: str | None = None

    @property
    def execution(self) -> Execution:
        """Who computes, with what."""
        return Execution(self.executor, self.actors, self.cpus_per_actor, address=self.address)


def disjoint(options: Disjoint) -> list[dict[str, Any]]:
    """Does the pass for all methods of a run and writes its columns beside the rows.

    What an earlier pass has left is removed first.

    Returns:
        What the pass did to each method; see `_Pass.summary`.

    Raises:
        ValueError: If scales are missing or are not those of the rows, data differ, or an option
            cannot be.
        FileNotFoundError: If the run or its data are absent.
        OSError: If the result could not be written.
    """
    options.execution.check()
    source, frame = read_run(options.dir, with_disjoint=False)
    images = source.images(options.data_root)
    stored = scales.Scales(options.dir, scales.hashes(frame, "scale_sha256"))
    with _connected(options.execution) as tasks:
        results.clear(options.dir)
        passes = [
            _Pass(options, tasks, images, stored, str(method), rows)
            for method, rows in frame.groupby("method", sort=False)
        ]
        for number, one in enumerate(passes):
            one.make_smaller(number)
    summaries = [one.summary() for one in passes]
    rows = pd.concat([one.rows() for one in passes]).assign(rule=options.rule)
    facts = {"rule": options.rule, "methods": summaries}
    results.write(options.dir, rows, {one.method: one.hyperplanes() for one in passes}, facts)
    return summaries


def _connected(execution: Execution) -> AbstractContextManager[Any]:
    """What runs calls: on Ray, or in this process."""
    # Imported here: ray takes its time, and wrong input should not have to wait for it.
    if execution.executor == "local":
        from rddrs_dist.run.local import LocalTasks as Tasks
    else:
        from rddrs_dist.run.cluster import Tasks
    return Tasks.connected(execution)


class _Pass:
    """The pass for one method, whose N regions are in the order of their images."""

    def __init__(
        self,
        options: Disjoint,
        tasks: Any,
        images: data.ImageSet,
        stored: scales.Scales,
        method: str,
        rows: pd.DataFrame,
    ) -> None:
        """Searches for a hyperplane between any two regions of different predictions."""
        own = rows.loc[rows["prediction"] != ABSTAIN].sort_values("index", ignore_index=True)
        self._options, self._tasks, self._images, self._stored = options, tasks, images, stored
        self.method, self._all, self._own = method, rows["index"], own
        self._indices, self._radius = own["index"].to_numpy(), own["radius"].to_numpy()
        start = time.monotonic()
        found = self._searched()
        self._seconds = time.monotonic() - start
        self._searched_pairs, self._steps = len(found), int(found.steps.sum())
        self._near = np.union1d(found.first, found.second)
        self._conflicts = found[~(found.factor(self._radius) > 1)]
        self._sizes = self._shrunk(self._radius)

    def _regions(self, chosen: slice) -> Region:
        """Some of the regions, at least one, with their scales from disk."""
        indices = self._indices[chosen]
        return Region(
            torch.from_numpy(self._images.images[indices]),
            self._stored.noise(self.method, indices.tolist(), self._images.event_shape),
            self._radius[chosen].copy(),
            self._own["prediction"].to_numpy()[chosen].copy(),
        )

    def _each(self, function: Any, calls: Iterable[tuple], what: str, count: int) -> Iterable[Any]:
        """Results of calls, with a bar on a terminal."""
        done = self._tasks.each(function, calls)
        return tqdm(done, f"{self.method}, {what}", total=count, disable=None)

    def _searched(self) -> Contacts:
        """What is found of all pairs, in blocks of pairs that fit into memory."""
        count, dimension = len(self._own), math.prod(self._images.event_shape)
        if not count:
            return Contacts.none(dimension)
        some = self._regions(slice(None, None, -(-count // _SHAPES)))
        size = block_size(dimension, dense=not some.noise.is_diagonal)
        same = (self._options.cpus_per_actor, self._tasks.put(preconditioner(some)))
        blocks = [
            (start, self._tasks.put(self._regions(slice(start, start + size))))
            for start in range(0, count, size)
        ]
        calls = [(*same, *one, *other) for k, one in enumerate(blocks) for other in blocks[k:]]
        return Contacts.joined(list(self._each(_search, calls, "blocks of pairs", len(calls))))

    def make_smaller(self, number: int) -> None:
        """Makes regions smaller by the rule; narrowed scales go to the file of this number."""
        if self._options.rule == "narrow":
            self._narrow(number)
        else:
            rule = {"order-free": order_free, "in-order": in_order}[self._options.rule]
            self._sizes = self._shrunk(rule(self._radius, self._conflicts))

    def _shrunk(self, radius: Floats) -> pd.DataFrame:
        """Sizes of regions of the same shape and other radii (N,); those that keep theirs too."""
        own, kept = self._own, radius == self._radius
        sizes = {
            f"disjoint_{kind}_radius": np.where(
                kept, own[f"{kind}_radius"], product_below(radius, own[axis].to_numpy())
            )
            for kind, axis in (("l2", "min_axis"), ("proxy", "mean_axis"))
        }
        scale = {"disjoint_scale_sha256": own["scale_sha256"]}
        return pd.DataFrame({"disjoint_radius": radius} | sizes | scale)

    def _narrow(self, number: int) -> None:
        """Narrows regions toward those they overlap with, and stores their scales."""
        threads, least = self._options.cpus_per_actor, self._own["min_axis"]
        found = self._conflicts
        calls = (
            (threads, k, self._regions(slice(k, k + 1)), least[k], found.normal[own], limits)
            for k, own, limits in bounds(self._radius, found)
        )
        count = len(np.union1d(found.first, found.second))
        made: dict[scales.Key, Packed] = {}
        for k, sizes, scale in self._each(_narrow, calls, "regions to be narrowed", count):
            own = scale.sha256 if scale else self._own["scale_sha256"][k]
            self._sizes.loc[k] = [*sizes, own]
            if scale:
                made[self.method, int(self._indices[k])] = scale
        if made:
            scales.write(self._options.dir, number, made, scales.NARROWED)

    def hyperplanes(self) -> dict[str, NDArray[Any]]:
        """Those of the conflicts, as `results.disjoint` stores them."""
        first, second = (self._indices[k] for k in (self._conflicts.first, self._conflicts.second))
        return {"first": first, "second": second, "normal": self._conflicts.normal}

    def rows(self) -> pd.DataFrame:
        """The new columns of every image; abstentions have no region."""
        worst = self._nearest()
        witness = pd.Series(BALL, self._own.index)
        witness[self._near], witness[worst.index] = HYPERPLANE, CONFLICT
        found = self._sizes.join(worst).assign(index=self._indices, witness=witness)
        found = found.set_index("index").reindex(self._all).reset_index()
        empty = dict.fromkeys([name for name in self._sizes if name.endswith("radius")], 0.0)
        empty = empty | {"contact_factor": 1.0, "witness": BALL}
        return found.fillna(empty).assign(method=self.method)

    def _nearest(self) -> pd.DataFrame:
        """Of each region with a conflict the smallest contact factor, and the image it is with."""
        found, factor = self._conflicts, self._conflicts.factor(self._radius)
        sides = [(found.first, found.second), (found.second, found.first)]
        pairs = pd.concat(
            pd.DataFrame({"contact_factor": factor, "nearest_conflict": self._indices[other]}, own)
            for own, other in sides
        )
        pairs = pairs.sort_values([*pairs]).astype({"nearest_conflict": "Int64"})
        return pairs.loc[~pairs.index.duplicated()]

    def summary(self) -> dict[str, Any]:
        """Numbers of the pass, as plain JSON values.

        Pairs are those of different predictions; "searched" the ones that the distance of their
        centres does not tell apart. Sizes are mean proxy radii of all images, wrong predictions
        and abstentions as 0: before the pass, after it, and of regions that are shrunk by the
        factor of their worst pair. Steps are those of conjugate gradients per searched pair.
        """
        own, found = self._own, self._conflicts
        before, after = own["proxy_radius"], self._sizes["disjoint_proxy_radius"]
        shrunk = self._shrunk(order_free(self._radius, found))["disjoint_proxy_radius"]

        def mean(sizes: Any) -> float:
            return float((sizes.to_numpy() * own["correct"].to_numpy()).sum() / len(self._all))

        alike, count = own["prediction"].value_counts().to_numpy(), len(own)
        pairs = (count * (count - 1) - int((alike * (alike - 1)).sum())) // 2
        return {
            "method": self.method,
            "regions": count,
            "pairs": pairs,
            "searched": self._searched_pairs,
            "conflicts": len(found),
            "smaller": int((after < before).sum()),
            "before": mean(before),
            "shrunk": mean(shrunk),
            "after": mean(after),
            "steps": self._steps / max(self._searched_pairs, 1),
            "pairs_per_second": pairs / self._seconds,
        }


def _search(
    threads: int, inverse: Tensor | None, start: int, first: Region, other: int, second: Region
) -> Contacts:
    """Hyperplanes between two blocks of regions, or within one, numbered from their starts."""
    torch.set_num_threads(threads)
    found = contacts(first, None if other == start else second, inverse)
    return replace(found, first=start + found.first, second=other + found.second)


def _narrow(
    threads: int,
    number: int,
    region: Region,
    min_axis: float,
    normals: NDArray[np.float32],
    limits: Floats,
) -> tuple[int, tuple[float, ...], Packed | None]:
    """Radius, l2 radius, proxy radius and scale of a region narrowed; None where none is left."""
    torch.set_num_threads(threads)
    w, b = torch.from_numpy(normals).double(), torch.from_numpy(limits)
    made = narrowed(region, min_axis, w, b)
    if made is None:
        return number, (0.0, 0.0, 0.0), None
    sizes = (made.radius, made.l2_radius, made.proxy_radius)
    return number, tuple(float(one[0]) for one in sizes), pack(made.noise)[0]


def block_size(dimension: int, dense: bool) -> int:
    """Regions m in either half of a block of pairs, at least one.

    If dense, 2 m scales of d^2 numbers come to m^2 vectors of d.
    """
    vectors = _PER_NUMBER * dimension
    matrices = _PER_ENTRY * dimension**2 if dense else 0
    root = math.sqrt(matrices**2 + vectors * _BLOCK_BYTES) - matrices
    return max(1, int(root / vectors))


def as_text(summaries: Sequence[Mapping[str, Any]]) -> str:
    """What the pass did, one line per method; sizes and shares are floored."""
    header = (
        *("method", "regions", "pairs", "searched", "conflicts", "smaller"),
        *("mean proxy", "shrunk", "disjoint", "kept %", "steps", "pairs/s"),
    )
    body = []
    for one in summaries:
        whole = (str(one[name]) for name in header[:6])
        sizes = (f"{tables.floor_to(one[k], 3):.3f}" for k in ("before", "shrunk", "after"))
        kept = 100 * tables.floor_to(one["after"] / one["before"] if one["before"] else 1.0, 3)
        rates = (f"{kept:.1f}", f"{one['steps']:.1f}", f"{one['pairs_per_second']:.0f}")
        body.append([*whole, *sizes, *rates])
    return tables.aligned([header, *body]) + "\n"

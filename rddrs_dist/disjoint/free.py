"""A new region is made smaller until it leaves those of other classes alone.

Earlier regions keep what they have. Toward each of them that the new one overlaps a plane is
sought that leaves the earlier one whole, and the new one is narrowed to its own side
(`soundness.narrowed`). To shrink it instead would never keep more: it wants such a plane too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, linalg

from rddrs_dist.disjoint import mean_inverse, narrowed, support, touch
from rddrs_dist.disjoint.memory import Entry, regions
from rddrs_dist.noise import FullNoise, Noise
from rddrs_dist.noise.base import above_rounding

_EPS = torch.finfo(torch.float64).eps
# Regions that were made smaller are apart by this share of their size.
_APART = 1 - 1e-6
# Earlier regions in one search: of dense ones at d = 784 so many take 80 MB for a while.
_TOGETHER = 32
_WEIGHTS = 400
_SINGULAR = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]


@dataclass(frozen=True, eq=False)
class _Plane:
    """A plane that leaves an earlier region whole.

    Attributes:
        normal: w, (d,) float64.
        room: r ||S^T w|| that it leaves to the new region, at most.
        share: That over what the new region has; below 1 it has to be narrowed.
    """

    normal: Tensor
    room: float
    share: float


def made_room(new: Entry, earlier: Iterable[Entry]) -> Entry | None:
    """The largest region found inside a new one that overlaps none of another class.

    Args:
        new: The certified region; its noise need not be triangular.
        earlier: What is remembered.

    Returns:
        The region to remember; None where there is no room that could be told from nothing.
    """
    try:
        planes = list(_planes(new, earlier))
        made = new if not planes and _is_plain(new.noise) else _inside(new, planes)
    except _SINGULAR:  # so narrow that its matrices are singular; no region is sound too
        return None
    # Where rounding exceeds the region itself no point would ever be recognised.
    if made is None or not made.min_axis > 0 or not made.certain > made.radius / 2:
        return None
    return made


def _is_plain(noise: Noise) -> bool:
    """Whether S is lower triangular, as that of an entry has to be."""
    return not isinstance(noise, FullNoise) or not bool(noise.scale.triu(1).any())


def _planes(new: Entry, earlier: Iterable[Entry]) -> Iterator[_Plane]:
    """One for each earlier region of another class that no plane tells from the new one."""
    rivals = [one for one in earlier if one.prediction != new.prediction and _in_reach(new, one)]
    own = new.regions()
    inverse = mean_inverse([own]) if rivals else None
    for _, kind in groupby(sorted(rivals, key=_kind), key=_kind):
        chosen = list(kind)
        for start in range(0, len(chosen), _TOGETHER):
            part = chosen[start : start + _TOGETHER]
            touched = touch(own, regions(part), inverse)
            apart = touched.mu(own.radius, regions(part).radius) > 1 + 1e-12
            found = (_best_plane(new, part[row]) for row in touched.columns[~apart].tolist())
            yield from (plane for plane in found if not plane.share > 1 + 1e-12)


def _kind(entry: Entry) -> str:
    """Kind of noise."""
    return type(entry.noise).__name__


def _in_reach(new: Entry, one: Entry) -> bool:
    """Whether the distance of the centres leaves open that two regions overlap."""
    distance = float((one.point - new.point).norm())
    return not distance * (1 - 1e-9) > new.reach + one.reach


def _best_plane(new: Entry, one: Entry) -> _Plane:
    """The plane that leaves the most to the new region, as the earlier one keeps all.

    `touch` is for two regions that shrink alike, and not sharp beside a border. The plane sought
    is the w of ((1 - s) A_i + s A_j) w = x_j - x_i for one s here too. In the frame in which the
    earlier region is a ball and A_i diagonal each s costs O(d), so that all are tried; the last
    one, s = 1, leaves some room wherever the new centre is outside.
    """
    own, other = new.radius * new.noise.matrix()[0], one.radius * one.noise.matrix()[0]
    v = one.point - new.point
    ratio = linalg.solve(other, own)
    values, frame = linalg.eigh(ratio @ ratio.mT)  # (d, d) @ (d, d)
    values = above_rounding(values)
    y = frame.mT @ linalg.solve(other, v)
    ends = values[0].log10() - 3, values[-1].log10() + 3
    weights = torch.logspace(float(ends[0]), float(ends[1]), _WEIGHTS, dtype=torch.float64)
    tilts = torch.cat([y / (values + weights.unsqueeze(1)), y.unsqueeze(0)])  # (m, d)
    share = (tilts @ y - tilts.norm(dim=1)) / (tilts * values.sqrt()).norm(dim=1)
    w = linalg.solve(other.mT, frame @ tilts[share.nan_to_num(-torch.inf).argmax()])
    return _claimed(w / w.norm(), new, one)


def _claimed(w: Tensor, new: Entry, one: Entry) -> _Plane:
    """What holds of a plane with normal w (d,) float64, rounding errors included."""
    v = one.point - new.point
    slack = 2 * (len(v) + 8) * _EPS
    gap = float(w @ v - slack * w.norm() * v.norm())
    room = gap * (1 - slack) - one.radius * _support(one.noise, w) * (1 + slack)
    return _Plane(w, room, room / (new.radius * _support(new.noise, w)))


def _support(noise: Noise, w: Tensor) -> float:
    """||S^T w||, at least, for w (d,) float64."""
    return float(support(noise, w.unsqueeze(0)))


def _inside(new: Entry, planes: list[_Plane]) -> Entry | None:
    """The region narrowed to its side of all planes, triangular; None where no room is left."""
    d = len(new.point)
    normals = torch.stack([plane.normal for plane in planes]) if planes else torch.empty(0, d)
    bounds = [plane.room / new.radius * _APART for plane in planes]
    bounds = torch.tensor(bounds, dtype=torch.float64)
    found = narrowed(new.noise, new.min_axis, normals.double(), bounds)
    if found is None:
        return None
    noise, share = found
    return Entry.of(new.centre, new.prediction, new.radius * share, noise, new.query)

"""A new region is narrowed until it leaves those of other classes alone.

Earlier regions keep what they have. Toward each of them that the new one overlaps a hyperplane is
sought that leaves the earlier one whole, and the new one is narrowed to its own side
(`narrowing.narrowed`). To shrink it instead would never keep more: it wants such a hyperplane too.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, linalg

from rddrs_dist.disjoint.contact import contacts, preconditioner
from rddrs_dist.disjoint.memory import Entry
from rddrs_dist.disjoint.narrowing import SINGULAR, narrowed, support_above
from rddrs_dist.disjoint.rules import APART
from rddrs_dist.noise.base import above_rounding
from rddrs_dist.region import Region

_EPS = torch.finfo(torch.float64).eps
_WEIGHTS = 400


def narrowed_to_fit(new: Region, query: int, earlier: Iterable[Entry]) -> Entry | None:
    """The largest region found inside a new one that overlaps none of another class.

    Args:
        new: The certified region of one image, on the CPU; its scale need not be triangular.
        query: Number of its query.
        earlier: What is remembered.

    Returns:
        What to remember; None where no region is left that could be told from nothing.
    """
    try:
        found = list(_hyperplanes(new, earlier))
        made: Region | None = new
        if found or not new.noise.is_lower:
            empty = torch.empty(0, new.dimension, dtype=torch.float64)
            normals = torch.stack([w for w, _ in found]) if found else empty
            bounds = torch.tensor([bound for _, bound in found], dtype=torch.float64)
            made = narrowed(new, float(new.min_axis[0]), normals, bounds)
        entry = None if made is None else Entry.of(made, query)
    except SINGULAR:  # so narrow that its matrices are singular; no region is disjoint too
        return None
    # Where rounding exceeds the region itself no point would ever be recognised.
    if entry is None or not entry.min_axis > 0 or not entry.certain > entry.radius / 2:
        return None
    return entry


def _hyperplanes(new: Region, earlier: Iterable[Entry]) -> Iterator[tuple[Tensor, float]]:
    """One for each earlier region of another class that overlaps the new one.

    Yields:
        Its normal w, (d,) float64, and a bound: the earlier region is kept whole where ||S^T w||
        of the new one is at most that.
    """
    reach, prediction = float(new.radius[0] * new.max_axis[0]) * (1 + 1e-8), new.prediction[0]

    def is_rival(one: Entry) -> bool:
        distance = float((one.point - _point(new)).norm())
        return one.prediction != prediction and not distance * (1 - 1e-9) > reach + one.reach

    rivals = list(filter(is_rival, earlier))
    inverse = preconditioner(new) if rivals else None
    for one in rivals:
        found = contacts(new, one.region, inverse)
        if not (found.factor(new.radius, one.region.radius) > 1 + 1e-12).all():
            w = _best_normal(new, one.region)
            free, wanted = _free(w, new, one.region), _support(new, w)
            if not free / wanted > 1 + 1e-12:
                yield w, free / float(new.radius[0]) * APART


def _point(region: Region) -> Tensor:
    """x of one image, (d,) float64."""
    return region.centre[0].flatten().double()


def _best_normal(new: Region, one: Region) -> Tensor:
    """The hyperplane that leaves the most to the new region, as the earlier one keeps all.

    `contacts` is for two regions that shrink alike, and not sharp beside a border. The normal
    sought is the w of ((1 - s) A_i + s A_j) w = x_j - x_i for one s here too. In the frame in
    which the earlier region is a ball and A_i diagonal each s costs O(d), so that all are tried;
    the last one, s = 1, leaves something wherever the new centre is outside.

    Returns:
        Its normal w, (d,) float64.
    """
    own, other = (float(each.radius[0]) * each.noise.matrix()[0] for each in (new, one))
    v = _point(one) - _point(new)
    ratio = linalg.solve(other, own)
    values, frame = linalg.eigh(ratio @ ratio.mT)  # (d, d) @ (d, d)
    values = above_rounding(values)
    y = frame.mT @ linalg.solve(other, v)
    ends = values[0].log10() - 3, values[-1].log10() + 3
    weights = torch.logspace(float(ends[0]), float(ends[1]), _WEIGHTS, dtype=torch.float64)
    tilts = torch.cat([y / (values + weights.unsqueeze(1)), y.unsqueeze(0)])  # (m, d)
    share = (tilts @ y - tilts.norm(dim=1)) / (tilts * values.sqrt()).norm(dim=1)
    w = linalg.solve(other.mT, frame @ tilts[share.nan_to_num(-torch.inf).argmax()])
    return w / w.norm()


def _free(w: Tensor, new: Region, one: Region) -> float:
    """The r ||S^T w|| that an earlier region leaves to a new one, never above the truth."""
    v = _point(one) - _point(new)
    slack = 2 * (len(v) + 8) * _EPS
    gap = float(w @ v - slack * w.norm() * v.norm())
    return gap * (1 - slack) - _support(one, w) * (1 + slack)


def _support(region: Region, w: Tensor) -> float:
    """r ||S^T w||, never below the truth, for w (d,) float64."""
    return float(region.radius[0]) * float(support_above(region.noise, w.unsqueeze(0)))

"""Whether any two sound regions of different predictions are apart.

Told by the distance of their centres, by a stored plane, or by a plane that is sought here: the w
of ((1 - s) A_i + s A_j) w = x_j - x_i, A = r^2 S S^T, for the s at which both regions touch it
alike. What is claimed of any plane is computed in float64 with its rounding errors.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rddrs_dist.verify.certificates import ABSTAIN
from rddrs_dist.verify.findings import Fault, Finding, Outcome, Row, located, odd, place, wrong
from rddrs_dist.verify.folder import line
from rddrs_dist.verify.regions import Pass, judge_nearest
from rddrs_dist.verify.scales import Scale

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
PLANES = re.compile(r"_sound-planes-\d{5,}\.safetensors")
_EPS = float(np.finfo(np.float64).eps)
# Steps of each search for a plane.
_STEPS = 12


@dataclass(eq=False)
class _Regions:
    """The regions of one method, N of them, in the order of their images.

    Attributes:
        rows: Of the run.
        points: Centres, (N, d).
        radius: Of the certified regions, (N,).
        sound: Of the sound ones, (N,).
        outer: Reads a certified scale by the number of its region.
        inner: A sound one.
        factors: By region, mu of each image that a plane is stored with.
        other: Pairs of different predictions, (N, N).
        told: Pairs that need no other plane, (N, N).
    """

    rows: Sequence[Row]
    points: Floats
    radius: Floats
    sound: Floats
    outer: Callable[[int], Scale]
    inner: Callable[[int], Scale]
    factors: list[dict[int, float]] = field(init=False)
    other: Booleans = field(init=False)
    told: Booleans = field(init=False)

    def __post_init__(self) -> None:
        self.factors = [{} for _ in self.rows]
        predictions = np.array([row["prediction"] for row in self.rows], np.int64)
        self.other = predictions[:, None] != predictions
        empty = self.sound <= 0
        self.told = ~self.other | empty[:, None] | empty

    def apart(self, radius: Floats, scale: Callable[[int], Scale]) -> Booleans:
        """Pairs whose centres are farther apart than their longest semi-axes reach, (N, N)."""
        longest = np.array([_longest(scale(k)) for k in range(len(self.rows))])
        reach = radius * longest
        norms = np.square(self.points).sum(1)
        norms = norms[:, None] + norms
        squares = norms * (1 - 8 * self.points.shape[1] * _EPS) - 2 * self.points @ self.points.T
        return squares > np.square(reach[:, None] + reach) * (1 + 1e-8)


def check_regions(
    known: Pass, images: NDArray[np.float32], folder: Path, most: int, seed: int
) -> Iterator[Outcome]:
    """The checks "sound pairs" and "nearest conflicts".

    Args:
        known: The pass; regions whose scale is not stored are passed over.
        images: Of the run, (all, ...).
        folder: Where planes are.
        most: Pairs of each method without a stored plane that one is sought for.
        seed: Chooses the pairs that a plane is sought for.
    """
    methods = {method: _regions(known, method, images) for method, _ in known.certified}
    files = sorted(path for path in folder.iterdir() if PLANES.fullmatch(path.name))
    findings = [
        one
        for path in files
        for one in located("sound pairs", path.name, _from_file(path, methods))
    ]
    pairs, sought, passed_over = 0, 0, 0
    for own in methods.values():
        pairs += int(np.triu(own.other, 1).sum())
        left = np.argwhere(np.triu(~(own.told | own.apart(own.sound, own.inner)), 1))
        chosen = np.random.default_rng(seed).permutation(len(left))[:most]
        sought, passed_over = sought + len(chosen), passed_over + len(left) - len(chosen)
        findings += _sought(own, left[np.sort(chosen)])
    if passed_over:
        fault = odd("no pair passed over: raise --pairs", f"{passed_over} of {pairs} pairs")
        findings += located("sound pairs", folder.name, [fault])
    checked = f"{pairs} pairs, {sought} of them by planes sought here"
    yield Outcome("sound pairs", checked, tuple(findings))
    yield _nearest(known, list(methods.values()))


def _regions(known: Pass, method: str, images: NDArray[np.float32]) -> _Regions:
    """All regions of a method whose scales are there."""
    keys = sorted(key for key in known.certified if key[0] == method)
    rows = [known.certified[key] for key in keys if known.certified[key]["prediction"] != ABSTAIN]
    rows = [row for row in rows if row in known.own and known.scale((method, row["index"]))]
    points = images[[row["index"] for row in rows]].reshape(len(rows), known.dimension)

    def sound(k: int) -> Scale:
        found = known.scale((method, rows[k]["index"]))
        return found or known.own[rows[k]]

    return _Regions(
        rows,
        points.astype(np.float64),
        np.array([row["radius"] for row in rows], np.float64),
        np.array([known.rows[method, row["index"]]["sound_radius"] for row in rows], np.float64),
        lambda k: known.own[rows[k]],
        sound,
    )


def _nearest(known: Pass, methods: Sequence[_Regions]) -> Outcome:
    """The check of mu, nearest_conflict and witness; after all planes were read."""
    findings: list[Finding] = []
    for own in methods:
        alone = np.all(own.apart(own.radius, own.outer) | ~own.other, axis=1).tolist()
        for row, factors, apart in zip(own.rows, own.factors, alone, strict=True):
            sound = known.rows[row["method"], row["index"]]
            faults = judge_nearest(row, sound, factors, apart)
            findings += located("nearest conflicts", place(row), faults)
    count = sum(len(own.rows) for own in methods)
    return Outcome("nearest conflicts", f"{count} rows", tuple(findings))


def _from_file(path: Path, methods: Mapping[str, _Regions]) -> Iterator[Fault]:
    """Takes the planes of a file; each has to tell its two sound regions apart."""
    try:
        content = load_file(path)
        (method,) = {name.split("/")[0] for name in content}
        first, second, w = (content[f"{method}/{name}"] for name in ("first", "second", "normal"))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        yield wrong("a whole file of planes of one method", line(error))
        return
    own = methods.get(method)
    if own is None or not first.shape == second.shape == w.shape[:1]:
        yield wrong("a plane for each pair of a method of the run", method)
        return
    where = {row["index"]: k for k, row in enumerate(own.rows)}
    known = np.array([i in where and j in where for i, j in zip(first, second, strict=True)], bool)
    i, j = (np.array([where[k] for k in one[known]], np.int64) for one in (first, second))
    if not known.all() or not own.other[i, j].all() or w.shape[1] != own.points.shape[1]:
        yield wrong("planes between regions of different predictions", "others too")
        return
    yield from _taken(own, (i, j), w.astype(np.float64))


def _taken(own: _Regions, pairs: tuple[Integers, Integers], w: Floats) -> Iterator[Fault]:
    """Notes which pairs are apart, and the factor of each with its certified regions."""
    i, j = pairs
    gap = _gap(w, own.points[j] - own.points[i])
    certified, sound = (
        radius[i] * _supports(scale, i, w) + radius[j] * _supports(scale, j, w)
        for radius, scale in ((own.radius, own.outer), (own.sound, own.inner))
    )
    apart = (gap > sound * (1 + 4 * _EPS)) | (own.sound[i] <= 0) | (own.sound[j] <= 0)
    own.told[i[apart], j[apart]] = own.told[j[apart], i[apart]] = True
    indices = [row["index"] for row in own.rows]
    for a, b, mu, clear in zip(i, j, np.maximum(gap / certified, 0), apart, strict=True):
        own.factors[a][indices[b]] = own.factors[b][indices[a]] = float(mu)
        if not clear:
            yield wrong(f"a plane between images {indices[a]} and {indices[b]}", "none")


def _gap(w: Floats, v: Floats) -> Floats:
    """w . v, at most, (m,), for w and v (m, d)."""
    slack = 2 * (w.shape[1] + 8) * _EPS
    return (w * v).sum(1) - slack * np.linalg.norm(w, axis=1) * np.linalg.norm(v, axis=1)


def _supports(scale: Callable[[int], Scale], owners: Integers, w: Floats) -> Floats:
    """||S^T w||, at least, (m,), of the region that owns each w (m, d)."""
    found = np.empty(len(w))
    for owner in np.unique(owners):
        chosen = owners == owner
        found[chosen] = _support(_numbers(scale(int(owner)), w.shape[1]), w[chosen])
    return found


def _support(numbers: Floats, w: Floats) -> Floats:
    """||S^T w||, at least, (m,), for S (d, d), or its diagonal, and w (m, d)."""
    images = w * numbers if numbers.ndim == 1 else w @ numbers
    slack = 2 * (w.shape[1] + 8) * _EPS
    rounding = slack * np.linalg.norm(numbers) * np.linalg.norm(w, axis=1)
    return np.linalg.norm(images, axis=1) * (1 + slack) + rounding


def _numbers(scale: Scale, d: int) -> Floats:
    """S, (d, d), or its diagonal, (d,)."""
    if scale.kind in ("isotropic", "diagonal"):
        return np.array(np.broadcast_to(scale.values, d), np.float64)
    return scale.matrix(d).astype(np.float64)


def _longest(scale: Scale) -> float:
    """Longest axis of a scale, at least, but for rounding."""
    if scale.kind in ("isotropic", "diagonal"):
        return float(scale.values.max())
    return float(np.linalg.norm(scale.values.astype(np.float64)))


def _sought(own: _Regions, pairs: Integers) -> Iterator[Finding]:
    """Looks for a plane between the sound regions of each pair."""
    d = own.points.shape[1]
    for i, j in pairs.tolist():
        one, other = (_numbers(own.inner(k), d) * own.sound[k] for k in (i, j))
        mu = _contact(one, other, own.points[j] - own.points[i])
        if not mu > 1:
            fault = wrong(
                f"a plane between it and image {own.rows[j]['index']}",
                f"none: they touch when scaled by {mu:.6g}, the most that was found",
            )
            yield from located("sound pairs", place(own.rows[i]), [fault])


def _contact(one: Floats, other: Floats, v: Floats) -> float:
    """A factor by which two regions may scale and are still apart; the search ends above 1."""
    if one.ndim != other.ndim:
        one, other = (np.diag(own) if own.ndim == 1 else own for own in (one, other))
    flat = one.ndim == 1
    first, second = (own * own if flat else own @ own.T for own in (one, other))
    share, best = 0.5, 0.0
    for _ in range(_STEPS):
        mixed = (1 - share) * first + share * second
        try:
            w = np.asarray(v / mixed if flat else np.linalg.solve(mixed, v), np.float64)
        except np.linalg.LinAlgError:
            break
        left, right = (float(_support(own, w[None])[0]) for own in (one, other))
        mu = float(_gap(w[None], v[None])[0]) / ((left + right) * (1 + 4 * _EPS))
        if not mu > best or mu > 1:
            return max(mu, best)
        best, share = mu, left / (left + right)
    return best

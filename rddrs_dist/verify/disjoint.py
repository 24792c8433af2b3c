"""What a disjoint pass claims of each region, and whether any two of them have a common point.

Two regions of different predictions are disjoint by the distance of their centres, by a stored
hyperplane, or by one that is sought here: the w of ((1 - s) A_i + s A_j) w = x_j - x_i,
A = r^2 S S^T, for the s at which both regions touch it alike. What is claimed of any hyperplane is
computed in float64 with its rounding errors.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rddrs_dist.results import files
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.disjoint import DISJOINT, HYPERPLANES, fingerprint
from rddrs_dist.verify.certificates import LOOSE
from rddrs_dist.verify.findings import (
    Checked,
    Claim,
    Finding,
    Key,
    Row,
    Severity,
    at,
    bounded,
    each_row,
    key_of,
)
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.scales import Axes, Floats, Stored

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
_SIZES = ("disjoint_radius", "disjoint_l2_radius", "disjoint_proxy_radius")
_RULES = ("narrow", "order-free", "in-order")
_AGAIN = "run `rddrs disjoint` again"
_EPS = float(np.finfo(np.float64).eps)
_STEPS = 12  # of each search for a hyperplane


def check_rows(case: Case) -> Checked:
    """The pass has one row per row of the run, and is of the parts that are there."""
    table, now = case.pass_table, fingerprint(case.options.dir)
    if table.findings:
        claims = [(False, f"{one.wanted}; {_AGAIN}", one.found) for one in table.findings]
        return "0 rows", at(DISJOINT, claims)
    stored = table.metadata.get("parts")
    same = (stored == now, f"a pass over the parts that are there, {now}; {_AGAIN}", stored)
    findings = at(DISJOINT, [same])
    wanted, there = Counter(map(key_of, case.rows)), Counter(map(key_of, table.rows))
    for key in sorted(wanted | there):
        findings += at(key, [(wanted[key] == there[key], f"{wanted[key]} rows", there[key])])
    return f"{len(table.rows)} rows", findings


def _certified(case: Case) -> list[Row]:
    """Rows of the run that the pass has a row of, if their images and scales are there."""
    _ = case.images, case.scales
    return [case.by_key[key] for key in case.disjoint]


def _store(case: Case, key: Key) -> Stored:
    """Where the scale is that the disjoint sizes of a row are of."""
    own, certified = case.disjoint[key]["disjoint_scale_sha256"], case.by_key[key]["scale_sha256"]
    return case.scales if own == certified else case.narrowed


def _inner(case: Case, key: Key) -> Floats | None:
    """That scale; None where none of its hash is stored."""
    return _store(case, key).find(key, case.disjoint[key]["disjoint_scale_sha256"])


def check_sizes(case: Case) -> Checked:
    """Disjoint sizes are finite, not above the certified ones, nor above radius times axis."""

    def judge(row: Row) -> Iterator[Claim]:
        key, own = key_of(row), case.disjoint[key_of(row)]
        for name in _SIZES:
            most = row[name.removeprefix("disjoint_")]
            yield 0 <= own[name] <= most, f"{name} from 0 to {most!r}", own[name]
        if row["prediction"] == ABSTAIN:
            claims = (own["disjoint_scale_sha256"], own["nearest_conflict"], own["contact_factor"])
            nothing = "no scale, no conflict and contact_factor 1 for an abstention"
            yield claims == (None, None, 1), nothing, claims
            return
        least, mean = row["min_axis"], row["mean_axis"]  # checked by themselves
        if _store(case, key) is not case.scales:
            if (scale := _inner(case, key)) is None:
                return  # told by `disjoint scales`
            axes = Axes.of(scale)
            least, mean = float(axes.above[0]), axes.mean_above
        finite = all(math.isfinite(own[name]) for name in _SIZES)
        for name, axis in zip(_SIZES[1:], (least, mean), strict=True) if finite else ():
            most = Fraction(own["disjoint_radius"]) * Fraction(axis)
            yield from bounded(name, own[name], float(most) * (1 - 1e-6), most)

    return each_row(_certified(case), judge)


def check_scales(case: Case) -> Checked:
    """Each region has a scale of its hash, and lies inside the certified: ||S^-1 S'|| r' <= r."""
    rows = [row for row in _certified(case) if row["prediction"] != ABSTAIN]
    findings = list(case.narrowed.findings)
    for row in rows:
        key, own = key_of(row), case.disjoint[key_of(row)]
        inner, outer = _inner(case, key), case.scales.find(key)
        sha256, radius = own["disjoint_scale_sha256"], own["disjoint_radius"]
        findings += at(key, [(inner is not None, f"a usable scale of sha256 {sha256}", "none")])
        # The certified region itself is inside. An outer one that is not usable `scales` tells of.
        if inner is None or outer is None or _store(case, key) is case.scales or not radius > 0:
            continue
        reach = _stretch(_dense(outer), _dense(inner)) * radius
        wanted = f"a region inside that of radius {row['radius']!r}"
        inside = (reach <= row["radius"], wanted, f"one that reaches to {reach!r}")
        findings += at(key, [inside])
    return f"{len(rows)} rows", findings


def _dense(scale: Floats) -> Floats:
    """S, (d, d)."""
    return np.diag(scale) if scale.ndim == 1 else scale


def _stretch(outer: Floats, inner: Floats) -> float:
    """||S^-1 S'||, at least.

    For X near S^-1 S' it is at most ||X|| + ||S' - S X|| / min_axis, with d eps of the products
    for their rounding.
    """
    least, norm = float(Axes.of(outer).below[0]), np.linalg.norm
    try:
        x = np.linalg.solve(outer, inner)
    except np.linalg.LinAlgError:
        return math.inf
    rounding = len(x) * _EPS * (norm(inner) + norm(outer) * norm(x))
    rest = (norm(inner - outer @ x) + rounding) / least if least > 0 else math.inf
    return float(norm(x, 2) + len(x) * _EPS * norm(x) + rest)


class Regions:
    """The N regions of one method whose scales are stored, in the order of their images."""

    def __init__(self, case: Case, keys: Sequence[Key]) -> None:
        usable = (key for key in keys if case.scales.find(key) is not None)
        self.keys = [key for key in usable if _inner(case, key) is not None]
        rows = [case.by_key[key] for key in self.keys]
        images = case.images.images[[row["index"] for row in rows]]
        self.points = images.reshape(len(rows), math.prod(case.event_shape)).astype(np.float64)
        left = [case.disjoint[key]["disjoint_radius"] for key in self.keys]
        self.left = np.array(left, np.float64)
        prediction = np.array([row["prediction"] for row in rows], np.int64)
        self.different = prediction[:, None] != prediction
        # The contact factor of each pair that a hyperplane is stored of, (N, N).
        self.factors = np.full(self.different.shape, np.inf)
        # r S of a region by its number, and what the pass left of it.
        self.outer = lambda k: rows[k]["radius"] * case.scales.matrix(self.keys[k])
        self.inner = lambda k: left[k] * _store(case, self.keys[k]).matrix(self.keys[k])

    def distant(self, shape: Callable[[int], Floats]) -> Booleans:
        """Pairs whose centres are farther apart than their longest semi-axes reach, (N, N)."""
        shapes = map(shape, range(len(self.keys)))
        longest = [one.max() if one.ndim == 1 else np.linalg.norm(one) for one in shapes]
        reach = np.array(longest, np.float64)
        norms = np.square(self.points).sum(1)
        norms = norms[:, None] + norms
        squares = norms * (1 - 8 * self.points.shape[1] * _EPS) - 2 * self.points @ self.points.T
        return squares > np.square(reach[:, None] + reach) * (1 + 1e-8)

    def take(self, first: Integers, second: Integers, w: Floats) -> Iterator[Claim]:
        """Takes hyperplanes with normals w (m, d) between regions of images, (m,) and (m,)."""
        where = {index: k for k, (_, index) in enumerate(self.keys)}
        shapes = (first.shape, second.shape, w.shape)
        known = shapes == (w.shape[:1], w.shape[:1], (len(w), self.points.shape[1]))
        known = known and {*first.tolist(), *second.tolist()} <= where.keys()
        yield known, "a hyperplane for each of some pairs of regions", shapes
        if not known:
            return
        i, j = (np.array([where[k] for k in one.tolist()], np.int64) for one in (first, second))
        others = self.different[i, j].all()
        yield others, "hyperplanes between regions of different predictions", "others too"
        gap = _gap(w, self.points[j] - self.points[i])
        certified, left = (
            _supports(shape, i, w) + _supports(shape, j, w) for shape in (self.outer, self.inner)
        )
        apart = (gap > left * (1 + 4 * _EPS)) | (self.left[i] <= 0) | (self.left[j] <= 0)
        self.factors[i, j] = self.factors[j, i] = np.maximum(gap / certified, 0)
        for k in np.flatnonzero(~apart):
            yield False, f"a hyperplane between images {first[k]} and {second[k]}", "none"


def _supports(shape: Callable[[int], Floats], owners: Integers, w: Floats) -> Floats:
    """||S^T w||, at least, (m,), of the region that owns each w (m, d)."""
    found = np.empty(len(w))
    for owner in np.unique(owners):
        chosen = owners == owner
        found[chosen] = _support(shape(owner), w[chosen])
    return found


@lru_cache(1)
def regions_of(case: Case) -> tuple[dict[str, Regions], list[Finding]]:
    """The regions of each method with the hyperplanes stored, and what is wrong with these."""
    keys = sorted(key_of(row) for row in _certified(case) if row["prediction"] != ABSTAIN)
    methods = {
        method: Regions(case, [key for key in keys if key[0] == method])
        for method in sorted({key[0] for key in keys})
    }
    path, content, claims = case.options.dir / HYPERPLANES, {}, list[Claim]()
    try:
        content = load_file(path) if path.exists() else {}
    except (SafetensorError, OSError, ValueError) as error:
        claims.append((False, "a whole file of hyperplanes", files.reason(error)))
    for method in sorted({name.split("/")[0] for name in content}):
        try:
            own = [content[f"{method}/{name}"] for name in ("first", "second", "normal")]
            claims += methods[method].take(own[0], own[1], own[2].astype(np.float64))
        except KeyError as error:
            wanted = "first, second and normal of each method of the run"
            claims.append((False, wanted, f"no {error}"))
    return methods, at(HYPERPLANES, claims)


def check_pairs(case: Case) -> Checked:
    """Any two regions of different predictions are disjoint."""
    methods, findings = regions_of(case)
    findings, pairs, sought, passed_over = list(findings), 0, 0, 0
    for own in methods.values():
        pairs += int(np.triu(own.different, 1).sum())
        empty = own.left <= 0
        told = np.isfinite(own.factors) | ~own.different | empty[:, None] | empty
        left = np.argwhere(np.triu(~(told | own.distant(own.inner)), 1))
        order = np.random.default_rng(case.options.seed).permutation(len(left))
        chosen = np.sort(order[: case.options.pairs])
        sought, passed_over = sought + len(chosen), passed_over + len(left) - len(chosen)
        for i, j in left[chosen].tolist():
            v = own.points[j] - own.points[i]
            factor = _contact_factor(own.inner(i), own.inner(j), v)
            wanted = f"a hyperplane between it and image {own.keys[j][1]}"
            found = f"none: they touch when scaled by {factor:.6g}, the most that was found"
            findings += at(own.keys[i], [(factor > 1, wanted, found)])
    counted = f"{passed_over} of {pairs} pairs"
    whole = (not passed_over, "no pair passed over: raise --pairs", counted, Severity.WARNING)
    findings += at(case.options.dir.name, [whole])
    return f"{pairs} pairs, {sought} of them by hyperplanes sought here", findings


def check_nearest(case: Case) -> Checked:
    """contact_factor, nearest_conflict and witness follow from hyperplanes and distances."""
    methods, findings = regions_of(case)[0].values(), []
    for own in methods:
        alone = np.all(own.distant(own.outer) | ~own.different, axis=1)
        for key, factors, distant in zip(own.keys, own.factors.tolist(), alone, strict=True):
            known = {index: one for (_, index), one in zip(own.keys, factors, strict=True)}
            findings += at(key, _nearest(case.disjoint[key], known, distant))
    return f"{sum(len(own.keys) for own in methods)} rows", findings


def _nearest(row: Row, factors: Mapping[int, float], distant: bool) -> Iterator[Claim]:
    """What a row claims of its contact factor with each image: inf without a hyperplane."""
    nearest, factor, witness = row["nearest_conflict"], row["contact_factor"], row["witness"]
    yield row["rule"] in _RULES, f"a rule of {', '.join(_RULES)}", row["rule"]
    least = min(factors.values())
    if least == math.inf:
        found = (factor, nearest)
        yield found == (1, None), "contact_factor 1 and no nearest_conflict: no hyperplane", found
        yield witness in ("ball", "hyperplane"), "witness ball or hyperplane", witness
        yield witness != "ball" or distant, "witness hyperplane: others are near", witness
        return
    close = least * (1 - LOOSE) <= factor <= least * (1 + LOOSE)
    wanted = f"contact_factor {least!r}, the least of the stored hyperplanes"
    yield close, wanted, repr(factor)
    is_nearest = factors.get(nearest, math.inf) <= least * (1 + LOOSE) + LOOSE
    yield is_nearest, f"nearest_conflict {min(factors, key=lambda k: factors[k])}", nearest
    yield witness == "conflict", "witness conflict, as a hyperplane is stored", witness


def _gap(w: Floats, v: Floats) -> Floats:
    """w . v, at most, (m,), for w and v (m, d)."""
    slack = 2 * (w.shape[1] + 8) * _EPS
    return (w * v).sum(1) - slack * np.linalg.norm(w, axis=1) * np.linalg.norm(v, axis=1)


def _support(scale: Floats, w: Floats) -> Floats:
    """||S^T w||, at least, (m,), for S (d, d), or its diagonal, and w (m, d)."""
    images = w * scale if scale.ndim == 1 else w @ scale
    slack = 2 * (w.shape[1] + 8) * _EPS
    rounding = slack * np.linalg.norm(scale) * np.linalg.norm(w, axis=1)
    return np.linalg.norm(images, axis=1) * (1 + slack) + rounding


def _contact_factor(one: Floats, other: Floats, v: Floats) -> float:
    """A factor by which two regions may scale and are still apart; the search ends above 1."""
    if one.ndim != other.ndim:
        one, other = _dense(one), _dense(other)
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
        factor = float(_gap(w[None], v[None])[0]) / ((left + right) * (1 + 4 * _EPS))
        if not factor > best or factor > 1:
            return max(factor, best)
        best, share = factor, left / (left + right)
    return best

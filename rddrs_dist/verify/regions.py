"""What a soundness pass claims of each region: its sizes, its scale, its nearest conflict."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rddrs_dist.verify import columns
from rddrs_dist.verify.certificates import ABSTAIN, LOOSE
from rddrs_dist.verify.findings import (
    Fault,
    Outcome,
    Row,
    located,
    odd,
    over_rows,
    place,
    wrong,
)
from rddrs_dist.verify.folder import line
from rddrs_dist.verify.scales import Axes, Key, Scale, Stored, is_usable

SOUND = "_sound.parquet"
NARROWED = re.compile(r"_sound-scales-\d{5,}\.safetensors")
_SIZES = ("sound_radius", "sound_l2_radius", "sound_proxy_radius")
_OPEN = ("sound_scale_sha256", "nearest_conflict")  # null where there is none
_AGAIN = "run `rddrs soundness` again"


@dataclass(frozen=True, eq=False)
class Pass:
    """A soundness pass and what it is about.

    Attributes:
        rows: Its rows by method and image.
        certified: Those of the run, likewise; only of images that the pass has a row of.
        own: The certified scales.
        narrowed: Those that the pass has stored.
        dimension: Elements of an image.
    """

    rows: Mapping[Key, Row]
    certified: Mapping[Key, Row]
    own: Stored
    narrowed: Stored
    dimension: int

    def scale(self, key: Key) -> Scale | None:
        """The scale that the sizes of a row are of; None where none has its hash."""
        row = self.certified[key]
        for stored in (self.narrowed, self.own):
            if row in stored:
                found = stored[row]
                if found.sha256 == self.rows[key]["sound_scale_sha256"]:
                    return found if is_usable(found, self.dimension) else None
        return None

    def changed(self, key: Key) -> bool:
        """Whether a region has another scale than the certified one."""
        return self.rows[key]["sound_scale_sha256"] != self.certified[key]["scale_sha256"]


def read_pass(folder: Path, rows: Sequence[Row]) -> tuple[dict[Key, Row], list[Outcome]]:
    """Reads the rows of a pass and holds them against those of the run.

    Returns:
        By method and image, those that the run has a row of too, and the check "sound rows";
        nothing where no pass was made.
    """
    if not (folder / SOUND).exists():
        return {}, []
    try:
        with pq.ParquetFile(folder / SOUND, page_checksum_verification=True) as file:
            table = file.read()
        found: list[dict[str, Any]] = table.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        return {}, [_about([wrong("a whole Parquet file", line(error))], 0)]
    faults = list(_table_faults(table, folder))
    if not set(columns.SOUND) <= set(table.schema.names):
        return {}, [_about(faults, 0)]
    if nulls := [name for name in columns.SOUND if table[name].null_count and name not in _OPEN]:
        faults.append(wrong(f"no null but in {', '.join(_OPEN)}", f"some in {', '.join(nulls)}"))
        return {}, [_about(faults, len(found))]
    wanted = Counter((row["method"], row["index"]) for row in rows)
    there = Counter((row["method"], row["index"]) for row in found)
    for method, index in sorted((wanted - there) + (there - wanted)):
        counts = (wanted[method, index], there[method, index])
        faults.append(wrong(f"{counts[0]} rows of image {index}, {method}", counts[1]))
    own = {(row["method"], row["index"]): row for row in found}
    return {key: own[key] for key in own if key in wanted}, [_about(faults, len(found))]


def _about(faults: Sequence[Fault], count: int) -> Outcome:
    """The check of the table itself."""
    return Outcome("sound rows", f"{count} rows", tuple(located("sound rows", SOUND, faults)))


def _table_faults(table: pa.Table, folder: Path) -> Iterator[Fault]:
    """Whether a table has the columns of a pass and is of the parts that are there."""
    kinds = {name: str(table.schema.field(name).type) for name in table.schema.names}
    if kinds != columns.SOUND:
        yield wrong(f"columns {columns.SOUND}; {_AGAIN}", kinds)
    metadata = table.schema.metadata or {}
    stored = metadata.get(f"{columns.PREFIX}parts".encode(), b"").decode()
    if (now := _fingerprint(folder)) != stored:
        yield wrong(f"a pass over the parts that are there, {now}; {_AGAIN}", stored or "none")


def _fingerprint(folder: Path) -> str:
    """The hash of names, rows, sizes and hashes of all parts."""
    known = []
    for path in sorted(folder.glob("part-*.parquet")):
        content = path.read_bytes()
        known.append(
            {
                "name": path.name,
                "rows": pq.read_metadata(pa.BufferReader(content)).num_rows,
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def check_sizes(known: Pass) -> Outcome:
    """Sound sizes are finite, not above the certified ones, nor above radius times axis."""

    def judge(row: Row) -> Iterator[Fault]:
        key = (row["method"], row["index"])
        sound = known.rows[key]
        for name in _SIZES:
            plain = name.removeprefix("sound_")
            if not 0 <= sound[name] <= row[plain]:
                yield wrong(f"{name} from 0 to {plain}, {row[plain]!r}", repr(sound[name]))
        if row["prediction"] != ABSTAIN and all(math.isfinite(sound[name]) for name in _SIZES):
            yield from _axis_faults(row, sound, known)
        claims = (sound["sound_scale_sha256"], sound["nearest_conflict"], sound["mu"])
        if row["prediction"] == ABSTAIN and claims != (None, None, 1):
            yield wrong("no scale, no conflict and mu 1 for an abstention", claims)

    return over_rows("sound sizes", list(known.certified.values()), judge)


def _axis_faults(row: Row, sound: Row, known: Pass) -> Iterator[Fault]:
    """Holds sound sizes against the axes of the scale that they are of."""
    key = (row["method"], row["index"])
    least, mean = Fraction(row["min_axis"]), Fraction(row["mean_axis"])  # checked by themselves
    if known.changed(key):
        if (scale := known.scale(key)) is None:
            return  # told by `sound scales`
        axes = Axes.of(scale, known.dimension)
        least, mean = Fraction(float(axes.above[0])), Fraction(axes.mean_above)
    for name, axis in (("sound_l2_radius", least), ("sound_proxy_radius", mean)):
        most = Fraction(sound["sound_radius"]) * axis
        if Fraction(sound[name]) > most:
            wanted = f"{name} of at most sound_radius times axis, {float(most)!r}"
            yield wrong(wanted, repr(sound[name]))
        elif sound[name] < float(most) * (1 - 1e-6):
            yield odd(f"{name} of about {float(most)!r}", repr(sound[name]))


def check_scales(known: Pass) -> Outcome:
    """Each region has a scale of its hash, and lies inside the certified region."""
    rows = [row for row in known.certified.values() if row["prediction"] != ABSTAIN]
    findings = list(known.narrowed.findings)
    for row in rows:
        findings += located("sound scales", place(row), _inside_faults(row, known))
    return Outcome("sound scales", f"{len(rows)} rows", tuple(findings))


def _inside_faults(row: Row, known: Pass) -> Iterator[Fault]:
    """||S^-1 S'|| r' <= r, rounding errors included."""
    key = (row["method"], row["index"])
    sound = known.rows[key]
    if (inner := known.scale(key)) is None:
        yield wrong(f"a usable scale of sha256 {sound['sound_scale_sha256']}", "none")
    elif known.changed(key) and row in known.own and sound["sound_radius"] > 0:
        outer = known.own[row]
        if not is_usable(outer, known.dimension):
            return  # told by `scales`
        reach = _stretch(outer, inner, known.dimension) * sound["sound_radius"]
        if not reach <= row["radius"]:
            wanted = f"a region inside that of radius {row['radius']!r}"
            yield wrong(wanted, f"one that reaches to {reach!r}")


def _stretch(outer: Scale, inner: Scale, d: int) -> float:
    """||S^-1 S'||, at least.

    For X near S^-1 S' it is at most ||X|| + ||S' - S X|| / min_axis; all in float64, with d eps
    of the products for their rounding.
    """
    s, made = (one.matrix(d).astype(np.float64) for one in (outer, inner))
    least = Axes.of(outer, d)
    least = float(least.found[0]) - least.error
    try:
        x = np.linalg.solve(s, made)
    except np.linalg.LinAlgError:
        return math.inf
    eps, norm = d * float(np.finfo(np.float64).eps), np.linalg.norm
    rounding = eps * (norm(made) + norm(s) * norm(x))
    rest = (norm(made - s @ x) + rounding) / least if least > 0 else math.inf
    return float(np.linalg.svd(x, compute_uv=False)[0] + eps * norm(x) + rest)


def judge_nearest(
    row: Row, sound: Row, known: Mapping[int, float], apart: bool
) -> Iterator[Fault]:
    """Holds mu, nearest_conflict and witness of a region against the planes stored for it.

    Args:
        row: Of the run.
        sound: Of the pass.
        known: mu of each image that the region has a stored plane with.
        apart: Whether distance alone tells the certified region from all others.
    """
    nearest, mu = sound["nearest_conflict"], sound["mu"]
    if sound["rule"] not in columns.RULES:
        yield wrong(f"a rule of {', '.join(columns.RULES)}", sound["rule"])
    if known:
        least = min(known.values())
        if not least * (1 - LOOSE) <= mu <= least * (1 + LOOSE):
            yield wrong(f"mu {least!r}, the least of the stored planes", repr(mu))
        if nearest not in known or known[nearest] > least * (1 + LOOSE) + LOOSE:
            wanted = min(known, key=lambda image: known[image])
            yield wrong(f"nearest_conflict {wanted}", nearest)
        if sound["witness"] != "conflict":
            yield wrong("witness conflict, as a plane is stored", sound["witness"])
        return
    if mu != 1 or nearest is not None:
        yield wrong("mu 1 and no nearest_conflict, as no plane is stored", f"{mu!r}, {nearest}")
    if sound["witness"] not in ("ball", "plane"):
        yield wrong("witness ball or plane, as no plane is stored", sound["witness"])
    elif sound["witness"] == "ball" and row["prediction"] != ABSTAIN and not apart:
        yield wrong("witness plane, as distance alone does not tell all others", "ball")

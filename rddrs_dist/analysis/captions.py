"""The caption of a figure: what it shows, and what it leaves out."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from rddrs_dist.analysis.curves import ALPHA_CURVE, TAIL
from rddrs_dist.analysis.lines import UNMEASURED, Line, cube_of, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.families import FAMILIES
from rddrs_dist.methods import METHODS, Aim

_FEW = 3  # values that are listed one by one


def caption(
    lines: Sequence[Line],
    cuts: Sequence[str] = (),
    sizes: Sequence[str] = (),
    shown: str = "",
) -> str:
    """Says what a figure shows: data, noise, budget, images, sight, band, and what lies outside.

    `cuts` has one phrase per panel whose axis ends before the longest curve. Logs that have none
    of the sizes are not told. `shown` is a sentence on what is drawn, where its axes do not say.
    """
    budget = f"n₀ = {_values(lines, 'n0')}, n = {_values(lines, 'n')}"
    noise = f"σ = {_values(lines, 'sigma')}; {budget}, α = {_values(lines, 'alpha')}"
    band = f"pointwise one-sided {1 - ALPHA_CURVE:.0%} Clopper–Pearson lower bound over images"
    lacking = {
        size: {line.method for line in lines if line.certified(size) is None} for size in sizes
    }
    nowhere = set.intersection(*lacking.values()) if lacking else set()
    drawn = [line for line in lines if line.method not in nowhere]
    told = [shown] if shown else []
    told += [f"Data set: {dataset(lines)}; {noise}; {_image_counts(lines)}.", *sight(drawn)]
    logs = sorted({line.method for line in lines if line.is_log})
    if logs and not all(line.is_log for line in lines):
        told.append(f"Not known of {', '.join(logs)}: n₀, n, α.")
    told += [*named_changes(lines, sizes), f"Shaded: {band}."]
    told += cube(lines, sizes, " (vertical line where the axis reaches it)")
    if cuts:
        told.append(
            f"Axes are cut: beyond them lie {', '.join(cuts)}, and less than {TAIL:.0%} of the "
            "images of every other method."
        )
    if changed := _changed_settings(lines):
        told.append(f"Not at the published or default setting: {', '.join(changed)}.")
    told += of_logs(drawn)
    for size, methods in lacking.items():
        if methods:
            title, named = SIZES[size].title, ", ".join(sorted(methods))
            told.append(f"No {title[0].lower()}{title[1:]} is known of {named}.")
    if any(line.common for line in lines):
        told.append("Only images that every method has.")
    if not all(line.source.complete for line in lines):
        told.append("Run not complete.")
    if any(one.config.get("precision") == "tf32" for one in sources(lines)):
        told.append("The network multiplies in TF32.")
    return " ".join(told)


def notes(lines: Sequence[Line], sizes: Sequence[str]) -> list[str]:
    """Sentences below tables of sizes: which rows count, and what puts sizes into proportion."""
    return [*sight(lines), *cube(lines, sizes), *named_changes(lines, sizes), *of_logs(lines)]


def named_changes(lines: Iterable[Line], sizes: Iterable[str]) -> list[str]:
    """What is named, for sizes that are multiples of it; one sentence per set of changes."""
    settings = [one.config.get("settings", {}).get(Aim.name) for one in sources(lines)]
    told = dict.fromkeys(_amounts(own) for own in settings if own and "aim" in sizes)
    return [f"Named changes: {one}; each alone, and their mixtures." for one in told]


def _amounts(settings: dict[str, Any]) -> str:
    """Families of changes and their largest parameters."""
    chosen = {one.name: settings[one.name] for one in FAMILIES if one.name in settings}
    amounts = Aim(**chosen).amounts.items()
    return ", ".join(f"{one.name} {amount:g} {one.unit}" for one, amount in amounts)


def sight(lines: Sequence[Line]) -> list[str]:
    """Sentences that say which regions are sighted, and of which lines that was not measured."""
    told, regions = [], {True: {}, False: {}}
    for line in lines:
        own = regions[line.knows_sight].setdefault(line.label, [])
        own.extend(line.is_sighted[~line.abstained].tolist())
    bound = next((line.sighted for line in lines if line.knows_sight), 1.0)
    if regions[True] and bound >= 1:
        told.append("All rows count, sighted or not.")
    elif regions[True]:
        counts = [f"{sum(own):,} of {len(own):,} of {name}" for name, own in regions[True].items()]
        told.append(
            f"Regions count where they are sighted, of blindness at most {bound:g} (upper bound): "
            f"{', '.join(counts)}."
        )
    if regions[False]:
        told.append(f"{UNMEASURED.capitalize()}: {', '.join(regions[False])}.")
    return told


def cube(lines: Iterable[Line], sizes: Iterable[str], beside: str = "") -> list[str]:
    """A sentence that puts radii of volumes into proportion; none where no size is one."""
    known = cube_of(lines) if any(SIZES[size].of_volume for size in sizes) else None
    if known is None:
        return []
    d, radius = known
    return [
        f"The ball with the volume of the pixel cube, d = {d:,}, has radius {radius:.2f}{beside}."
    ]


def dataset(lines: Iterable[Line]) -> str:
    """Name of the data set of lines."""
    return next((name for line in lines if (name := line.source.dataset)), "unnamed data")


def of_logs(lines: Iterable[Line]) -> list[str]:
    """One sentence that says which lines are those of logs; none where there is no log."""
    logs = sorted((one for one in lines if one.is_log), key=lambda one: (one.method, one.rounded))
    told = {
        one.method: f"{one.method} (rounded to {one.source.digits} significant digits there)"
        if one.rounded
        else one.method
        for one in logs  # one name may stand for a log per sigma
    }
    names = ", ".join(told.values())
    return [f"From logs, whose networks are not known: radii of {names}."] if told else []


def _values(lines: Sequence[Line], name: str) -> str:
    """Lists the distinct values of a column, large ones with thousands separated."""
    kind = int if name in ("n0", "n") else float
    known = {kind(value) for line in lines for value in line.rows[name].dropna()}
    texts = [f"{value:,}" for value in sorted(known)]
    if name == "n" and len(texts) > _FEW:  # images stopped at sequential tests
        texts = [f"{texts[0]} to {texts[-1]}"]
    return ", ".join(texts) or "unknown"


def _changed_settings(lines: Sequence[Line]) -> list[str]:
    """Names the hyper-parameters of the methods drawn that are not at their defaults."""
    # What is named is told in a sentence of its own.
    changed, named = set(), {(Aim.name, one.name) for one in FAMILIES}
    for line in lines:
        settings = line.source.config.get("settings", {}).get(line.method)
        if settings and line.method in METHODS:
            usual = json.loads(json.dumps(vars(METHODS[line.method]())))
            for name, value in settings.items():
                if usual.get(name, value) != value and (line.method, name) not in named:
                    values = value if isinstance(value, list) else [value]
                    changed.add(f"{line.method}.{name} = {' and '.join(map(str, values))}")
    return sorted(changed)


def _image_counts(lines: Sequence[Line]) -> str:
    """Says over how many images the curves are, and over which where that is short."""
    low, high = min(map(len, lines)), max(map(len, lines))
    if low != high:
        return f"{low:,} to {high:,} images per curve"
    counted = "1 image" if low == 1 else f"{low:,} images"
    indices = sorted({index for line in lines for index in line.rows["index"].tolist()})
    steps = {b - a for a, b in pairwise(indices)}
    if len(indices) > low or (len(steps) > 1 and low > _FEW):
        return counted
    if low <= _FEW:
        return f"{counted} ({', '.join(f'{index:,}' for index in indices)})"
    step = max(steps)
    every = f" in steps of {step:,}" if step > 1 else ""
    return f"{counted} ({indices[0]:,} to {indices[-1]:,}{every})"

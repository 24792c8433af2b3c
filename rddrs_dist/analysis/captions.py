"""The caption of a figure: what it shows, and what it leaves out."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from rddrs_dist.analysis.curves import ALPHA_CURVE, TAIL
from rddrs_dist.analysis.lines import EXACT_DIGITS, Line, sources
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.methods import METHODS

_FEW = 3  # values that are listed one by one


def caption(lines: Sequence[Line], cuts: Sequence[str] = (), sizes: Sequence[str] = ()) -> str:
    """Says what a figure shows: data, noise, budget, images, band, and what lies outside.

    Args:
        lines: The lines drawn.
        cuts: One phrase per panel whose axis ends before the longest curve.
        sizes: Those that are drawn, to tell which logs are left out for lack of one.
    """
    budget = f"n₀ = {_values(lines, 'n0')}, n = {_values(lines, 'n')}"
    noise = f"σ = {_values(lines, 'sigma')}; {budget}, α = {_values(lines, 'alpha')}"
    band = f"pointwise one-sided {1 - ALPHA_CURVE:.0%} Clopper–Pearson lower bound over images"
    told = [f"Data set: {dataset(lines)}; {noise}; {_image_counts(lines)}."]
    told += [*_not_known(lines), f"Shaded: {band}."]
    if cuts:
        told.append(
            f"Axes are cut: beyond them lie {', '.join(cuts)}, and less than {TAIL:.0%} of the "
            "images of every other method."
        )
    if changed := _changed_settings(lines):
        told.append(f"Not at the published or default setting: {', '.join(changed)}.")
    lacking = {size: _lacking(lines, size) for size in sizes}
    nowhere = set.intersection(*lacking.values()) if lacking else set()
    told += of_logs(line for line in lines if line.method not in nowhere)
    told += [
        f"No {SIZES[size].title[0].lower()}{SIZES[size].title[1:]} is known of "
        f"{', '.join(sorted(methods))}."
        for size, methods in lacking.items()
        if methods
    ]
    if any(line.common for line in lines):
        told.append("Only images that every method has.")
    if not all(line.source.complete for line in lines):
        told.append("Run not complete.")
    if any(one.config.get("precision") == "tf32" for one in sources(lines)):
        told.append("The network multiplies in TF32.")
    return " ".join(told)


def dataset(lines: Iterable[Line]) -> str:
    """Name of the data set of lines."""
    names = (line.source.dataset for line in lines)
    return next((name for name in names if name), "unnamed data")


def of_logs(lines: Iterable[Line]) -> list[str]:
    """Says which lines are those of logs: one sentence for all that are alike."""
    digits: dict[str, int] = {}
    for line in lines:  # one name may stand for a log per sigma
        if line.source.digits is not None:
            digits[line.method] = min(digits.get(line.method, EXACT_DIGITS), line.source.digits)
    alike: dict[int, list[str]] = {}
    for method in sorted(digits):
        alike.setdefault(digits[method], []).append(method)
    return [_sentence(methods, own) for own, methods in alike.items()]


def _sentence(methods: Sequence[str], digits: int) -> str:
    """What is said of some logs."""
    rounded = f", rounded to {digits} significant digits there" if digits < EXACT_DIGITS else ""
    if len(methods) == 1:
        return f"Radii of {methods[0]} are those of a log{rounded}; its network is not known."
    names = f"{', '.join(methods[:-1])} and {methods[-1]}"
    return f"Radii of {names} are those of logs{rounded}; their networks are not known."


def _values(lines: Sequence[Line], name: str) -> str:
    """Lists the distinct values of a column, large ones with thousands separated."""
    kind = int if name in ("n0", "n") else float
    known = {kind(value) for line in lines for value in line.rows[name].dropna()}
    texts = [f"{value:,}" for value in sorted(known)]
    if name == "n" and len(texts) > _FEW:  # images stopped at sequential tests
        texts = [f"{texts[0]} to {texts[-1]}"]
    return ", ".join(texts) or "unknown"


def _not_known(lines: Sequence[Line]) -> list[str]:
    """Says which of the values above are not known of which lines: logs lack them."""
    lacking: dict[str, list[str]] = {}
    for name, printed in (("n0", "n₀"), ("n", "n"), ("alpha", "α")):
        null = [(line.method, np.isnan(line.column(name))) for line in lines]
        methods = sorted({method for method, own in null if own.any()})
        if methods and not all(own.all() for _, own in null):
            lacking.setdefault(", ".join(methods), []).append(printed)
    return [f"Not known of {methods}: {', '.join(names)}." for methods, names in lacking.items()]


def _changed_settings(lines: Sequence[Line]) -> list[str]:
    """Names the hyper-parameters of the methods drawn that are not at their defaults."""
    changed = set()
    for line in lines:
        settings = line.source.config.get("settings", {}).get(line.method)
        if settings and line.method in METHODS:
            usual = json.loads(json.dumps(vars(METHODS[line.method]())))
            changed |= {
                f"{line.method}.{name} = {_printed(value)}"
                for name, value in settings.items()
                if usual.get(name, value) != value
            }
    return sorted(changed)


def _printed(value: Any) -> str:
    """A setting as text."""
    return " and ".join(f"{one:g}" for one in value) if isinstance(value, list) else f"{value}"


def _lacking(lines: Sequence[Line], size: str) -> set[str]:
    """The methods with a line that lacks a size."""
    return {line.method for line in lines if line.certified(size) is None}


def _image_counts(lines: Sequence[Line]) -> str:
    """Says over how many images the curves are, and over which."""
    low, high = min(map(len, lines)), max(map(len, lines))
    if low != high:
        return f"{low:,} to {high:,} images per curve"
    indices = sorted({index for line in lines for index in line.rows["index"].tolist()})
    which = _which(indices) if len(indices) == low else ""
    return f"{low:,} {'image' if low == 1 else 'images'}{which}"


def _which(indices: Sequence[int]) -> str:
    """Says which images those are, where that is short."""
    steps = {b - a for a, b in pairwise(indices)}
    if len(indices) <= _FEW:
        return f" ({', '.join(f'{index:,}' for index in indices)})"
    if len(steps) > 1:
        return ""
    (step,) = steps
    every = f" in steps of {step:,}" if step > 1 else ""
    return f" ({indices[0]:,} to {indices[-1]:,}{every})"

"""The caption of a figure: what it shows, and what it leaves out."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from rddrs_dist.analysis.curves import ALPHA_CURVE, TAIL, lines, select
from rddrs_dist.analysis.logs.marks import folders, marks, sentences
from rddrs_dist.analysis.sizes import silent
from rddrs_dist.analysis.tables import TITLES
from rddrs_dist.methods import METHODS

_FEW = 3  # values that are listed one by one


def caption(frame: pd.DataFrame, cuts: Sequence[str] = (), metrics: Sequence[str] = ()) -> str:
    """Says what a figure shows: data, noise, budget, images, band, and what lies outside.

    Args:
        frame: The rows drawn, with their `attrs`.
        cuts: One phrase per panel whose axis ends before the longest curve.
        metrics: Those that are drawn, to tell which logs are left out for lack of one.
    """
    dataset = frame.attrs.get("dataset") or "unnamed data"
    budget = f"n₀ = {_values(frame, 'n0')}, n = {_values(frame, 'n')}"
    noise = f"σ = {_values(frame, 'sigma')}; {budget}, α = {_values(frame, 'alpha')}"
    band = f"pointwise one-sided {1 - ALPHA_CURVE:.0%} Clopper–Pearson lower bound over images"
    told = [f"Data set: {dataset}; {noise}; {_image_counts(frame)}.", *_not_known(frame)]
    told.append(f"Shaded: {band}.")
    if cuts:
        told.append(
            f"Axes are cut: beyond them lie {', '.join(cuts)}, and less than {TAIL:.0%} of the "
            "images of every other method."
        )
    if changed := _changed_settings(frame):
        told.append(f"Not at the published or default setting: {', '.join(changed)}.")
    told += _of_logs(frame, metrics)
    if frame.attrs.get("common"):
        told.append("Only images that every method has.")
    if not frame.attrs.get("complete", True):
        told.append("Run not complete.")
    if any(one.get("config", {}).get("precision") == "tf32" for one in folders(frame)):
        told.append("The network multiplies in TF32.")
    return " ".join(told)


def _values(frame: pd.DataFrame, name: str) -> str:
    """Lists the distinct values of a column, large ones with thousands separated."""
    known = frame[name].dropna()
    # A column with nulls holds floats, whole as they may be.
    kind = int if name in ("n0", "n") else float
    texts = [f"{value:,}" for value in sorted(set(map(kind, known.tolist())))]
    if name == "n" and len(texts) > _FEW:  # images stopped at looks
        texts = [f"{texts[0]} to {texts[-1]}"]
    return ", ".join(texts) or "unknown"


def _not_known(frame: pd.DataFrame) -> list[str]:
    """Says which of the values above are not known of which lines: logs lack them."""
    lacking: dict[str, list[str]] = {}
    for name, printed in (("n0", "n₀"), ("n", "n"), ("alpha", "α")):
        null = frame[name].isna().to_numpy()
        methods = sorted(set(frame.loc[null, "method"].tolist()))
        if methods and not null.all():
            lacking.setdefault(", ".join(methods), []).append(printed)
    return [f"Not known of {methods}: {', '.join(names)}." for methods, names in lacking.items()]


def _changed_settings(frame: pd.DataFrame) -> list[str]:
    """Names the hyper-parameters of the methods drawn that are not at their defaults."""
    drawn = set(frame["method"].tolist())
    changed: dict[str, None] = {}
    for attrs in folders(frame):
        for method, settings in attrs.get("config", {}).get("settings", {}).items():
            if method in drawn & METHODS.keys():
                usual = json.loads(json.dumps(vars(METHODS[method]())))
                texts = [
                    f"{method}.{name} = {_printed(value)}"
                    for name, value in settings.items()
                    if usual.get(name, value) != value
                ]
                changed |= dict.fromkeys(texts)
    return sorted(changed)


def _printed(value: Any) -> str:
    """A setting as text."""
    return " and ".join(f"{one:g}" for one in value) if isinstance(value, list) else f"{value}"


def _of_logs(frame: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Says which lines are those of logs, and which of these are left out for lack of a radius."""
    lacking = {metric: _lacking(frame, metric) for metric in metrics}
    nowhere = set.intersection(*lacking.values()) if lacking else set()
    told = sentences(mark for method, mark in marks(frame).items() if method not in nowhere)
    for metric, methods in lacking.items():
        if methods:
            title = TITLES.get(metric, metric)
            told.append(
                f"No {title[0].lower()}{title[1:]} is known of {', '.join(sorted(methods))}."
            )
    return told


def _lacking(frame: pd.DataFrame, metric: str) -> set[str]:
    """The methods with a line that is a log without the metric."""
    return {
        method
        for sigma, method in lines(frame)
        if silent(select(frame, method=method, sigma=sigma), metric)
    }


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


def _image_counts(frame: pd.DataFrame) -> str:
    """Says over how many images the curves are, and over which."""
    counts = Counter(zip(frame["sigma"], frame["method"], strict=True)).values()
    low, high = min(counts), max(counts)
    if low != high:
        return f"{low:,} to {high:,} images per curve"
    indices = sorted(set(frame["index"].tolist()))
    which = _which(indices) if len(indices) == low else ""
    return f"{low:,} {'image' if low == 1 else 'images'}{which}"

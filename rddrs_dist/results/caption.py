"""The caption of a figure: what it shows, and what it leaves out."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from rddrs_dist.results.curves import ALPHA_CURVE, TAIL


def caption(frame: pd.DataFrame, cuts: Sequence[str] = ()) -> str:
    """Says what a figure shows: data, noise, budget, images, band, and what lies outside.

    Args:
        frame: The rows drawn, with their `attrs`.
        cuts: One phrase per panel whose axis ends before the longest curve.
    """
    dataset = frame.attrs.get("dataset") or "unnamed data"
    budget = f"n₀ = {_values(frame, 'n0')}, n = {_values(frame, 'n')}"
    noise = f"σ = {_values(frame, 'sigma')}; {budget}, α = {_values(frame, 'alpha')}"
    band = f"pointwise one-sided {1 - ALPHA_CURVE:.0%} Clopper–Pearson lower bound over images"
    sentences = [f"Data set: {dataset}; {noise}; {_image_counts(frame)}.", f"Shaded: {band}."]
    if cuts:
        sentences.append(
            f"Axes are cut: beyond them lie {', '.join(cuts)}, and less than {TAIL:.0%} of the "
            "images of every other method."
        )
    if frame.attrs.get("common"):
        sentences.append("Only images that every method has.")
    if not frame.attrs.get("complete", True):
        sentences.append("Run not complete.")
    return " ".join(sentences)


def _values(frame: pd.DataFrame, name: str) -> str:
    """Lists the distinct values of a column, large ones with thousands separated."""
    return ", ".join(f"{value:,}" for value in sorted(set(frame[name].tolist())))


def _image_counts(frame: pd.DataFrame) -> str:
    """Says over how many images the curves are."""
    counts = Counter(zip(frame["sigma"], frame["method"], strict=True)).values()
    low, high = min(counts), max(counts)
    return f"{high:,} images" if low == high else f"{low:,} to {high:,} images per curve"

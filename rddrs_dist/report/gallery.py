"""Some images of a run, seen as their noise sees them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from rddrs_dist import data, models
from rddrs_dist.noise import Noise
from rddrs_dist.report import pictures
from rddrs_dist.report.charts import dashes, frame_of
from rddrs_dist.report.walk import MULTIPLES, SAMPLES, Axes, axes, reach
from rddrs_dist.results.curves import in_order
from rddrs_dist.results.logs.marks import is_log
from rddrs_dist.results.scales import Scales
from rddrs_dist.results.schema import ABSTAIN
from rddrs_dist.results.styles import label, looks
from rddrs_dist.results.tables import floor_to
from rddrs_dist.smoothing import Stage, Streams

_WALKED = 5  # axes of each region, evenly by rank


@dataclass(frozen=True)
class Picture:
    """A picture and what stands under it."""

    uri: str
    text: str


@dataclass(frozen=True)
class Shown:
    """What one method makes of an image.

    Attributes:
        method: Its name.
        title: Name and certificate in words.
        pictures: What the network sees, and the shape of the noise.
    """

    method: str
    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of the gallery.

    Attributes:
        title: Index, class and sigma.
        image: The image itself.
        shown: One per method.
        spectrum: Semi-axes of the regions, and how far one can walk along some of them.
    """

    title: str
    image: Picture
    shown: Sequence[Shown]
    spectrum: go.Figure


@dataclass(frozen=True, eq=False)
class Source:
    """What the pictures of a run are made from.

    Attributes:
        images: The data set.
        scales: Stored scales of the run.
        model: The network; None where it was not given.
    """

    images: data.ImageSet
    scales: Scales
    model: nn.Module | None


def gallery(
    frame: pd.DataFrame,
    chosen: Sequence[int] | None,
    checkpoints: Sequence[Path],
    data_root: Path | None,
) -> tuple[list[Entry], list[str]]:
    """Looks at some images with the noise of every method.

    Args:
        frame: Rows as `read_many` returns them.
        chosen: Indices of images; None for those with the largest, median and smallest region.
        checkpoints: Networks, each found by its hash; without a run's own nothing is walked.
        data_root: Folder of the data.

    Returns:
        Images, and remarks on what could not be shown and why.

    Raises:
        ValueError: If images were chosen and cannot be shown, or a checkpoint is unusable.
        FileNotFoundError: If images were chosen and the data are absent, or a checkpoint is.
    """
    loaded = [models.load(path) for path in checkpoints]
    networks = {one.sha256: one.model.to(memory_format=torch.channels_last) for one in loaded}
    entries: list[Entry] = []
    remarks: list[str] = []
    for folder, attrs in frame.attrs["runs"].items():
        own = frame.loc[frame["run"] == folder]
        if is_log(attrs) or not len(own):  # of a run that is there twice, one has all rows
            continue
        try:
            source = _source(folder, attrs, networks, data_root)
        except (ValueError, FileNotFoundError) as error:
            if chosen is not None:
                raise
            remarks.append(f"No images of {folder}: {error}.")
            continue
        if source.model is None:
            remarks.append(f"Nothing was walked in {folder}: its network was not given.")
        for index in _indices(own, chosen, folder):
            entries.append(_entry(own.loc[own["index"] == index], index, source))
    return entries, remarks


def _source(
    folder: str,
    attrs: dict[str, Any],
    networks: dict[str, nn.Module],
    data_root: Path | None,
) -> Source:
    """Opens what the pictures of a run are made from."""
    scales = Scales(Path(folder))
    images = data.load(attrs["dataset"], "test", data_root)
    if images.sha256 != attrs["metadata"].get("data_sha256"):
        raise ValueError(
            f"images of {attrs['dataset']} must be those that were certified, got others; give "
            "the folder of that run with --data-root"
        )
    return Source(images, scales, networks.get(attrs["metadata"].get("weights_sha256", "")))


def _indices(rows: pd.DataFrame, chosen: Sequence[int] | None, folder: str) -> list[int]:
    """The images to show of one run."""
    if chosen is not None:
        if absent := sorted(set(chosen) - set(rows["index"])):
            raise ValueError(f"images {absent} must be among those of {folder}: choose others")
        return list(dict.fromkeys(chosen))
    certified = rows.loc[rows["prediction"] != ABSTAIN]
    own = rows if not len(certified) else certified
    largest = in_order(set(own["method"].tolist()))[-1]
    own = own.loc[own["method"] == largest].sort_values("proxy_radius", ascending=False)
    return list(dict.fromkeys(own["index"].iloc[k] for k in (0, len(own) // 2, -1)))


def _entry(rows: pd.DataFrame, index: int, source: Source) -> Entry:
    """One image with all methods."""
    image = torch.from_numpy(source.images.images[index][None])
    first = rows.iloc[0]
    spectrum = _empty_spectrum(image.numel())
    shown = []
    for method in in_order(rows["method"].tolist()):
        row = rows.loc[rows["method"] == method].iloc[0].to_dict()
        if (method, index) not in source.scales:
            continue
        noise = source.scales.noise(method, [index], source.images.event_shape)
        found = axes(noise)
        shown.append(_shown(row, image, noise, found))
        spectrum.add_traces(_spectrum(row, image, noise, found, source.model))
    title = f"image {index}, class {first['label']}, σ = {first['sigma']:g}"
    return Entry(title, Picture(pictures.shown(image[0].numpy()), "image"), shown, spectrum)


def _empty_spectrum(d: int) -> go.Figure:
    """Axes for semi-axes, with the diameter of the pixel domain."""
    figure = frame_of(x="rank of the axis, widest first", y="semi-axis, pixels")
    diameter = math.sqrt(d)
    figure.update_yaxes(type="log", dtick=1, range=[-2, math.log10(100 * diameter)])
    figure.add_hline(y=diameter, line={"width": 1, "dash": "dot", "color": "#888888"})
    figure.add_annotation(
        text="diameter of the pixel domain",
        x=1,
        xref="paper",
        xanchor="right",
        y=math.log10(diameter),
        yanchor="bottom",
        showarrow=False,
    )
    return figure


def _shown(row: dict[str, Any], image: Tensor, noise: Noise, found: Axes) -> Shown:
    """Pictures of the noise of one method."""
    seen = (image + _drawn(row["index"], image, noise, 1))[0].numpy()
    shape = tuple(image.shape[1:])
    made = [Picture(pictures.shown(seen), "x + S z, clipped")]
    if found.directions is not None:
        deviations = noise.variances()[0].sqrt().view(shape).numpy()
        made += [
            Picture(pictures.magnitudes(deviations), "standard deviation of each pixel"),
        ]
        made += [
            Picture(
                pictures.signed(found.directions[k].reshape(shape)),
                f"{name} axis: {found.lengths[k]:.3g}",
            )
            for k, name in ((0, "widest"), (-1, "narrowest"))
        ]
    return Shown(row["method"], f"{label(row['method'])}: {_verdict(row)}", made)


def _drawn(index: int, image: Tensor, noise: Noise, n: int) -> Tensor:
    """Samples S z of the noise of an image, (n, *event)."""
    return noise.colour(Streams.of(0, [index]).normal(Stage.FIT, 0, 0, n, image))[0]


def _verdict(row: dict[str, Any]) -> str:
    """A certificate in words."""
    if row["prediction"] == ABSTAIN:
        return "abstained"
    verdict = "" if row["correct"] else " (wrong)"
    sizes = [floor_to(row[name], 3) for name in ("proxy_radius", "l2_radius")]
    return f"class {row['prediction']}{verdict}, proxy radius {sizes[0]:.3f}, l2 {sizes[1]:.3f}"


def _spectrum(
    row: dict[str, Any], image: Tensor, noise: Noise, found: Axes, model: nn.Module | None
) -> list[go.Scatter]:
    """Semi-axes of the region of one method, and walks along some."""
    if row["prediction"] == ABSTAIN:
        return []
    semi, name = row["radius"] * found.lengths, label(row["method"])
    line = go.Scatter(
        x=np.arange(1, len(semi) + 1, dtype=np.int32),
        y=semi.astype(np.float32),
        customdata=[_four_digits(length) for length in semi],
        mode="lines",
        line={"width": 2, "dash": dashes(looks({row["method"]: ""})[row["method"]])},
        meta={"method": row["method"]},
        hovertemplate=f"<b>{name}</b>, axis %{{x}}: certified to %{{customdata}}<extra></extra>",
    )
    return [line] if model is None else [line, _walks(row, image, noise, found, model)]


def _walks(
    row: dict[str, Any], image: Tensor, noise: Noise, found: Axes, model: nn.Module
) -> go.Scatter:
    """How far the class stays along some axes, both ways."""
    eps, name = _drawn(row["index"], image, noise, SAMPLES), label(row["method"])
    d = len(found.lengths)
    ranks = np.unique(np.linspace(0, d - 1, _WALKED).round().astype(int))
    held = []
    for rank in ranks:
        unit = found.direction(rank)
        step = torch.from_numpy(unit * found.lengths[rank] * row["radius"]).view(image.shape[1:])
        ways = [reach(model, image, eps, row["prediction"], w * step.float()) for w in (1, -1)]
        held.append(min(ways))
    semi = row["radius"] * found.lengths[ranks]
    return go.Scatter(
        x=ranks + 1,
        y=semi * np.maximum(held, MULTIPLES[0]),
        customdata=[
            _reached(multiple, length) for multiple, length in zip(held, semi, strict=True)
        ],
        mode="markers",
        marker={"size": 9, "symbol": [_symbol(multiple) for multiple in held]},
        meta={"method": row["method"]},
        hovertemplate=f"<b>{name}</b>, axis %{{x}}: %{{customdata}}<extra></extra>",
    )


def _four_digits(length: float) -> str:
    """A length with four significant digits, rounded down."""
    places = 3 - math.floor(math.log10(length)) if 0 < length < math.inf else 0
    return f"{floor_to(length, max(0, places)):.{max(0, places)}f}"


def _reached(multiple: float, length: float) -> str:
    """A walk in words; a length is that of the certified semi-axis."""
    if multiple == 0:
        return "the class has changed at the border"
    further = "and further" if multiple == MULTIPLES[-1] else "of the certified length"
    reached = _four_digits(multiple * length)
    return f"the class stays up to {multiple:g} times {further} ({reached})"


def _symbol(multiple: float) -> str:
    """Marker of a walk: an arrow where it never ended."""
    return {0.0: "x", MULTIPLES[-1]: "triangle-up"}.get(multiple, "circle")

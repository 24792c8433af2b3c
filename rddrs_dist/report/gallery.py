"""Some images of a run, seen as their noise sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from rddrs_dist import data
from rddrs_dist.analysis.curves import in_order
from rddrs_dist.analysis.logs.marks import is_log
from rddrs_dist.analysis.styles import label
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.noise import Noise
from rddrs_dist.report import pictures, spectrum
from rddrs_dist.report.walk import SAMPLES, Axes, axes
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.scales import Scales
from rddrs_dist.smoothing import Stage, Streams


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
        absent: Methods that are not in it, and why; empty where all are.
    """

    title: str
    image: Picture
    shown: Sequence[Shown]
    spectrum: go.Figure
    absent: str = ""


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
    loaded = [checkpoints.load(path) for path in checkpoints]
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
            remarks.append(_not_walked(folder, attrs, networks))
        for index in _indices(own, chosen, folder):
            entries.append(_entry(own.loc[own["index"] == index], index, source))
    return entries, remarks


def _not_walked(folder: str, attrs: dict[str, Any], networks: dict[str, nn.Module]) -> str:
    """Why nothing was walked in a run."""
    wanted = attrs["metadata"].get("weights_sha256", "")[:12]
    given = ", ".join(sha256[:12] for sha256 in networks)
    why = f"is none of those given, {given}" if given else "was not given (--checkpoints)"
    return f"Nothing was walked in {folder}: its network, sha256 {wanted}, {why}."


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
    axes_chart = spectrum.empty(image.numel())
    shown, absent = [], []
    for method in in_order(rows["method"].tolist()):
        row = rows.loc[rows["method"] == method].iloc[0].to_dict()
        if row["prediction"] == ABSTAIN:
            absent.append(f"{label(method)} (abstained)")
        if (method, index) not in source.scales:
            absent.append(f"{label(method)} (no scale is stored)")
            continue
        noise = source.scales.noise(method, [index], source.images.event_shape)
        found = axes(noise)
        shown.append(_shown(row, image, noise, found))
        eps = _drawn(index, image, noise, SAMPLES)
        axes_chart.add_traces(spectrum.lines(row, image, eps, found, source.model))
    title = f"image {index}, class {first['label']}, σ = {first['sigma']:g}"
    whole = Picture(pictures.shown(image[0].numpy()), "image")
    return Entry(title, whole, shown, axes_chart, ", ".join(absent))


def _shown(row: dict[str, Any], image: Tensor, noise: Noise, found: Axes) -> Shown:
    """Pictures of the noise of one method."""
    seen = (image + _drawn(row["index"], image, noise, 1))[0].numpy()
    shape = tuple(image.shape[1:])
    made = [Picture(pictures.shown(seen), "x + S z, clipped")]
    if found.directions is not None:
        deviations = noise.variances()[0].sqrt().view(shape).numpy()
        made.append(Picture(pictures.magnitudes(deviations), "standard deviation of each pixel"))
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

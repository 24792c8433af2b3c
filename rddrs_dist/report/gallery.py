"""Some images of a run, seen as their noise sees them."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rddrs_dist import data
from rddrs_dist.analysis.lines import Line, sources
from rddrs_dist.analysis.tables import floored
from rddrs_dist.checkpoints import load
from rddrs_dist.noise import Noise
from rddrs_dist.report import spectrum
from rddrs_dist.report.spectrum import SAMPLES, Axes, axes
from rddrs_dist.results import Source
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.scales import Scales
from rddrs_dist.smoothing import Stage, Streams

# Blue and red of equal lightness, through white: signs tell apart with any colour vision.
_BELOW, _ABOVE = np.array([33, 102, 172]), np.array([178, 24, 43])


@dataclass(frozen=True)
class Picture:
    """A picture, as a data URI, and what stands under it."""

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


def gallery(
    lines: Sequence[Line],
    chosen: Sequence[int] | None = None,
    checkpoints: Sequence[Path] = (),
    data_root: Path | None = None,
) -> tuple[list[Entry], list[str]]:
    """Looks at some images with the noise of every method.

    Args:
        lines: Those of the page; logs have no noise.
        chosen: Indices of images; None for those with the largest, median and smallest region.
        checkpoints: Networks, each found by its hash; without a run's own nothing is walked.
        data_root: Folder of the data.

    Returns:
        Images, and remarks on what could not be shown and why.

    Raises:
        ValueError: If images were chosen and cannot be shown, or a checkpoint is unusable.
        FileNotFoundError: If images were chosen and the data are absent, or a checkpoint is.
    """
    loaded = [load(path) for path in checkpoints]
    networks = {one.sha256: one.model.to(memory_format=torch.channels_last) for one in loaded}
    entries: list[Entry] = []
    remarks: list[str] = []
    for source in sources(line for line in lines if not line.is_log):
        own = [line for line in lines if line.source.folder == source.folder]
        try:
            images, scales = _images(source, data_root), Scales(source.folder)
        except (ValueError, FileNotFoundError) as error:
            if chosen is not None:
                raise
            remarks.append(f"No images of {source.folder}: {error}.")
            continue
        model = networks.get(source.metadata.get("weights_sha256", ""))
        if model is None:
            remarks.append(_not_walked(source, networks))
        for index in _indices(own, chosen):
            entries.append(_entry(own, index, images, scales, model))
    return entries, remarks


def _not_walked(source: Source, networks: Mapping[str, nn.Module]) -> str:
    """Why nothing was walked in a run."""
    wanted = source.metadata.get("weights_sha256", "")[:12]
    given = ", ".join(sha256[:12] for sha256 in networks)
    why = f"is none of those given, {given}" if given else "was not given (--checkpoints)"
    return f"Nothing was walked in {source.folder}: its network, sha256 {wanted}, {why}."


def _images(source: Source, data_root: Path | None) -> data.ImageSet:
    """The images that were certified."""
    images = data.load(source.dataset or "", "test", data_root)
    if images.sha256 != source.metadata.get("data_sha256"):
        raise ValueError(
            f"images of {source.dataset} must be those that were certified, got others; give the "
            "folder of that run with --data-root"
        )
    return images


def _indices(lines: Sequence[Line], chosen: Sequence[int] | None) -> list[int]:
    """The images to show of one run."""
    if chosen is not None:
        known = {index for line in lines for index in line.rows["index"].tolist()}
        if absent := sorted(set(chosen) - known):
            folder = lines[0].source.folder
            raise ValueError(f"images {absent} must be among those of {folder}: choose others")
        return list(dict.fromkeys(chosen))
    certified = [line.rows.loc[~line.abstained] for line in lines if not line.abstained.all()]
    largest = (certified or [line.rows for line in lines])[-1]
    ordered = largest.sort_values("proxy_radius", ascending=False)["index"].tolist()
    return list(dict.fromkeys(ordered[k] for k in (0, len(ordered) // 2, -1)))


def _entry(
    lines: Sequence[Line],
    index: int,
    images: data.ImageSet,
    scales: Scales,
    model: nn.Module | None,
) -> Entry:
    """One image with all methods."""
    image = torch.from_numpy(images.images[index][None])
    figure, shown, absent, title = spectrum.empty(image.numel()), [], [], ""
    for rank, line in enumerate(lines):
        for row in line.rows.loc[line.rows["index"] == index].to_dict("records"):
            title = f"image {index}, class {row['label']}, σ = {line.sigma:g}"
            if row["prediction"] == ABSTAIN:
                absent.append(f"{line.label} (abstained)")
            if (line.method, index) not in scales:
                absent.append(f"{line.label} (no scale is stored)")
                continue
            noise = scales.noise(line.method, [index], images.event_shape)
            found, eps = axes(noise), _drawn(index, image, noise, SAMPLES)
            shown.append(_shown(line, row, image, noise, found))
            aside = rank - (len(lines) - 1) / 2
            figure.add_traces(spectrum.traces(line, row, image, eps, found, model, aside))
    whole = Picture(picture(image[0].numpy()), "image")
    return Entry(title, whole, shown, figure, ", ".join(absent))


def _shown(line: Line, row: Mapping[Any, Any], image: Tensor, noise: Noise, found: Axes) -> Shown:
    """Pictures of the noise of one method."""
    seen = (image + _drawn(row["index"], image, noise, 1))[0].numpy()
    shape = tuple(image.shape[1:])
    made = [Picture(picture(seen), "x + S z, clipped")]
    if found.directions is not None:
        deviations = noise.variances()[0].sqrt().view(shape).numpy()
        made.append(Picture(magnitudes(deviations), "standard deviation of each pixel"))
        for k, name in ((0, "widest"), (-1, "narrowest")):
            text = f"{name} axis: {found.lengths[k]:.3g}"
            made.append(Picture(signed(found.directions[k].reshape(shape)), text))
    return Shown(line.method, f"{line.label}: {_verdict(row)}", made)


def _drawn(index: int, image: Tensor, noise: Noise, n: int) -> Tensor:
    """Samples S z of the noise of an image, (n, *event)."""
    return noise.colour(Streams.of(0, [index]).normal(Stage.FIT, 0, 0, n, image))[0]


def _verdict(row: Mapping[Any, Any]) -> str:
    """A certificate in words."""
    if row["prediction"] == ABSTAIN:
        return "abstained"
    verdict = "" if row["correct"] else " (wrong)"
    proxy, l2 = (floored(row[name]) for name in ("proxy_radius", "l2_radius"))
    return f"class {row['prediction']}{verdict}, proxy radius {proxy}, l2 {l2}"


def picture(pixels: NDArray[np.floating]) -> str:
    """The PNG of an image with pixels in [0, 1], others clipped, as a data URI.

    Args:
        pixels: (C, H, W), C of 1 or 3.
    """
    return _uri(np.clip(np.moveaxis(pixels, 0, -1), 0, 1) * 255)


def magnitudes(values: NDArray[np.floating]) -> str:
    """Values above zero, (C, H, W), as a picture with the largest in white."""
    largest = float(values.max())
    return picture(values / largest if largest > 0 else values)


def signed(values: NDArray[np.floating]) -> str:
    """Values of either sign, (C, H, W), as a picture.

    Blue below zero, red above, white at zero; of three channels their colours around grey.
    """
    scaled = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    if len(values) > 1:
        return picture(0.5 + 0.5 * scaled)
    share = np.abs(scaled[0])[..., None]
    ends = np.where(scaled[0][..., None] < 0, _BELOW, _ABOVE)
    return _uri(255 * (1 - share) + ends * share)


def _uri(pixels: NDArray[np.floating]) -> str:
    """(H, W, C) of 0 to 255 as a data URI."""
    content, rounded = io.BytesIO(), np.rint(pixels).astype(np.uint8)
    Image.fromarray(rounded[..., 0] if rounded.shape[-1] == 1 else rounded).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()

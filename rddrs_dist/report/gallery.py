"""Some images of a run, seen as their noise sees them: pictures, semi-axes, and walks along some.

A walk is a picture, not a certificate: it takes the same few samples of noise at all points.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, linalg, nn

from rddrs_dist import data
from rddrs_dist.analysis import inside
from rddrs_dist.analysis.lines import UNMEASURED, Line, sources
from rddrs_dist.analysis.tables import floor_to, floored
from rddrs_dist.checkpoints import load
from rddrs_dist.families import FAMILIES
from rddrs_dist.noise import Noise
from rddrs_dist.report.charts import dashes, empty_figure
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.scales import Scales
from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.sample import one_hot

# Blue and red of equal lightness, through white: signs tell apart with any colour vision.
_BELOW, _ABOVE = np.array([33, 102, 172]), np.array([178, 24, 43])
_WALKED = 16  # axes of each region, evenly by the logarithm of their rank
_APART = 0.014  # decades of rank between the markers of two methods
_SAMPLES = 100
MULTIPLES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_HALVINGS = 3  # of the last factor of two, which leave 9 %


@dataclass(frozen=True)
class Strip:
    """An image as the noise of one method sees it.

    Attributes:
        method: Name of the method.
        title: Certificate in words.
        sight: Blindness in words.
        blind: Whether the region is not sighted, and so counts as nothing.
        holds: The largest change of each family that stays inside; empty where a region does not
            count.
        pictures: Data URIs by their captions.
    """

    method: str
    title: str
    sight: str
    blind: bool
    holds: str
    pictures: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of the gallery.

    Attributes:
        title: Index, class and sigma.
        image: The image itself, as a data URI.
        shown: What each method makes of it.
        figure: Semi-axes of the regions, and how far one can walk along some of them.
        absent: Methods that are not in it, and why; empty where all are.
    """

    title: str
    image: str
    shown: Sequence[Strip]
    figure: go.Figure
    absent: str = ""


@dataclass(frozen=True, eq=False)
class Axes:
    """Axes of a noise, the widest first.

    Attributes:
        lengths: (d,) float64, lower bounds of the standard deviations along them.
        directions: (d, d), unit vectors in rows; None for a ball, whose axes are any.
    """

    lengths: NDArray[np.float64]
    directions: NDArray[np.float64] | None

    def direction(self, rank: int) -> NDArray[np.float64]:
        """The unit vector of one axis, (d,); of a ball a random one, the same each time."""
        if self.directions is not None:
            return self.directions[rank]
        drawn = np.random.default_rng(rank).standard_normal(len(self.lengths))
        return drawn / np.linalg.norm(drawn)


def gallery(
    lines: Sequence[Line],
    chosen: Sequence[int] | None = None,
    checkpoints: Sequence[Path] = (),
    data_root: Path | None = None,
) -> tuple[list[Entry], list[str]]:
    """Looks at some images with the noise of every method, and walks with the networks of runs.

    Unless images are chosen they are those with the largest, median and smallest region.

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
            images = source.images(data_root)
            scales = inside.scales_of(own)
        except (ValueError, FileNotFoundError) as error:
            if chosen is not None:
                raise
            remarks.append(f"No images of {source.folder}: {error}.")
            continue
        sha256 = source.metadata.get("weights_sha256", "")
        if sha256 not in networks:
            given = ", ".join(one[:12] for one in networks)
            why = f"is none of those given, {given}" if given else "was not given (--checkpoints)"
            walked = f"Nothing was walked in {source.folder}: its network, sha256 {sha256[:12]}"
            remarks.append(f"{walked}, {why}.")
        for index in _indices(own, chosen):
            entries.append(_entry(own, index, images, scales, networks.get(sha256)))
    return entries, remarks


def _indices(lines: Sequence[Line], chosen: Sequence[int] | None) -> list[int]:
    """The images to show of one run."""
    if chosen is not None:
        known = {index for line in lines for index in line.rows["index"].tolist()}
        if absent := sorted(set(chosen) - known):
            folder = lines[0].source.folder
            raise ValueError(f"images {absent} must be among those of {folder}: choose others")
        return list(dict.fromkeys(chosen))
    certified = [line.rows.loc[~line.abstained] for line in lines if not line.abstained.all()]
    largest = certified[-1] if certified else lines[-1].rows
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
    figure, shown, absent, title = _empty(image.numel()), [], [], ""
    for rank, line in enumerate(lines):
        own = line.rows["index"] == index
        sighted = line.is_sighted[own]
        for row, sees in zip(line.rows.loc[own].to_dict("records"), sighted, strict=True):
            title = f"image {index}, class {row['label']}, σ = {line.sigma:g}"
            if row["prediction"] == ABSTAIN:
                absent.append(f"{line.label} (abstained)")
            if (line.method, index) not in scales:
                absent.append(f"{line.label} (no scale is stored)")
                continue
            noise = scales.noise(line.method, [index], images.event_shape)
            found = axes(noise)
            told = f"{line.label}: {_verdict(row)}", *_sight(row, bool(sees))
            held = _held(inside.of_line(line, images, scales, [index]))
            shown.append(Strip(line.method, *told, held, _pictures(index, image, noise, found)))
            if row["prediction"] == ABSTAIN:
                continue
            semi = row["radius"] * found.lengths
            figure.add_scatter(
                x=np.arange(1, len(semi) + 1, dtype=np.int32),
                y=semi.astype(np.float32),
                customdata=[_four_digits(length) for length in semi],
                mode="lines",
                line={"width": 2, "dash": dashes(line)},
                hovertemplate=f"<b>{line.label}</b>, axis %{{x}}: certified to %{{customdata}}"
                "<extra></extra>",
                meta={"method": line.method},
            )
            if model is not None:
                eps = _drawn(index, image, noise, _SAMPLES)
                aside = rank - (len(lines) - 1) / 2
                figure.add_trace(_walks(line, row, image, eps, found, model, aside))
    return Entry(title, picture(image[0].numpy()), shown, figure, ", ".join(absent))


def _pictures(index: int, image: Tensor, noise: Noise, found: Axes) -> dict[str, str]:
    """What the network sees of an image, and the shape of the noise."""
    shape = tuple(image.shape[1:])
    seen = (image + _drawn(index, image, noise, 1))[0].numpy()
    made = {"x + S z, clipped": picture(seen)}
    if found.directions is not None:
        deviations = noise.variances()[0].sqrt().view(shape).numpy()
        made["standard deviation of each pixel"] = picture(deviations / deviations.max())
        for k, name in ((0, "widest"), (-1, "narrowest")):
            text = f"{name} axis: {found.lengths[k]:.3g}"
            made[text] = signed(found.directions[k].reshape(shape))
    return made


def _drawn(index: int, image: Tensor, noise: Noise, n: int) -> Tensor:
    """Samples S z of the noise of an image, (n, *event)."""
    return noise.colour(Streams.of(0, [index]).normal(Stage.FIT, 0, 0, n, image))[0]


def _verdict(row: Mapping[Any, Any]) -> str:
    """A certificate in words."""
    if row["prediction"] == ABSTAIN:
        return "abstained"
    verdict = "" if row["correct"] else " (wrong)"
    names = {"l2": "l2_radius", "data": "data_radius", "proxy": "proxy_radius"}
    radii = ", ".join(f"{kind} {floored(row.get(name, math.nan))}" for kind, name in names.items())
    return f"class {row['prediction']}{verdict}, radius {radii}"


def _sight(row: Mapping[Any, Any], sees: bool) -> tuple[str, bool]:
    """The blindness of a region in words, and whether it is blind; nothing of an abstention."""
    if row["prediction"] == ABSTAIN:
        return "", False
    share, upper = (row.get(name, math.nan) for name in ("blindness", "blindness_upper"))
    if not share >= 0:  # null
        return UNMEASURED + ("" if sees else ": not sighted"), not sees
    # Rounded up: what is printed is no better than what was measured.
    share, upper = (-floor_to(-one, 3) for one in (share, upper))
    told = f"blindness {share:.3f}, at most {upper:.3f}"
    return told + ("" if sees else ": not sighted"), not sees


def _held(found: pd.DataFrame) -> str:
    """What the region of one image holds, in words."""
    (row,) = found.to_dict("records")
    told = [f"{one.name} {inside.told(one, row[one.name])} {one.unit}" for one in FAMILIES]
    return f"holds {', '.join(told)}" if row["counted"] else ""


def axes(noise: Noise) -> Axes:
    """The axes of the noise of one image."""
    lengths = noise.axes_below[0].flip(0).numpy()
    if not noise.is_diagonal:
        vectors = linalg.eigh(noise.covariance()[0]).eigenvectors
        return Axes(lengths, vectors.T.flip(0).numpy())
    variances = noise.variances()[0]
    if bool((variances == variances[0]).all()):
        return Axes(lengths, None)
    order = variances.argsort(descending=True)
    return Axes(lengths, torch.eye(len(order), dtype=torch.float64)[order].numpy())


@torch.no_grad()
def reach(model: nn.Module, image: Tensor, eps: Tensor, target: int, step: Tensor) -> float:
    """The largest multiple of a step, there and back, up to which the most frequent class stays.

    First `MULTIPLES` are tried, then halves of the interval in which the class changes, on a
    logarithmic scale. A class that changes and comes back between two multiples is not seen.

    Args:
        model: Maps (N, *event) to logits.
        image: (1, *event).
        eps: (n, *event), samples of its noise.
        target: The class.
        step: (*event), a displacement.

    Returns:
        The multiple, the smaller of both directions; 0 where the class has changed at the first.
    """

    def stays(multiple: float) -> bool:
        for way in (multiple * step, -multiple * step):
            votes = one_hot(model(image + way + eps)).sum(0)
            if int(votes.argmax()) != target or not votes[target]:
                return False
        return True

    changes = next((multiple for multiple in MULTIPLES if not stays(multiple)), None)
    if changes is None:
        return MULTIPLES[-1]
    if changes == MULTIPLES[0]:
        return 0.0
    held = changes / 2
    for _ in range(_HALVINGS):
        middle = (held * changes) ** 0.5
        held, changes = (middle, changes) if stays(middle) else (held, middle)
    return held


def _empty(d: int) -> go.Figure:
    """A figure for semi-axes of images of d elements, with the diameter of their domain."""
    figure = empty_figure(x="rank of the axis, widest first", y="semi-axis, pixels")
    figure.update_layout(hoverdistance=-1)  # ranks are far apart at the left
    diameter = math.sqrt(d)
    figure.update_xaxes(type="log", dtick=1, range=[-0.1, math.log10(d) + 0.1])
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


def _walks(
    line: Line,
    row: Mapping[Any, Any],
    image: Tensor,
    eps: Tensor,
    found: Axes,
    model: nn.Module,
    aside: float,
) -> go.Scatter:
    """Walks along some semi-axes of a region; markers stand aside, so that none hides another."""
    semi = row["radius"] * found.lengths
    ranks = np.unique(np.geomspace(1, len(semi), _WALKED).round().astype(int)) - 1
    steps = [torch.from_numpy(found.direction(k) * semi[k]).view(image.shape[1:]) for k in ranks]
    held = [reach(model, image, eps, row["prediction"], step.float()) for step in steps]
    told = []
    for k, multiple in zip(ranks, held, strict=True):
        # Of a ball every direction is an axis.
        place = "at random" if found.directions is None else f"axis {k + 1}"
        further = "and further" if multiple == MULTIPLES[-1] else "of the certified length"
        stays = f"the class stays up to {floor_to(multiple, 2):g} times {further}"
        reached = f"{stays} ({_four_digits(multiple * semi[k])})"
        told.append(f"{place}: {reached if multiple else 'the class has changed at the border'}")
    symbols = {0.0: "x", MULTIPLES[-1]: "triangle-up"}  # an arrow where it never ended
    return go.Scatter(
        x=(ranks + 1) * 10 ** (_APART * aside),
        y=semi[ranks] * np.maximum(held, MULTIPLES[0]),
        customdata=told,
        mode="markers",
        marker={"size": 8, "symbol": [symbols.get(multiple, "circle") for multiple in held]},
        hovertemplate=f"<b>{line.label}</b>, %{{customdata}}<extra></extra>",
        meta={"method": line.method},
    )


def _four_digits(length: float) -> str:
    """A length with four significant digits, rounded down."""
    places = max(0, 3 - math.floor(math.log10(length))) if 0 < length < math.inf else 0
    return floored(length, places)


def picture(pixels: NDArray[np.floating]) -> str:
    """The PNG of an image, (C, H, W), C of 1 or 3, pixels clipped to [0, 1], as a data URI."""
    bytes_ = np.rint(np.clip(np.moveaxis(pixels, 0, -1), 0, 1) * 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(bytes_.squeeze(-1) if len(pixels) == 1 else bytes_).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def signed(values: NDArray[np.floating]) -> str:
    """Values of either sign, (C, H, W): blue and red, white at 0; three channels around grey."""
    scaled = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    if len(values) > 1:
        return picture(0.5 + 0.5 * scaled)
    ends = np.where(scaled < 0, _BELOW[:, None, None], _ABOVE[:, None, None]) / 255
    return picture(1 - np.abs(scaled) * (1 - ends))

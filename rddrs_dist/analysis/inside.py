"""What stored regions hold: the largest rotation, shift, and so on, for each image and method."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from rddrs_dist.analysis.lines import Line, sources
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.data import ImageSet
from rddrs_dist.families import FAMILIES, Family, inside
from rddrs_dist.results.scales import Scales, hashes

_NAMES = [family.name for family in FAMILIES]


def of_line(
    line: Line, images: ImageSet, stored: Scales, chosen: Iterable[int] | None = None
) -> pd.DataFrame:
    """What the regions of one method hold, one row per image, or per chosen one.

    Returns:
        A frame with columns sigma, method, index, counted (whether the prediction is right and the
        region sighted) and the t of each family, 0 where a region does not count.

    Raises:
        ValueError: If a scale is not stored, or is another than that of its row.
    """
    counted = line.right & line.is_sighted
    own = line.rows.assign(counted=counted)[["sigma", "method", "index", "counted", "radius"]]
    if chosen is not None:
        own = own[own["index"].isin(list(chosen))]
    values = np.zeros((len(own), len(FAMILIES)))
    places = np.flatnonzero(own["counted"])
    for place in tqdm(places, line.label, disable=None, leave=False):
        row = own.iloc[place]
        noise = stored.noise(line.method, [row["index"]], images.event_shape)
        image = torch.from_numpy(images.images[[row["index"]]])
        values[place] = inside(noise, np.array([row["radius"]]), image)[:, 0]
    found = own.drop(columns="radius").reset_index(drop=True)
    return found.assign(**dict(zip(_NAMES, values.T, strict=True)))


def scales_of(lines: Sequence[Line]) -> Scales:
    """The stored scales of the lines of one run, which must be those of its rows."""
    rows = pd.concat([line.rows for line in lines])
    return Scales(lines[0].source.folder, hashes(rows, "scale_sha256"))


def of_lines(
    lines: Sequence[Line], data_root: Path | None = None, most: int | None = None
) -> pd.DataFrame:
    """What the regions of the lines of runs hold; see `of_line`.

    Args:
        lines: At least one, none of a log.
        data_root: Folder of the data.
        most: As many images of each line at most, evenly by index; all where it is None.

    Raises:
        FileNotFoundError: If the data are absent.
        ValueError: If scales are missing or are not those of the rows, or the data are others.
    """
    found = []
    for source in sources(lines):
        own = [line for line in lines if line.source.folder == source.folder]
        images, stored = source.images(data_root), scales_of(own)
        for line in own:
            indices = line.rows["index"].to_numpy()
            places = np.linspace(0, len(indices) - 1, min(len(indices), most or len(indices)))
            found.append(of_line(line, images, stored, indices[places.astype(int)]))
    return pd.concat(found, ignore_index=True)


def medians(lines: Sequence[Line], found: pd.DataFrame) -> list[dict[str, str]]:
    """The median t of each family, floored, one row per line in their order."""
    rows = []
    for line in lines:
        own = found[(found["sigma"] == line.sigma) & (found["method"] == line.method)]
        if len(own):
            counts = {"images": f"{len(own):,}", "counted": f"{own['counted'].sum():,}"}
            values = {one.heading: told(one, float(np.median(own[one.name]))) for one in FAMILIES}
            rows.append({"method": line.label, "σ": f"{line.sigma:g}"} | counts | values)
    return rows


def told(family: Family, value: float) -> str:
    """A t, floored; with a sign where it is the largest that was tried."""
    return ("≥ " if value == family.limit else "") + f"{floor_to(value, 3):g}"


def notes() -> str:
    """What the numbers are, in sentences."""
    return (
        "Median over the images of the largest change that stays inside the certified region "
        "together with all smaller ones, in the worst of its signs and directions; 0 where the "
        "prediction is wrong, abstained or not sighted. Proven for all parameters up to the "
        "value, between any steps too, and rounded downward. A shift is any one of at most so "
        "many pixels in x and in y. ≥: no larger change was tried."
    )

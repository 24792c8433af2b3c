"""Reads the rows of a run back: one folder, whole, nothing mixed silently."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rddrs_dist import data
from rddrs_dist.results import disjoint, files
from rddrs_dist.results.columns import KEY, RENAMED, TIMINGS, read_metadata


@dataclass(frozen=True, eq=False)
class Source:
    """Where rows come from: a run, or the log of another project, which has no configuration.

    Attributes:
        folder: Folder of the run; of a log its file.
        run_id: Name of the run, or hash of the log.
        config: What decides the rows, keys by their present names.
        metadata: Hashes and versions.
        digits: Significant digits of the radii of a log; None of a run.
    """

    folder: Path
    run_id: str | None
    config: Mapping[str, Any]
    metadata: Mapping[str, str]
    complete: bool = True
    digits: int | None = None

    @property
    def dataset(self) -> str | None:
        """Name of the data set; None where it is not known."""
        return self.config.get("dataset")

    @property
    def network(self) -> str:
        """The classifier that was smoothed, in words; empty where it is not known."""
        weights, steps = self.metadata.get("weights_sha256", ""), self.config.get("quantisation")
        rounding = f" on pixels rounded to 1/{steps}" if steps else ""
        shorter = " in TF32" if self.config.get("precision") == "tf32" else ""
        return weights[:12] + rounding + shorter if weights else ""

    def images(self, data_root: Path | None) -> data.ImageSet:
        """The test images that were certified.

        Raises:
            FileNotFoundError: If they are absent.
            ValueError: If the images there are others.
        """
        images = data.load(self.dataset or "", "test", data_root)
        if images.sha256 != (wanted := self.config.get("data_sha256", "")):
            raise ValueError(
                f"images of {self.dataset} must be those that were certified (sha256 "
                f"{wanted[:12]}...), got {images.sha256[:12]}...: give the folder of that run "
                "with --data-root"
            )
        return images


def read(directory: str | Path) -> pd.DataFrame:
    """Reads all parts of a run as one frame, sorted by method and index.

    Files whose names start with `_` or `.` are ignored. Rows that a retry wrote twice are kept
    once; they may differ in their timings only.

    Returns:
        A frame with the columns of the rows, and those of the disjoint pass where one was made.
        Its `attrs` hold run_id, config, metadata, complete and dataset of the `Source`.

    Raises:
        FileNotFoundError: If the folder does not exist or has no part.
        ValueError: If a part cannot be read, parts are of different runs, or duplicate rows
            differ.
    """
    source, frame = read_run(directory)
    frame.attrs.update(
        {name: getattr(source, name) for name in ("run_id", "config", "metadata", "complete")},
        dataset=source.dataset,
    )
    return frame


def read_run(directory: str | Path, *, with_disjoint: bool = True) -> tuple[Source, pd.DataFrame]:
    """Reads a run as `read` does, on request without the disjoint pass, and its source."""
    folder = Path(directory)
    parts = [files.read_part(path) for path in files.run_parts(folder).values()]
    source = _source(folder, [read_metadata(part.schema) for part in parts])
    frame = pa.concat_tables([part.replace_schema_metadata(None) for part in parts]).to_pandas()
    frame["contains_ddrs_ball"] = frame["contains_ddrs_ball"].astype("boolean")
    frame = without_duplicates(frame, str(folder)).sort_values(["method", "index"])
    frame = frame.reset_index(drop=True)
    return source, disjoint.join(frame, folder) if with_disjoint else frame


def without_duplicates(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Drops rows of one run that repeat an image and a method; `where` names its folders.

    Raises:
        ValueError: If repeated rows differ in more than timings.
    """
    compared = [name for name in frame.columns if name not in TIMINGS]
    distinct = frame.drop_duplicates(compared)  # NaN counts as equal to NaN here
    repeated = distinct[distinct.duplicated([*KEY], keep=False)]
    for twins in (own for _, own in repeated.groupby([*KEY])):
        index, method = twins["index"].tolist()[0], twins["method"].tolist()[0]
        unequal = [name for name in compared if len(set(map(repr, twins[name]))) > 1]
        raise ValueError(
            f"rows of {where} repeat image {index} with method {method} but differ in "
            f"{', '.join(unequal)}; a rerun must give the same row, so certify again into a "
            "fresh --out"
        )
    return distinct


def _source(folder: Path, metadata: Sequence[dict[str, str]]) -> Source:
    """What the metadata of all parts of a folder tell of its run."""
    ids = sorted({own.get("run_id", "(none)") for own in metadata})
    if len(ids) > 1:
        raise ValueError(
            f"parts in {folder} must be of one run, got runs {', '.join(ids)}; continue the run "
            "with --resume, which sets foreign parts aside"
        )
    own = dict(metadata[0])
    config, run_id = json.loads(own.pop("config", "{}")), own.pop("run_id", None)
    return Source(folder, run_id, _renamed(config), own, (folder / files.SUCCESS).exists())


def _renamed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its keys by their present names."""
    return {
        RENAMED.get(key, key): _renamed(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }

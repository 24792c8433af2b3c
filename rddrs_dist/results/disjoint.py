"""What the disjoint pass found, in files beside the rows of a run.

`_disjoint.parquet` has one row per image and method. Its sizes are those of the region
{x + S' u : |u| < disjoint_radius}; S' is the scale of hash disjoint_scale_sha256: the certified
one, or a narrower one in `_disjoint-scales-*.safetensors`. `_disjoint-hyperplanes.safetensors` has
the hyperplanes that regions were made smaller for: whoever has two regions and the normal of a
hyperplane can tell that they are disjoint.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import save

from rddrs_dist.results import files
from rddrs_dist.results import scales as stored
from rddrs_dist.results.columns import DISJOINT_SCHEMA, KEY, PREFIX, read_metadata
from rddrs_dist.results.scales import CERTIFIED, NARROWED, Scales

DISJOINT = "_disjoint.parquet"
HYPERPLANES = "_disjoint-hyperplanes.safetensors"
COLUMNS = tuple(name for name in DISJOINT_SCHEMA.names if name not in KEY)
_EARLIER = "_sound.parquet"  # of 0.7.0
_AGAIN = "run `rddrs disjoint` again"

_log = logging.getLogger(__name__)


def write(
    folder: Path,
    rows: pd.DataFrame,
    hyperplanes: Mapping[str, Mapping[str, NDArray[Any]]],
    facts: Mapping[str, Any],
) -> None:
    """Writes what a pass has found; its table last, whole or not at all.

    Args:
        folder: Of the run.
        rows: One per image and method, with the columns of `DISJOINT_SCHEMA`.
        hyperplanes: Of each method: `first` and `second`, the index of the image of either region
            of C pairs, (C,) int64; and `normal`, w (C, d) float32 with w . (x_j - x_i) > 0 for a
            hyperplane between regions i and j.
        facts: What else is to be kept of the pass, as plain JSON values.

    Raises:
        OSError: If a file could not be written.
    """
    named = {
        f"{method}/{name}": np.ascontiguousarray(values)
        for method, own in hyperplanes.items()
        for name, values in own.items()
    }
    files.replace(folder / HYPERPLANES, save(named), _AGAIN)
    metadata = {"parts": fingerprint(folder), "disjoint": json.dumps(facts, sort_keys=True)}
    schema = DISJOINT_SCHEMA.with_metadata({PREFIX + key: one for key, one in metadata.items()})
    table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(schema.metadata)
    files.replace(folder / DISJOINT, files.encode(table), _AGAIN)


def clear(folder: Path) -> None:
    """Removes what an earlier pass has left, its table first, which speaks of the rest."""
    for path in (folder / DISJOINT, folder / HYPERPLANES, *stored.files(folder, NARROWED)):
        path.unlink(missing_ok=True)


def facts(folder: Path) -> dict[str, Any] | None:
    """Returns what was kept of a pass beside its rows; None where none was made."""
    if not (folder / DISJOINT).exists():
        return None
    return json.loads(read_metadata(_table(folder).schema)["disjoint"])


def fingerprint(folder: Path) -> str:
    """A hash of the names and contents of all parts of a run."""
    known = [files.describe(path) for path in files.part_paths(folder).values()]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def join(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Adds the columns of a pass to the rows of a run, if one was made and not by version 0.7.0.

    Raises:
        ValueError: If the file cannot be read, has other columns, or rows have changed since.
    """
    if (folder / DISJOINT).exists():
        found = _table(folder).replace_schema_metadata(None).to_pandas()
        return frame.merge(found, on=list(KEY), how="left", validate="one_to_one")
    if (folder / _EARLIER).exists():
        _log.warning("%s is of version 0.7.0 and is not read: %s", folder / _EARLIER, _AGAIN)
    return frame


def scales(folder: Path) -> Scales:
    """The scales of the disjoint regions of a run, checked against their hashes when read.

    With `radius = read(folder)["disjoint_radius"]` the region of an image x of a method is
    {x + S u : |u| < radius}, S = scales(folder).noise(method, [index], event_shape).

    Raises:
        FileNotFoundError: If no pass was made.
        ValueError: If a file cannot be read, or is of another run.
    """
    if not (folder / DISJOINT).exists():
        raise FileNotFoundError(f"{folder} has no {DISJOINT}: run `rddrs disjoint {folder}`")
    hashes = stored.hashes(_table(folder).to_pandas(), "disjoint_scale_sha256")
    return Scales(folder, hashes, (CERTIFIED, NARROWED))


def _table(folder: Path) -> pa.Table:
    """The rows of a pass, if they have the columns of this version and are of the parts there."""
    path = folder / DISJOINT
    table = files.read_table(path)
    if table.schema.names != DISJOINT_SCHEMA.names:
        fault = f"has the columns {', '.join(table.schema.names)}: it is of another version"
    elif read_metadata(table.schema).get("parts") != fingerprint(folder):
        fault = "is not of the parts that are there: the run went on since"
    else:
        return table
    raise ValueError(f"{path} {fault}; run `rddrs disjoint {folder}` again, or remove the file")

"""What the soundness pass found, beside the rows of a run: one more row per image and method.

Sizes are those of the region {x + S' u : |u| < sound_radius}. S' is the scale of hash
sound_scale_sha256: the certified one, or a narrower one that the pass has stored.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rddrs_dist.results import files as parts
from rddrs_dist.results import hyperplanes as planes
from rddrs_dist.results.columns import KEY, PREFIX, read_metadata
from rddrs_dist.results.scales import CERTIFIED, NARROWED, Scales, files

SOUND = "_sound.parquet"
SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), False),
        pa.field("method", pa.string(), False),
        pa.field("sound_radius", pa.float64(), False),
        pa.field("sound_l2_radius", pa.float64(), False),
        pa.field("sound_proxy_radius", pa.float64(), False),
        pa.field("sound_scale_sha256", pa.string(), True),
        pa.field("mu", pa.float64(), False),
        pa.field("nearest_conflict", pa.int64(), True),
        pa.field("witness", pa.string(), False),
        pa.field("rule", pa.string(), False),
    ]
)
COLUMNS = tuple(name for name in SCHEMA.names if name not in KEY)


def write(folder: Path, rows: pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Writes all rows of a pass, whole or not at all.

    Args:
        folder: Folder of the run.
        rows: One row per image and method, with the columns of `SCHEMA`.
        facts: What else is to be kept of the pass, as plain JSON values.

    Raises:
        OSError: If that failed.
    """
    metadata = {"parts": fingerprint(folder), "soundness": json.dumps(facts, sort_keys=True)}
    schema = SCHEMA.with_metadata({PREFIX + key: value for key, value in metadata.items()})
    table = pa.Table.from_pandas(rows[SCHEMA.names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(schema.metadata)
    parts.replace(folder / SOUND, parts.encode(table), "run `rddrs soundness` again")


def clear(folder: Path) -> None:
    """Removes what an earlier pass has left, its table first, which speaks of the rest."""
    for path in (folder / SOUND, *files(folder, NARROWED), *planes.files(folder)):
        path.unlink(missing_ok=True)


def facts(folder: Path) -> dict[str, Any] | None:
    """Returns what was kept of a pass beside its rows; None where none was made.

    Raises:
        ValueError: If the file cannot be read.
    """
    if not (folder / SOUND).exists():
        return None
    return json.loads(read_metadata(_table(folder).schema)["soundness"])


def fingerprint(folder: Path) -> str:
    """A hash of the names and contents of all parts of a run."""
    known = [parts.describe(path) for path in parts.part_paths(folder).values()]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def join(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Adds the columns of a pass to the rows of a run.

    Args:
        frame: Rows of the run.
        folder: Its folder.

    Returns:
        The frame, as it was where no pass was made.

    Raises:
        ValueError: If the file cannot be read, is of an earlier version, or rows have changed
            since.
    """
    if not (folder / SOUND).exists():
        return frame
    found = _table(folder).replace_schema_metadata(None).to_pandas()
    return frame.merge(found, on=list(KEY), how="left", validate="one_to_one")


def scales(folder: Path) -> Scales:
    """The scales of the sound regions of a run, each checked against its hash when it is read.

    With `radius = read(folder)["sound_radius"]` the region of an image x of a method is
    {x + S u : |u| < radius}, S = scales(folder).noise(method, [index], event_shape).

    Raises:
        FileNotFoundError: If no pass was made.
        ValueError: If a file cannot be read, or is of another run.
    """
    if not (folder / SOUND).exists():
        raise FileNotFoundError(f"{folder} has no {SOUND}: run `rddrs soundness {folder}`")
    rows = _table(folder).select([*KEY, "sound_scale_sha256"]).to_pylist()
    hashes = {
        (row["method"], row["index"]): row["sound_scale_sha256"]
        for row in rows
        if row["sound_scale_sha256"] is not None
    }
    return Scales(folder, hashes, (CERTIFIED, NARROWED))


def _table(folder: Path) -> pa.Table:
    """The rows of a pass, if it was made by this version, of the parts that are there."""
    path = folder / SOUND
    table = parts.read_table(path)
    if table.schema.names != SCHEMA.names:
        raise ValueError(
            f"{path} must have the columns {', '.join(SCHEMA.names)}, got those of an earlier "
            f"version: run `rddrs soundness {folder}` again"
        )
    if read_metadata(table.schema).get("parts") != fingerprint(folder):
        raise ValueError(
            f"{path} must be of the parts that are there, got one of others: the run went on "
            f"since; run `rddrs soundness {folder}` again, or remove the file"
        )
    return table

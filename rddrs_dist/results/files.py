"""Files of a run's folder: their names, whole reading and atomic writing.

The folder holds `part-<shard>.parquet` files; everything else in it starts with `_` or `.`,
which pyarrow, pandas, Spark and DuckDB skip, so the folder itself is a Parquet data set.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rddrs_dist.results.columns import (
    PREFIX,
    SCHEMA,
    SCHEMA_VERSION,
    added_after,
    read_metadata,
    removed_since,
)

CONFIG = "_config.json"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
LOCK = ".lock"
TEMPORARY = "_tmp-"
CORRUPT = "_corrupt-"
_PART = re.compile(r"part-(\d{5,})\.parquet")
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def part_name(shard: int) -> str:
    """Returns the file name of a shard's part."""
    return f"part-{shard:05d}.parquet"


def part_paths(folder: Path) -> dict[int, Path]:
    """Returns the part files of a folder by shard, in order of their shards."""
    found = ((_PART.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match.group(1)), path) for match, path in found if match))


def run_parts(folder: Path) -> dict[int, Path]:
    """Returns the part files of a run, as `part_paths` does.

    Raises:
        FileNotFoundError: If the folder does not exist or has none.
    """
    found = part_paths(folder) if folder.is_dir() else {}
    if not found:
        there = "a file" if folder.exists() else "no such folder"
        got = "a folder without part-*.parquet" if folder.is_dir() else there
        raise FileNotFoundError(
            f"{folder} must be the folder of a run, got {got}; give the folder that was --out, or "
            "wait for the run's first part"
        )
    return found


def read_part(path: Path) -> pa.Table:
    """Reads one part whole, with its metadata; checks its pages, columns and schema version.

    Raises:
        ValueError: If the part cannot be read or was written with another schema.
    """
    part = upgraded(read_table(path))
    version = read_metadata(part.schema).get("schema_version")
    if version != str(SCHEMA_VERSION) or part.schema != SCHEMA:
        wanted, got = (str(one.remove_metadata()).split("\n") for one in (SCHEMA, part.schema))
        others = sorted({*wanted} ^ {*got})
        raise ValueError(
            f"{path} must have the columns of schema version {SCHEMA_VERSION}, got version "
            f"{version} and other columns: {', '.join(others) or 'in another order'}; read it "
            "with the code that wrote it"
        )
    return part


def read_table(path: Path) -> pa.Table:
    """Reads a Parquet file whole and checks its pages.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        # ParquetFile: pyarrow's read_table would turn a folder named sigma=0.5 into a column.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} must be a whole Parquet file, got {reason(error)}; continue the run with "
            "--resume to make it again"
        ) from error


def encode(part: pa.Table) -> bytes:
    """Returns the bytes of a part, with a checksum in every page."""
    sink = pa.BufferOutputStream()
    pq.write_table(part, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def replace(path: Path, content: bytes, then: str = "continue with --resume") -> None:
    """Writes a file so that it exists whole or not at all, also after a power cut.

    An earlier file is replaced in one step; `then` says what to do once a fault is mended.

    Raises:
        OSError: If it could not be written, in one line; no temporary file is left and an
            earlier file is untouched.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where even that fails, the next start removes it
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f"{path} was not written: {reason(error)}; make room or mend the folder, then {then}",
        ) from error


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes indented JSON with sorted keys, whole or not at all; see `replace`."""
    replace(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def refuse_run(folder: Path, what: str) -> None:
    """Refuses to put something that is not data, `what` in words, among the data of a run.

    Raises:
        ValueError: If the folder, which need not exist, holds a run.
    """
    if folder.is_dir() and part_paths(folder):
        raise ValueError(
            f"{what} must go to a folder of its own, got {folder}, which holds a run, whose "
            "readers take every file for data; pass another --out"
        )


def describe(path: Path) -> dict[str, Any]:
    """Returns name, number of rows, size in bytes and sha256 of a part, for the manifest."""
    content = path.read_bytes()
    return {
        "name": path.name,
        "rows": pq.read_metadata(pa.BufferReader(content)).num_rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def reason(error: BaseException) -> str:
    """Returns the gist of an error on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable; some network file systems have no such call and need none."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def upgraded(part: pa.Table) -> pa.Table:
    """A part of an earlier version with the columns of this one, those that it lacks null."""
    wanted, there = set(SCHEMA.names), set(part.schema.names)
    version = read_metadata(part.schema).get("schema_version", "")
    if version not in map(str, range(1, SCHEMA_VERSION)):
        return part
    lacking, gone = added_after(int(version)), removed_since(int(version))
    if (wanted - there, there - wanted) != (lacking, gone):
        return part
    columns = [
        pa.nulls(len(part), field.type) if field.name in lacking else part.column(field.name)
        for field in SCHEMA
    ]
    key = f"{PREFIX}schema_version".encode()
    metadata = {**part.schema.metadata, key: str(SCHEMA_VERSION)}
    return pa.table(columns, schema=SCHEMA.with_metadata(metadata))

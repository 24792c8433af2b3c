"""Ways to spoil a folder of results so that one check alone can notice."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from rddrs_dist.results import files
from rddrs_dist.verify import Finding, Outcome, Severity, Verify, verify

Row = dict[str, Any]


def verified(folder: Path, **options: Any) -> list[Outcome]:
    """What `rddrs verify` finds in a folder."""
    return verify(Verify(folder, **options))


def found(outcomes: list[Outcome], severity: Severity = Severity.ERROR) -> dict[str, Finding]:
    """The last finding of each check that has any of that severity."""
    return {
        outcome.check: finding
        for outcome in outcomes
        for finding in outcome.findings
        if finding.severity is severity
    }


def read_rows(folder: Path) -> list[Row]:
    """Rows of the run."""
    parts = [pq.ParquetFile(path) for path in sorted(folder.glob("part-*.parquet"))]
    return [row for part in parts for row in part.read().to_pylist()]


def rewrite(folder: Path, change: Callable[[list[Row]], list[Row]]) -> None:
    """Changes the rows of each part and brings the manifest up to date."""
    for path in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            part = file.read()
        rows = change(part.to_pylist())
        pq.write_table(pa.Table.from_pylist(rows, part.schema), path)
    update_manifest(folder)


def update_manifest(folder: Path) -> None:
    """Describes the parts in the manifest as they are."""
    parts = [files.describe(path) for path in sorted(folder.glob("part-*.parquet"))]
    edit_json("_manifest.json", lambda manifest: manifest.update(parts=parts))(folder)


def change(method: str, certified: bool, **changes: Any) -> Callable[[Path], None]:
    """Changes columns of the rows of one method that are, or are not, certified.

    A change is a value, or a function of the row.
    """

    def of(row: Row) -> Row:
        if row["method"] != method or (row["prediction"] >= 0) != certified:
            return row
        new = {name: to(row) if callable(to) else to for name, to in changes.items()}
        assert new != {name: row[name] for name in new}
        return row | new

    return lambda folder: rewrite(folder, lambda rows: [of(row) for row in rows])


def scaled(column: str, factor: float) -> Callable[[Row], float]:
    """A column times a factor."""
    return lambda row: row[column] * factor


def change_scales(
    method: str, to: Callable[[np.ndarray], np.ndarray], rehash: bool
) -> Callable[[Path], None]:
    """Changes the stored scales of one method, and perhaps the hashes in the rows too."""

    def spoil(folder: Path) -> None:
        hashes: dict[int, str] = {}
        for path in folder.glob("_scales-*.safetensors"):
            scales = load_file(path)
            for name in scales:
                kind = name.split("/")[2]
                if name.split("/")[0] == method:
                    scales[name] = to(scales[name])
                    head = f"{kind} {scales[name].dtype.str} ".encode()
                    own = hashlib.sha256(head + scales[name].tobytes()).hexdigest()
                    hashes[int(name.split("/")[1])] = own
            save_file(scales, path)
        assert hashes
        if rehash:
            for certified in (True, False):
                change(method, certified, scale_sha256=lambda row: hashes[row["index"]])(folder)

    return spoil


def remetadata(key: str, to: Callable[[str], str]) -> Callable[[Path], None]:
    """Changes an entry in the metadata of the first part."""

    def spoil(folder: Path) -> None:
        path = folder / "part-00000.parquet"
        with pq.ParquetFile(path) as file:
            part = file.read()
        metadata = dict(part.schema.metadata)
        name = f"rddrs_dist.{key}".encode()
        metadata[name] = to(metadata[name].decode()).encode()
        pq.write_table(part.replace_schema_metadata(metadata), path)
        update_manifest(folder)

    return spoil


def flip(name: str, at: float) -> Callable[[Path], None]:
    """Changes one bit of a file, at a share of its length."""

    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(at * len(content))] ^= 1
        (folder / name).write_bytes(content)

    return spoil


def edit_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Changes a JSON file in place."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil

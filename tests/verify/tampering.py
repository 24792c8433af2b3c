"""Ways to spoil a folder of results so that one check alone can notice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from rddrs_dist.noise import Packed
from rddrs_dist.results import files
from rddrs_dist.verify import Verify, verify
from rddrs_dist.verify.findings import Finding, Outcome, Severity

Row = dict[str, Any]
Spoil = Callable[[Path], None]
PARTS, PASS = "part-*.parquet", "_disjoint.parquet"


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


def skipped(outcomes: list[Outcome]) -> dict[str, str]:
    """The checks that were not made, and why."""
    return {one.check: one.skipped for one in outcomes if one.skipped is not None}


def read_table(path: Path) -> pa.Table:
    """A Parquet file with its metadata."""
    with pq.ParquetFile(path) as file:
        return file.read()


def read_rows(folder: Path, pattern: str = PARTS) -> list[Row]:
    """Rows of the run, or of the disjoint pass."""
    return [row for path in sorted(folder.glob(pattern)) for row in read_table(path).to_pylist()]


def rewrite(change: Callable[[list[Row]], list[Row]], pattern: str = PARTS) -> Spoil:
    """Changes the rows of each part, or of the pass, and brings the manifest up to date."""

    def spoil(folder: Path) -> None:
        before = read_rows(folder, pattern)
        for path in folder.glob(pattern):
            part = read_table(path)
            pq.write_table(pa.Table.from_pylist(change(part.to_pylist()), part.schema), path)
        assert read_rows(folder, pattern) != before
        update_manifest(folder)

    return spoil


def edit(only: Callable[[Row], bool], pattern: str = PARTS, **changes: Any) -> Spoil:
    """Changes columns of some rows; a change is a value or a function of the row."""

    def of(row: Row) -> Row:
        new = {name: to(row) if callable(to) else to for name, to in changes.items()}
        return row | new if only(row) else row

    return rewrite(lambda rows: [of(row) for row in rows], pattern)


def change(method: str, certified: bool, **changes: Any) -> Spoil:
    """Changes columns of the rows of one method that are, or are not, certified."""
    return edit(
        lambda row: row["method"] == method and (row["prediction"] >= 0) == certified, **changes
    )


def scaled(names: str | tuple[str, ...], factor: float) -> dict[str, Any]:
    """The change of columns to themselves times a factor."""
    known = (names,) if isinstance(names, str) else names
    return {name: lambda row, name=name: row[name] * factor for name in known}


def update_manifest(folder: Path) -> None:
    """Describes the parts in the manifest as they are."""
    parts = [files.describe(path) for path in files.part_paths(folder).values()]
    edit_json("_manifest.json", lambda manifest: manifest.update(parts=parts))(folder)


def change_arrays(pattern: str, to: Callable[[str, np.ndarray], np.ndarray]) -> Spoil:
    """Changes the arrays of all files of a kind; `to` takes their names too."""

    def spoil(folder: Path) -> None:
        for path in sorted(folder.glob(pattern)):
            save_file({name: to(name, one) for name, one in load_file(path).items()}, path)

    return spoil


def change_scales(method: str, to: Callable[[np.ndarray], np.ndarray], rehash: bool) -> Spoil:
    """Changes the stored scales of one method, and perhaps the hashes in the rows too."""

    def spoil(folder: Path) -> None:
        hashes: dict[int, str] = {}

        def own(name: str, values: np.ndarray) -> np.ndarray:
            owner, index, kind = name.split("/")
            if owner != method:
                return values
            hashes[int(index)] = Packed(kind, to(values)).sha256
            return to(values)

        change_arrays("_scales-*.safetensors", own)(folder)
        if rehash:
            now = {"scale_sha256": lambda row: hashes[row["index"]]}
            edit(lambda row: row["method"] == method, **now)(folder)

    return spoil


def remetadata(key: str, to: Callable[[str], str]) -> Spoil:
    """Changes an entry in the metadata of the first part."""

    def spoil(folder: Path) -> None:
        path = folder / "part-00000.parquet"
        part = read_table(path)
        name = f"rddrs_dist.{key}".encode()
        new = {name: to(part.schema.metadata[name].decode()).encode()}
        pq.write_table(part.replace_schema_metadata(part.schema.metadata | new), path)
        update_manifest(folder)

    return spoil


def flip(name: str, at: float) -> Spoil:
    """Changes one bit of a file, at a share of its length."""

    def spoil(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(at * len(content))] ^= 1
        (folder / name).write_bytes(content)

    return spoil


def edit_json(name: str, change: Callable[[Any], object]) -> Spoil:
    """Changes a JSON file in place."""

    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return spoil


def unlink(pattern: str) -> Spoil:
    """Removes files."""

    def spoil(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return spoil


def shift_cell(path: Path, heading: str, by: float, title: str = "") -> None:
    """Adds to the number under a heading in the last line of the first table with a title."""
    mark = "|" if path.suffix == ".md" else ","
    lines = path.read_text().splitlines()
    start = next(k for k, line in enumerate(lines) if title in line)
    at = next(k for k, line in enumerate(lines) if k >= start and heading in line)
    column = [cell.strip() for cell in lines[at].split(mark)].index(heading)
    row = max(k for k, line in enumerate(lines[: at + 8]) if "rddrs_tr" in line)
    cells = lines[row].split(mark)
    number = float(cells[column]) + by
    digits = len(cells[column].strip().partition(".")[2])
    cells[column] = f" {number:.{digits}f} " if mark == "|" else str(number)
    lines[row] = mark.join(cells)
    path.write_text("\n".join(lines) + "\n")

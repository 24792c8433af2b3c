"""Whether the files of a folder belong together: configuration, parts, manifest."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rddrs_dist.verify import columns
from rddrs_dist.verify.findings import Fault, Finding, Outcome, located, odd, wrong
from rddrs_dist.verify.folder import CONFIG, Config, Folder, Part, line

MANIFEST, SUCCESS = "_manifest.json", "_SUCCESS"
_IN_METADATA = ("code_version", "weights_sha256", "data_sha256")


def check_config(folder: Folder) -> Outcome:
    """The configuration is whole, and the run is named after it."""
    faults = list(folder.faults)
    if folder.config is not None:
        wanted, found = folder.config.run_id, folder.recorded.get("run_id")
        faults += [wrong(f"run_id {wanted}, the hash of the configuration", found)] * (
            wanted != found
        )
    version = folder.recorded.get("schema_version")
    if not folder.faults and version != int(columns.VERSION):
        faults.append(wrong(f"schema version {columns.VERSION}", version))
    return Outcome("config", "1 file", tuple(located("config", CONFIG, faults)))


def check_parts(folder: Folder, config: Config) -> Outcome:
    """Every part can be read, has the right columns, and is of this run and its own shard."""
    findings = [
        one
        for part in folder.parts
        for one in located("parts", part.path.name, _part_faults(part, config))
    ]
    return Outcome("parts", f"{len(folder.parts)} files", tuple(findings))


def _part_faults(part: Part, config: Config) -> Iterator[Fault]:
    """What is wrong with one part."""
    yield from part.faults
    wanted = {"run_id": config.run_id, "config": config.canonical}
    wanted |= {name: str(config.plain.get(name)) for name in _IN_METADATA}
    for name, text in wanted.items():
        if part.metadata and part.metadata.get(name) != text:
            yield wrong(f"{name} {text}", part.metadata.get(name))
    shards = sorted({row["shard"] for row in part.rows} - {part.shard})
    if shards:
        yield wrong(f"rows of shard {part.shard}", f"rows of {shards}")


def check_manifest(folder: Folder) -> Outcome:
    """The manifest of a complete run has rows, size and hash of every part."""
    path = folder.path / MANIFEST
    if not (folder.path / SUCCESS).exists():
        unfinished = odd(f"{SUCCESS}, as a complete run has it", "none")
        findings = tuple(located("manifest", str(folder.path), [unfinished]))
        why = "the run is not marked as complete, so no manifest is in force"
        return Outcome("manifest", findings=findings, skipped=why)
    try:
        manifest = json.loads(path.read_bytes())
        listed = {entry["name"]: dict(entry) for entry in manifest["parts"]}
        named = [
            (key, manifest.get(key), folder.recorded.get(key)) for key in ("run_id", "config")
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        findings = tuple(located("manifest", MANIFEST, [wrong("a manifest", line(error))]))
        return Outcome("manifest", "0 files", findings)
    findings = [*_manifest_findings(folder, listed)]
    for key, found, wanted in named:
        if found != wanted:
            findings += located("manifest", MANIFEST, [wrong(f"{key} {wanted}", found)])
    return Outcome("manifest", f"{len(listed)} files", tuple(findings))


def _manifest_findings(folder: Folder, listed: Mapping[str, Mapping]) -> Iterator[Finding]:
    """What the manifest says of each part that is not so."""
    there = {part.path.name: part.path for part in folder.parts}
    for name in sorted(listed.keys() | there.keys()):
        if name not in there:
            faults = [wrong("the part that the manifest lists", "no such file")]
        elif name not in listed:
            faults = [wrong("a part that the manifest lists", "one that it does not")]
        else:
            faults = _entry_faults(there[name], listed[name])
        yield from located("manifest", name, faults)


def _entry_faults(path: Path, entry: Mapping[str, Any]) -> list[Fault]:
    """What an entry of the manifest says of its part that is not so."""
    content = path.read_bytes()
    facts: dict[str, Any] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        facts["rows"] = pq.read_metadata(pa.BufferReader(content)).num_rows
    except (pa.ArrowException, OSError, ValueError):
        facts["rows"] = "none that can be read"
    return [
        wrong(f"{key} {entry.get(key)}", found)
        for key, found in facts.items()
        if entry.get(key) != found
    ]

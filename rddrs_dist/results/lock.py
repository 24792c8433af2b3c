"""Whose a run's folder is: one run, one driver at a time, and never somebody else's files."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from rddrs_dist.results import files
from rddrs_dist.results.columns import SCHEMA_VERSION, read_metadata

_log = logging.getLogger(__name__)


def locked(
    out: Path, *, run_id: str, config: dict[str, Any], resume: bool
) -> filelock.BaseFileLock:
    """Takes a folder for one run; creates it, locks it and records the configuration in it.

    Args:
        out: Folder of the run.
        run_id: Name of the configuration.
        config: The whole configuration, as it comes out of JSON.
        resume: Whether a folder that already holds this run may be continued.

    Returns:
        The lock, held; the caller releases it.

    Raises:
        ValueError: If the folder cannot be written, belongs to something else or to another
            run, is in use, or holds this run and `resume` is False.
    """
    _make_folder(out)
    lock = _acquire(out)
    try:
        _check_owner(out, run_id, config, resume)
        _write_config(out, run_id, config)
    except BaseException:
        lock.release()
        raise
    return lock


def _make_folder(out: Path) -> None:
    """Creates the folder, and refuses one that something else lives in."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"output {out} must be a folder, got a file; pass another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in out.iterdir())
    except OSError as error:
        raise ValueError(
            f"output folder {out} cannot be made or listed: {files.reason(error)}; pass another "
            "--out"
        ) from error
    ours = files.CONFIG in names or bool(files.part_paths(out))
    foreign = [name for name in names if not name.startswith((files.TEMPORARY, files.LOCK))]
    if foreign and not ours:
        raise ValueError(
            f"output folder {out} must be empty or hold a run, got {len(foreign)} other entries "
            f"such as {foreign[0]!r}; pass another --out"
        )


def _acquire(out: Path) -> filelock.BaseFileLock:
    """Takes the folder's lock without waiting."""
    lock = filelock.FileLock(out / files.LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(
            f"output folder {out} is in use by another driver, which holds {out / files.LOCK}; "
            "wait for it to end or pass another --out"
        ) from error
    except OSError as error:
        raise _cannot_write(out, error) from error
    return lock


def _cannot_write(out: Path, error: OSError) -> ValueError:
    """Makes the error for a folder in which nothing can be created."""
    return ValueError(
        f"output folder {out} cannot be written: {files.reason(error)}; pass another --out"
    )


def _check_owner(out: Path, run_id: str, config: dict[str, Any], resume: bool) -> None:
    """Raises where the folder holds a run that may not be continued with this configuration."""
    recorded = _recorded(out)
    if recorded is not None and recorded["run_id"] != run_id:
        fields = "; ".join(_differences(recorded["config"], config)) or "none in the configuration"
        raise ValueError(
            f"output folder {out} holds run {recorded['run_id']}, not run {run_id}; fields that "
            f"differ (there -> here): {fields}; pass the flags of that run with --resume to "
            "continue it or another --out"
        )
    if not resume and (recorded is not None or files.part_paths(out)):
        raise ValueError(
            f"output folder {out} already holds run {run_id if recorded else '(unreadable)'}; "
            "pass --resume to continue it or another --out"
        )


def _recorded(out: Path) -> dict[str, Any] | None:
    """Returns run_id and config of the run in a folder, or None where nothing tells them."""
    path = out / files.CONFIG
    if not path.exists():  # somebody removed it; the parts carry the same two entries
        paths = files.part_paths(out).values()
        return next((own for own in map(_part_owner, paths) if own), None)
    try:
        recorded = json.loads(path.read_text())
        return {"run_id": recorded["run_id"], "config": recorded["config"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must hold a run's configuration, got {files.reason(error)}; remove it to "
            "let the parts speak, or pass another --out"
        ) from error


def _part_owner(path: Path) -> dict[str, Any] | None:
    """Returns run_id and config from a part's metadata, or None where it cannot be read."""
    try:
        found = read_metadata(files.read_part(path).schema)
        return {"run_id": found["run_id"], "config": json.loads(found["config"])}
    except (ValueError, KeyError) as error:
        _log.warning("%s does not tell whose it is: %s", path.name, files.reason(error))
        return None


def _write_config(out: Path, run_id: str, config: dict[str, Any]) -> None:
    """Writes the configuration file, unless the folder already has it."""
    path = out / files.CONFIG
    if path.exists():
        return
    content = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "config": config}
    try:
        files.replace_json(path, content)
    except OSError as error:
        raise _cannot_write(out, error) from error


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yields the fields in which two configurations differ, nested ones with dotted names."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(there.get(key, "(absent)"), here.get(key, "(absent)"), inner)
    elif there != here:
        yield f"{name}: {json.dumps(there)} -> {json.dumps(here)}"

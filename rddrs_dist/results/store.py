"""The only writer of a run's folder: whole parts or none, one run, one driver, safe to resume."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import filelock

from rddrs_dist.noise import Packed
from rddrs_dist.results import files, scales
from rddrs_dist.results.columns import SCHEMA_VERSION, canonical_json, read_metadata, table

_log = logging.getLogger(__name__)


class Store:
    """Writes the parts of one run; make it with `Store.open` and use it as a context manager."""

    def __init__(
        self,
        out: Path,
        metadata: Mapping[str, str],
        lock: filelock.BaseFileLock,
        with_scales: bool = False,
    ) -> None:
        self.out, self.metadata = out, dict(metadata)
        self._lock, self._with_scales = lock, with_scales

    @classmethod
    def open(
        cls,
        out: str | Path,
        *,
        run_id: str,
        config: Mapping[str, Any],
        metadata: Mapping[str, str],
        resume: bool = False,
        with_scales: bool = False,
    ) -> Self:
        """Locks a folder for one run and writes its configuration before anything else.

        Args:
            out: Folder of the run; created where it does not exist.
            run_id: Name of the configuration.
            config: All of it, as plain JSON values.
            metadata: Texts stored in every part, such as weights_sha256 and code_version.
            resume: Whether a folder that already holds this run may be continued.
            with_scales: Whether a shard without stored scales counts as unfinished.

        Raises:
            ValueError: If the folder cannot be written, belongs to something else or to
                another run, is in use, or holds this run and `resume` is False.
        """
        out, text = Path(out), canonical_json(config)
        own = {"run_id": run_id, "config": json.loads(text)}
        _make_folder(out)
        lock = _acquired(out)
        try:
            _check_owner(out, own, resume)
            path = out / files.CONFIG
            if not path.exists():
                with _writable(out):
                    files.replace_json(path, {"schema_version": SCHEMA_VERSION, **own})
        except BaseException:
            lock.release()
            raise
        return cls(out, {**metadata, "run_id": run_id, "config": text}, lock, with_scales)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()  # another driver may have the folder

    def finished(self) -> frozenset[int]:
        """Returns the shards whose part is whole, of this run and without a failed image.

        A part that cannot be read or that another run wrote is renamed to `_corrupt-...`, so
        that it is neither read nor lost, and its shard counts as unfinished.
        """
        for leftover in self.out.glob(files.TEMPORARY + "*"):
            leftover.unlink()
        found = files.part_paths(self.out)
        if self._with_scales:
            found = {k: path for k, path in found.items() if scales.path(self.out, k).exists()}
        return frozenset(shard for shard, path in found.items() if self._is_done(shard, path))

    def write(
        self,
        shard: int,
        rows: Sequence[Mapping[str, Any]],
        stored: Mapping[scales.Key, Packed] | None = None,
    ) -> Path:
        """Writes the part of one shard, and its scales, whole or not at all; returns its path.

        Raises:
            ValueError: If the rows do not fit the columns or name another shard.
            OSError: If the part could not be written; what was there before is untouched.
        """
        content = files.encode(table(rows, self.metadata))
        if others := sorted({row["shard"] for row in rows} - {shard}):
            raise ValueError(
                f"rows of part {shard} must all have shard {shard}, got {others}; write each "
                "shard by itself"
            )
        self._retract()
        if stored is not None:  # first, so that no part is without its scales
            scales.write(self.out, shard, stored)
        path = self.out / files.part_name(shard)
        files.replace(path, content)
        return path

    def universal(self) -> Packed | None:
        """The noise that all images share, where this run has fitted it; see `scales`."""
        return scales.read_universal(self.out)

    def write_universal(self, packed: Packed) -> None:
        """Keeps the noise that all images share, whole or not at all."""
        scales.write_universal(self.out, packed)

    def complete(self, summary: Mapping[str, Any]) -> None:
        """Writes the manifest of all parts, and a summary, and then marks the run as complete.

        Raises:
            OSError: If either could not be written; the run then is not marked as complete.
        """
        own = dict(self.metadata)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "run_id": own.pop("run_id"),
            "config": json.loads(own.pop("config")),
            "metadata": own,
            "summary": summary,
            "parts": [files.describe(path) for path in files.part_paths(self.out).values()],
        }
        files.replace_json(self.out / files.MANIFEST, manifest)
        files.replace(self.out / files.SUCCESS, b"")

    def _is_done(self, shard: int, path: Path) -> bool:
        """Tells whether a part needs no more work; one that is not whole and ours is set aside."""
        try:
            part = files.read_part(path)
            run_id, wanted = read_metadata(part.schema).get("run_id"), self.metadata["run_id"]
            if run_id != wanted:
                raise ValueError(f"it is of run {run_id}, not of run {wanted}")
            if (shards := part["shard"].unique().to_pylist()) != [shard]:
                raise ValueError(f"its rows are of shards {shards}, not of {shard}")
        except ValueError as fault:
            aside = path.with_name(files.CORRUPT + path.name)
            _log.warning("set %s aside as %s and redo it: %s", path.name, aside.name, fault)
            self._retract()
            os.replace(path, aside)
            return False
        return part["error"].null_count == len(part)

    def _retract(self) -> None:
        """Removes the mark of completeness, since the parts are about to change."""
        (self.out / files.SUCCESS).unlink(missing_ok=True)


@contextlib.contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Makes one line of the errors of a folder in which nothing can be created."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"output folder {out} cannot be written: {files.reason(error)}; pass another --out"
        ) from error


def _make_folder(out: Path) -> None:
    """Creates the folder, and refuses one that something else lives in."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"output {out} must be a folder, got a file; pass another --out")
    with _writable(out):
        out.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in out.iterdir())
    foreign = [name for name in names if not name.startswith((files.TEMPORARY, files.LOCK))]
    if foreign and files.CONFIG not in names:
        raise ValueError(
            f"output folder {out} must be empty or hold a run with its {files.CONFIG}, got "
            f"{len(foreign)} other entries such as {foreign[0]!r}; pass another --out"
        )


def _acquired(out: Path) -> filelock.BaseFileLock:
    """Takes the folder's lock without waiting."""
    lock = filelock.FileLock(out / files.LOCK, timeout=0)
    with _writable(out), contextlib.suppress(filelock.Timeout):
        lock.acquire()
        return lock
    raise ValueError(
        f"output folder {out} is in use by another driver, which holds {out / files.LOCK}; wait "
        "for it to end or pass another --out"
    )


def _check_owner(out: Path, own: Mapping[str, Any], resume: bool) -> None:
    """Raises where the folder holds a run that may not be continued with this configuration."""
    recorded = _recorded(out)
    if recorded is None:
        return
    if recorded["run_id"] != own["run_id"]:
        fields = "; ".join(_differences(recorded["config"], own["config"]))
        raise ValueError(
            f"output folder {out} holds run {recorded['run_id']}, not run {own['run_id']}; fields "
            f"that differ (there -> here): {fields or 'none in the configuration'}; pass the "
            "flags of that run with --resume to continue it or another --out"
        )
    if not resume:
        raise ValueError(
            f"output folder {out} already holds run {own['run_id']}; pass --resume to continue it "
            "or another --out"
        )


def _recorded(out: Path) -> dict[str, Any] | None:
    """Returns run_id and config of the run in a folder, or None where nothing tells them."""
    path = out / files.CONFIG
    if not path.exists():
        return None
    try:
        recorded = json.loads(path.read_text())
        return {"run_id": recorded["run_id"], "config": recorded["config"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must hold a run's configuration, got {files.reason(error)}; pass another "
            "--out"
        ) from error


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yields the fields in which two configurations differ, nested ones with dotted names."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(there.get(key, "(absent)"), here.get(key, "(absent)"), inner)
    elif there != here:
        yield f"{name}: {json.dumps(there)} -> {json.dumps(here)}"

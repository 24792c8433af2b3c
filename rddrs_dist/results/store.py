"""The only writer of a run's folder: whole parts or none, one driver, safe to resume."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import pyarrow as pa

from rddrs_dist.noise import Packed
from rddrs_dist.results import files, scales
from rddrs_dist.results.columns import SCHEMA_VERSION, canonical_json, read_metadata, table
from rddrs_dist.results.lock import locked

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
        """Keeps what `open` has locked; call `open` instead."""
        self.out = out
        self.metadata = dict(metadata)
        self._lock = lock
        self._with_scales = with_scales

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
            run_id: Name of the configuration; a folder holds one run only.
            config: The whole configuration, as plain JSON values.
            metadata: Texts stored in every part, such as weights_sha256 and code_version.
            resume: Whether a folder that already holds this run may be continued.
            with_scales: Whether a shard without stored scales counts as unfinished.

        Returns:
            The store, which holds the folder's lock until it is closed.

        Raises:
            ValueError: If the folder cannot be written, belongs to something else or to
                another run, is in use, or holds this run and `resume` is False.
        """
        text = canonical_json(config)
        lock = locked(Path(out), run_id=run_id, config=json.loads(text), resume=resume)
        return cls(Path(out), {**metadata, "run_id": run_id, "config": text}, lock, with_scales)

    def __enter__(self) -> Self:
        """Returns the store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the store."""
        self.close()

    def close(self) -> None:
        """Lets another driver have the folder."""
        self._lock.release()

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
        """Writes the part of one shard so that it exists whole or not at all.

        Args:
            shard: Number of the shard, as in every row.
            rows: The rows of the shard; see `schema.table`.
            stored: Scales to be stored with them, if any.

        Returns:
            The part's path.

        Raises:
            ValueError: If the rows do not fit the schema or name another shard.
            OSError: If the part could not be written; what was there before is untouched.
        """
        content = files.encode(table(rows, self.metadata))
        others = sorted({row["shard"] for row in rows} - {shard})
        if others or shard < 0:
            raise ValueError(
                f"rows of part {shard} must all have shard {shard} (0 or more), got {others}; "
                "write each shard by itself"
            )
        self._retract()
        if stored is not None:  # first, so that no part is without its scales
            scales.write(self.out, shard, stored)
        path = self.out / files.part_name(shard)
        files.replace(path, content)
        return path

    def complete(self, summary: Mapping[str, Any]) -> None:
        """Writes the manifest of all parts and then marks the run as complete.

        Args:
            summary: What the driver wants to tell of the run, as plain JSON values.

        Raises:
            OSError: If either could not be written; the run then is not marked as complete.
        """
        own = {key: text for key, text in self.metadata.items() if key not in ("run_id", "config")}
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.metadata["run_id"],
            "config": json.loads(self.metadata["config"]),
            "metadata": own,
            "summary": json.loads(canonical_json(summary)),
            "parts": [files.describe(path) for path in files.part_paths(self.out).values()],
        }
        files.replace_json(self.out / files.MANIFEST, manifest)
        files.replace(self.out / files.SUCCESS, b"")

    def _is_done(self, shard: int, path: Path) -> bool:
        """Tells whether a part needs no more work; one that is not whole and ours is set aside."""
        try:
            part = files.read_part(path)
            self._check_ours(shard, part)
        except ValueError as fault:
            self._set_aside(path, fault)
            return False
        return part["error"].null_count == len(part)

    def _check_ours(self, shard: int, part: pa.Table) -> None:
        """Raises where a part is not the one of this run that its name promises."""
        run_id = read_metadata(part.schema).get("run_id")
        if run_id != self.metadata["run_id"]:
            raise ValueError(f"it is of run {run_id}, not of run {self.metadata['run_id']}")
        shards = part["shard"].unique().to_pylist()
        if shards != [shard]:
            raise ValueError(f"its rows are of shards {shards}, not of {shard}")

    def _set_aside(self, path: Path, fault: ValueError) -> None:
        """Renames a part, so that it is neither read nor lost."""
        aside = path.with_name(files.CORRUPT + path.name)
        _log.warning("set %s aside as %s, its shard is redone: %s", path.name, aside.name, fault)
        self._retract()
        os.replace(path, aside)

    def _retract(self) -> None:
        """Removes the mark of completeness, since the parts are about to change."""
        (self.out / files.SUCCESS).unlink(missing_ok=True)

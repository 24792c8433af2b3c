"""The record of all attempts of a run: one Parquet file per driver, one row per image and call."""

import time
from pathlib import Path

import pyarrow as pa

from rddrs_dist.results import files
from rddrs_dist.run.scheduler import Attempt

PREFIX = "_events-"
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("shard", pa.int64()),
        ("attempt", pa.int64()),
        ("resort", pa.bool_()),
        ("node", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("seconds", pa.float64()),
        ("ended", pa.float64()),
    ]
)
# Between two writes; a driver that is killed loses the events of this time and no rows.
_SECONDS = 30.0


class EventLog:
    """Collects attempts and writes them from time to time."""

    def __init__(self, out: Path) -> None:
        """Starts a file of its own beside those of earlier drivers of the run."""
        # Nanoseconds, since two drivers may start within one second.
        self._path = out / f"{PREFIX}{time.time_ns()}.parquet"
        self._rows: list[dict[str, object]] = []
        self._written, self._due = 0, time.monotonic() + _SECONDS

    def add(self, attempt: Attempt) -> None:
        """Adds a call that ended, once for each of its images."""
        job = attempt.job
        self._rows += [
            {
                "index": index,
                "shard": job.shard.number,
                "attempt": job.failures + job.losses,
                "resort": job.resort,
                "node": attempt.node,
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "seconds": attempt.seconds,
                "ended": time.time(),
            }
            for index in job.shard.indices
        ]

    def tick(self) -> None:
        """Writes what is new, if it is time to."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Writes what is new.

        Raises:
            OSError: If that failed.
        """
        self._due = time.monotonic() + _SECONDS
        if self._written < len(self._rows):
            table = pa.Table.from_pylist(self._rows, SCHEMA)
            files.replace(self._path, files.encode(table))
            self._written = len(self._rows)


def read_events(out: Path) -> pa.Table:
    """All attempts of a run, of the earliest driver first.

    Args:
        out: Folder of the run.

    Returns:
        Columns: index of the image; shard; attempt, how often it had failed or lost an actor
        before; resort, whether the last resort was tried; node, the address of the machine;
        outcome: done, failed, late or lost; reason; seconds; ended, in Unix time.
    """
    found = map(files.read_table, sorted(out.glob(f"{PREFIX}*.parquet")))
    return pa.concat_tables([SCHEMA.empty_table(), *found])

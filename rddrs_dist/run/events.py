"""What a run tells while it goes on: all its attempts, and how far it is.

Attempts are in one Parquet file per driver, with one row per image and call.
"""

import time
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from rddrs_dist.analysis.status import write_progress
from rddrs_dist.results import files
from rddrs_dist.run.scheduler import Attempt, Scheduler

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
# Between two writes of attempts, which a driver that is killed loses (but no rows), of progress,
# and of lines in a log, which is to stay short.
_EVENT_SECONDS, _PROGRESS_SECONDS, _LINE_SECONDS = 30.0, 5.0, 15.0


class EventLog:
    """Collects attempts and writes them from time to time."""

    def __init__(self, out: Path) -> None:
        # A file of its own; in nanoseconds, since two drivers may start within one second.
        self._path = out / f"{PREFIX}{time.time_ns()}.parquet"
        self._rows: list[dict[str, object]] = []
        self._written, self._due = 0, time.monotonic() + _EVENT_SECONDS

    def add(self, attempt: Attempt) -> None:
        """Adds a call that ended, once for each of its images."""
        job = attempt.job
        tried = (job.shard.number, job.failures + job.losses, job.resort)
        ended = (attempt.node, attempt.outcome, attempt.reason, attempt.seconds, time.time())
        for index in job.shard.indices:
            self._rows.append(dict(zip(SCHEMA.names, (index, *tried, *ended), strict=True)))

    def tick(self) -> None:
        """Writes what is new, if it is time to."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Writes what is new."""
        self._due = time.monotonic() + _EVENT_SECONDS
        if self._written < len(self._rows):
            table = pa.Table.from_pylist(self._rows, SCHEMA)
            files.replace(self._path, files.encode(table))
            self._written = len(self._rows)


class Progress:
    """Images done out of all, with rate and time left: a bar on a terminal, lines in a log."""

    def __init__(self, out: Path, wanted: int, total: int, done: int) -> None:
        """Starts the clock; images that an earlier driver has done do not count in the rate."""
        self._out, self._wanted, self._total = out, wanted, total
        self._before = self._done = done
        self._began = self._shown = time.time()
        self._written = 0.0
        self._bar = tqdm(total=total, initial=done, unit="image", disable=None)

    def advance(self, images: int) -> None:
        """Counts images as done."""
        self._done += images
        self._bar.update(images)

    def tick(self, state: Scheduler) -> None:
        """Shows and writes where things stand, if it is time to."""
        now = time.time()
        if now - self._written >= _PROGRESS_SECONDS:
            self._write(state)
        note = f"actors {state.alive}/{self._wanted}, retries {state.retries}"
        self._bar.set_postfix_str(note)
        last = self._done == self._total
        if self._bar.disable and (last or now - self._shown >= _LINE_SECONDS):
            self._shown = now
            rate = (self._done - self._before) / max((now - self._began) / 60, 1e-9)
            left = f"{(self._total - self._done) / rate:.1f} min" if rate else "unknown"
            done = f"{self._done}/{self._total} images"
            print(f"{done}, {rate:.1f} images/min, ETA {left}, {note}", flush=True)

    def close(self, state: Scheduler) -> None:
        """Ends the bar and writes where things ended."""
        self._bar.close()
        self._write(state)

    def _write(self, state: Scheduler) -> None:
        """Writes how far the run is beside its rows."""
        self._written = time.time()
        write_progress(
            self._out,
            images=self._total,
            done=self._done,
            before=self._before,
            started=self._began,
            updated=self._written,
            actors=state.alive,
            wanted=self._wanted,
            retries=state.retries,
            losses=state.losses,
        )


def read_events(out: Path) -> pa.Table:
    """All attempts of a run, of the earliest driver first.

    Returns:
        Columns: index of the image; shard; attempt, how often it had failed or lost an actor
        before; resort, whether the last resort was tried; node, the address of the machine;
        outcome: done, failed, late or lost; reason; seconds; ended, in Unix time.
    """
    found = map(files.read_table, sorted(out.glob(f"{PREFIX}*.parquet")))
    return pa.concat_tables([SCHEMA.empty_table(), *found])

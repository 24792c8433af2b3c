"""Tells `rddrs status` how far a run is."""

import time
from pathlib import Path

from rddrs_dist.analysis.status import write_progress
from rddrs_dist.run.progress import Progress
from rddrs_dist.run.scheduler import Scheduler

_SECONDS = 5.0


class Heartbeat:
    """Writes the state of a driver beside its rows, every few seconds."""

    def __init__(self, out: Path, progress: Progress, wanted: int) -> None:
        """Starts the clock.

        Args:
            out: Folder of the run.
            progress: Images done out of all.
            wanted: Actors asked for.
        """
        self._out, self._progress, self._wanted = out, progress, wanted
        self._started, self._due = time.time(), 0.0

    def tick(self, state: Scheduler) -> None:
        """Writes, if it is time to."""
        if time.monotonic() >= self._due:
            self.write(state)

    def write(self, state: Scheduler) -> None:
        """Writes how far the run is.

        Raises:
            OSError: If that failed; rows would then fail too.
        """
        self._due = time.monotonic() + _SECONDS
        write_progress(
            self._out,
            images=self._progress.total,
            done=self._progress.done,
            before=self._progress.before,
            started=self._started,
            updated=time.time(),
            actors=state.alive,
            wanted=self._wanted,
            retries=state.retries,
            losses=state.losses,
        )

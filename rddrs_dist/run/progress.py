"""How far a run is: shown on a terminal or in a log, and written for `rddrs status`."""

import math
import sys
import time
from pathlib import Path

from tqdm import tqdm

from rddrs_dist.analysis.status import write_progress
from rddrs_dist.run.scheduler import Scheduler

# A log is to stay short; a person at a terminal wants to see that something moves.
_LINE_SECONDS, _FILE_SECONDS = 15.0, 5.0


class Progress:
    """Images done out of all, with rate and time left: a bar, or a line now and then."""

    def __init__(self, out: Path, wanted: int, total: int, done: int = 0) -> None:
        """Starts the clock.

        Args:
            out: Folder of the run.
            wanted: Actors asked for.
            total: Images of the run.
            done: Those that an earlier driver finished; they do not count in the rate.
        """
        self._out, self._wanted = out, wanted
        self._total, self._before, self._done = total, done, done
        self._began, self._written = time.time(), -math.inf
        self._start = self._shown = time.monotonic()
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit="image") if terminal else None

    def advance(self, images: int) -> None:
        """Counts images as done."""
        self._done += images
        if self._bar is not None:
            self._bar.update(images)

    def tick(self, state: Scheduler) -> None:
        """Shows and writes where things stand, if it is time to.

        Raises:
            OSError: If it could not be written; rows would then fail too.
        """
        now = time.monotonic()
        if now - self._written >= _FILE_SECONDS:
            self._write(state)
        note = f"actors {state.alive}/{self._wanted}, retries {state.retries}"
        if self._bar is not None:
            self._bar.set_postfix_str(note)
        elif now - self._shown >= _LINE_SECONDS or self._done == self._total:
            self._shown = now
            print(f"{self._line()}, {note}", flush=True)

    def close(self, state: Scheduler) -> None:
        """Ends the bar and writes where things ended.

        Raises:
            OSError: If it could not be written.
        """
        if self._bar is not None:
            self._bar.close()
        self._write(state)

    def _line(self) -> str:
        """The state in one line."""
        minutes = max((time.monotonic() - self._start) / 60, 1e-9)
        rate = (self._done - self._before) / minutes
        left = f"{(self._total - self._done) / rate:.1f} min" if rate else "unknown"
        return f"{self._done}/{self._total} images, {rate:.1f} images/min, ETA {left}"

    def _write(self, state: Scheduler) -> None:
        """Writes how far the run is beside its rows."""
        self._written = time.monotonic()
        write_progress(
            self._out,
            images=self._total,
            done=self._done,
            before=self._before,
            started=self._began,
            updated=time.time(),
            actors=state.alive,
            wanted=self._wanted,
            retries=state.retries,
            losses=state.losses,
        )

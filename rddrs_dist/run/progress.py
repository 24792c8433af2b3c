"""How far a run is: a bar on a terminal, elsewhere a line now and then."""

import sys
import time

from tqdm import tqdm

# A log wants to be read, not filled; a person wants to see that something moves.
_LINE_SECONDS = 15.0


class Progress:
    """Images done out of all, with rate and time left."""

    def __init__(self, total: int, done: int = 0) -> None:
        """Starts the clock.

        Args:
            total: Images of the run.
            done: Those that an earlier driver finished; they do not count in the rate.
        """
        self.total, self.before, self.done = total, done, done
        self.start = self.last = time.monotonic()
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, unit="image") if terminal else None

    def advance(self, images: int) -> None:
        """Counts images as done."""
        self.done += images
        if self.bar is not None:
            self.bar.update(images)

    def tick(self, note: str) -> None:
        """Shows where things stand, if it is time to.

        Args:
            note: What else is worth knowing, such as the actors that are alive.
        """
        if self.bar is not None:
            self.bar.set_postfix_str(note)
        elif time.monotonic() - self.last >= _LINE_SECONDS or self.done == self.total:
            self.last = time.monotonic()
            print(self.line(note), flush=True)

    def line(self, note: str) -> str:
        """The state in one line."""
        minutes = max((time.monotonic() - self.start) / 60, 1e-9)
        rate = (self.done - self.before) / minutes
        left = f"{(self.total - self.done) / rate:.1f} min" if rate else "unknown"
        return f"{self.done}/{self.total} images, {rate:.1f} images/min, ETA {left}, {note}"

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()

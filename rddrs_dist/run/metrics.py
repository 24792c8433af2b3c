"""Tells Prometheus, through Ray, how far a run is; `deploy/grafana.json` draws it.

Ray puts `ray_` in front of every name. All are gauges, the counts among them too: Ray does not
export a counter before its first event, so that a first retry would look like none, and it keeps
the counters of drivers that are gone for as long as the cluster lives.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from ray.util.metrics import Gauge

from rddrs_dist.run.progress import Progress
from rddrs_dist.run.scheduler import Attempt, Scheduler
from rddrs_dist.run.worker import Row

logger = logging.getLogger(__name__)

_SECONDS = 5.0
# Enough to tell runs apart, and short enough for the legend of a figure.
_DIGITS = 8

_OF_RUN = {
    "rddrs_images": "Images of the run.",
    "rddrs_images_done": "Images finished, those of earlier drivers of the run included.",
    "rddrs_images_failed": "Images for which nothing could be computed.",
    "rddrs_actors_alive": "Actors that are ready.",
    "rddrs_actors_wanted": "Actors asked for.",
    "rddrs_actors_lost": "Actors lost since this driver started.",
    "rddrs_calls_late": "Calls ended at the hard deadline since this driver started.",
    "rddrs_retries": "Shards queued again since this driver started.",
}
_OF_METHOD = {
    "rddrs_image_seconds": "Mean seconds per image, fit and certificate, of this driver's images.",
    "rddrs_certified_share": "Share of this driver's images whose certified class is right.",
}


class Metrics:
    """Publishes the state of a driver every few seconds; never fails a run."""

    def __init__(self, run: str, progress: Progress, wanted: int) -> None:
        """Publishes nothing yet, so that Ray need not be connected.

        Args:
            run: Its id.
            progress: Images done out of all.
            wanted: Actors asked for.
        """
        self._tags = {"run": run[:_DIGITS]}
        self._progress, self._wanted, self._late = progress, wanted, 0
        self._rows, self._certified, self._computed = Counter(), Counter(), Counter()
        self._seconds: dict[str, float] = {}
        self._gauges: dict[str, Gauge] = {}
        self._due, self._broken = 0.0, False

    def add(self, rows: Iterable[Row]) -> None:
        """Counts rows with their verdicts; for one with an error no time is known."""
        for row in rows:
            method = row["method"]
            self._rows[method] += 1
            self._certified[method] += row["correct"]
            if row["error"] is None:
                seconds = row["fit_seconds"] + row["certify_seconds"]
                self._computed[method] += 1
                self._seconds[method] = self._seconds.get(method, 0.0) + seconds

    def attempt(self, attempt: Attempt) -> None:
        """Counts a call that ended."""
        self._late += attempt.outcome == "late"

    def tick(self, state: Scheduler) -> None:
        """Publishes, if it is time to."""
        if time.monotonic() >= self._due:
            self.publish(state)

    def publish(self, state: Scheduler) -> None:
        """Publishes how far the run is, unless that failed before."""
        self._due = time.monotonic() + _SECONDS
        if self._broken:
            return
        try:
            self._set(state)
        except Exception as error:  # whatever it is, rows are worth more than what is told of them
            self._broken = True
            logger.warning("no metrics from here on: %s: %s", type(error).__name__, error)

    def _set(self, state: Scheduler) -> None:
        """Sets all gauges."""
        for name, value in self._of_run(state).items():
            self._gauge(name, _OF_RUN[name]).set(value, self._tags)
        for name, method, value in self._of_methods():
            tags = {**self._tags, "method": method}
            self._gauge(name, _OF_METHOD[name], "method").set(value, tags)

    def _of_run(self, state: Scheduler) -> dict[str, float]:
        """Names and values of what there is one of."""
        return {
            "rddrs_images": self._progress.total,
            "rddrs_images_done": self._progress.done,
            "rddrs_images_failed": len(state.failed),
            "rddrs_actors_alive": state.alive,
            "rddrs_actors_wanted": self._wanted,
            "rddrs_actors_lost": state.losses,
            "rddrs_calls_late": self._late,
            "rddrs_retries": state.retries,
        }

    def _of_methods(self) -> Iterator[tuple[str, str, float]]:
        """Name, method and value of what there is one of for each method."""
        for method, rows in self._rows.items():
            yield "rddrs_certified_share", method, self._certified[method] / rows
        for method, images in self._computed.items():
            yield "rddrs_image_seconds", method, self._seconds[method] / images

    def _gauge(self, name: str, description: str, *tags: str) -> Gauge:
        """The gauge of that name, made when it is first set."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, description, tag_keys=("run", *tags))
        return self._gauges[name]

"""The driver: reads what a run needs, has its shards done and writes their rows."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rddrs_dist import checkpoints, data
from rddrs_dist.analysis.lines import lines_of
from rddrs_dist.analysis.status import SUMMARY, summary
from rddrs_dist.methods import DDRS, MethodError
from rddrs_dist.noise import Packed, pack
from rddrs_dist.results import files, read_run
from rddrs_dist.results.store import Store
from rddrs_dist.run.events import EventLog, Progress
from rddrs_dist.run.experiment import Execution, Experiment
from rddrs_dist.run.local import LocalExecutor, own_threads
from rddrs_dist.run.options import Run
from rddrs_dist.run.scheduler import PREPARATION, Executor, NoActorError, Scheduler, Shard, split
from rddrs_dist.run.worker import Done, Training, given_up
from rddrs_dist.sight import SIGHTED, principal_subspaces
from rddrs_dist.stats import smallest_bounding_n

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The run was asked to stop; what was done is on disk."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything a run reads, checked.

    Attributes:
        training: None where the data set has no training images.
        universal: The noise of all images, where the checkpoint holds it.
    """

    images: data.ImageSet
    training: data.ImageSet | None
    indices: Sequence[int]
    checkpoint: bytes
    experiment: Experiment
    execution: Execution
    out: Path
    universal: Packed | None = None

    @property
    def work(self) -> tuple[Any, ...]:
        """What a worker is made of."""
        known = self.training
        if known is None:
            return self.experiment, self.execution, self.checkpoint, None
        training = Training(known.images, known.labels)
        if self.experiment.sight_samples:
            with own_threads():  # as many as a worker has, which decides last bits
                torch.set_num_threads(self.experiment.threads)
                basis, sizes = principal_subspaces(torch.from_numpy(known.images))
            training = training._replace(basis=basis.numpy(), sizes=sizes)
        return self.experiment, self.execution, self.checkpoint, training


def read_inputs(run: Run) -> Inputs:
    """Reads and checks the data set and the checkpoint of a run.

    Raises:
        ValueError: If something does not fit; the message says what to do.
        FileNotFoundError: If the data or the checkpoint is absent.
    """
    run.check()
    assert run.checkpoint is not None and run.out is not None
    images = data.load(run.dataset, "test", run.data_root, run.download)
    chosen = run.indices or f"0:{len(images)}"
    indices = data.parse_indices(chosen, len(images))
    content = checkpoints.read(run.checkpoint)
    # From the bytes that workers will get, so that what is checked and hashed is what is used.
    checkpoint = checkpoints.load(content, f"checkpoint {run.checkpoint}")
    wants = (checkpoint.event_shape, checkpoint.classes)
    if wants != (images.event_shape, images.classes):
        raise ValueError(
            f"{run.checkpoint} takes images of shape {wants[0]} in {wants[1]} classes, but "
            f"{run.dataset} has shape {images.event_shape} in {images.classes}: "
            "use a network trained on this data set"
        )
    # A few images show whether it can be computed with at all.
    checkpoints.check_logits(checkpoint.model, torch.from_numpy(images.images[:8]))
    sigma = run.sigma or checkpoint.sigma
    if not sigma:
        raise ValueError(f"{run.checkpoint} does not say its sigma: give it with --sigma")
    training = _training(run, images)
    experiment = Experiment(
        dataset=run.dataset,
        data_sha256=images.sha256,
        training_sha256=None if training is None else training.sha256,
        weights_sha256=checkpoint.sha256,
        sigma=sigma,
        methods=tuple(run.method(name) for name in run.methods),
        start=run.method(DDRS.name),  # pyright: ignore[reportArgumentType]
        indices=chosen,
        budget=run.budget,
        seed=run.seed,
        shard_size=run.shard_size,
        quantisation=run.quantisation,
        precision=run.precision,
        device="cuda" if run.execution.gpus_per_actor > 0 else "cpu",
        threads=run.execution.cpus_per_actor,
        fit_seconds=run.fit_seconds,
        sight_samples=run.sight_samples,
    )
    fewest = smallest_bounding_n(run.alpha, SIGHTED)
    if training is not None and 0 < run.sight_samples < fewest:
        logger.warning(
            "no row can be sighted with --sight-samples %d: at least %d are wanted for a bound of "
            "%g on blindness",
            run.sight_samples,
            fewest,
            SIGHTED,
        )
    universal = _universal(experiment, checkpoint, training)
    read = (images, training, indices, content, experiment, run.execution, run.out, universal)
    return Inputs(*read)


def _universal(
    experiment: Experiment, checkpoint: checkpoints.Checkpoint, training: data.ImageSet | None
) -> Packed | None:
    """The noise of all images that a checkpoint holds; None where it is fitted, or unused."""
    method = experiment.universal
    if method is None:
        return None
    given = method.taken(checkpoint.universal)
    if given is None and training is None:
        raise ValueError(
            f"method {method.name} fits its noise to training images and {experiment.dataset} has "
            f"none: leave it out of --methods, or add them"
        )
    return None if given is None else pack(given)[0]


def _training(run: Run, images: data.ImageSet) -> data.ImageSet | None:
    """The training images, which regions are held against; none where the data has none."""
    try:
        training = data.load(run.dataset, "train", run.data_root, run.download)
    except FileNotFoundError as error:
        logger.warning(
            "regions are not checked against training images, nor is sight measured: %s", error
        )
        return None
    if training.event_shape != images.event_shape:
        raise ValueError(
            f"training images of {run.dataset} have shape {training.event_shape}, its test images "
            f"{images.event_shape}: both splits must be of one size"
        )
    return training


def certify(run: Run) -> dict[int, str]:
    """Does a whole run, or what is left of it.

    Returns:
        Index and reason of each image for which nothing could be computed.

    Raises:
        ValueError: If the configuration is wrong.
        FileNotFoundError: If the data or the checkpoint is absent.
        OSError: If results cannot be written.
        NoActorError: If the cluster offers no actor.
        Stopped: If the run was asked to stop.
    """
    inputs = read_inputs(run)
    experiment, execution = inputs.experiment, inputs.execution
    with Store.open(
        inputs.out,
        run_id=experiment.run_id,
        config=experiment.as_json(),
        metadata=part_metadata(experiment),
        resume=execution.resume,
        with_scales=execution.save_scales,
    ) as store:
        shards = split(inputs.images, inputs.indices, experiment.shard_size)
        finished = store.finished()
        todo = [shard for shard in shards if shard.number not in finished]
        failed = _work(inputs, store, todo) if todo else {}
        if not failed:
            facts = {"images": len(inputs.indices), "shards": len(shards)}
            store.complete(facts)
            lines = lines_of(*read_run(inputs.out))
            files.replace_json(inputs.out / SUMMARY, summary(lines, facts))
    return failed


def part_metadata(experiment: Experiment) -> dict[str, str]:
    """What each part tells of its making."""
    return {
        "code_version": experiment.code_version,
        "torch_version": torch.__version__,
        "precision": experiment.precision,
        "pixel_range": "[0, 1]",
        "weights_sha256": experiment.weights_sha256,
        "data_sha256": experiment.data_sha256,
    }


class _Rows:
    """Writes a shard, with label and verdict, once all its images are there."""

    def __init__(
        self, inputs: Inputs, store: Store, shards: Sequence[Shard], progress: Progress
    ) -> None:
        self._inputs, self._store, self._progress = inputs, store, progress
        self._missing = {shard.number: len(shard.indices) for shard in shards}
        self._found = {shard.number: Done([], {}) for shard in shards}

    def add(self, shard: Shard, found: Done) -> None:
        """Takes rows and scales of a shard or of an image of it; no worker ever sees a label."""
        number, whole = shard.number, self._found[shard.number]
        for row in found.rows:
            label = int(self._inputs.images.labels[row["index"]])
            whole.rows.append({**row, "label": label, "correct": row["prediction"] == label})
        whole.scales.update(found.scales)
        self._missing[number] -= len(shard.indices)
        if not self._missing[number]:
            del self._found[number]
            self._store.write(number, whole.rows, whole.scales or None)
        self._progress.advance(len(shard.indices))


def _work(inputs: Inputs, store: Store, todo: Sequence[Shard]) -> dict[int, str]:
    """Has shards done and writes their rows; indices and reasons of the images given up."""
    total, left = len(inputs.indices), sum(len(shard.indices) for shard in todo)
    progress = Progress(inputs.out, inputs.execution.workers, total, total - left)
    rows, events = _Rows(inputs, store, todo, progress), EventLog(inputs.out)
    universal = inputs.universal or store.universal()
    missing = inputs.experiment.universal is not None and universal is None

    def on_result(shard: Shard, found: Any) -> None:
        if shard.indices:
            return rows.add(shard, found)
        store.write_universal(found)
        executor.share(found)
        scheduler.add(todo)

    def give_up(shard: Shard, why: str) -> None:
        if not shard.indices:
            raise MethodError(f"{shard} could not be fitted: {why}")
        rows.add(shard, given_up(inputs.experiment, shard, why))

    def on_tick(state: Scheduler) -> None:
        check_stop()
        events.tick()
        progress.tick(state)

    with _executor(inputs, universal) as executor, _stoppable() as check_stop:
        first = [PREPARATION] if missing else todo
        scheduler = Scheduler(
            executor, first, inputs.execution, on_result, give_up, events.add, on_tick
        )
        try:
            return scheduler.run()
        finally:
            events.write()
            progress.close(scheduler)


@contextmanager
def _executor(inputs: Inputs, universal: Packed | None) -> Iterator[Executor]:
    """Where shards are done, for the duration of a block."""
    if inputs.execution.executor == "local":
        with own_threads():
            yield LocalExecutor(*inputs.work, universal=universal)
        return
    from rddrs_dist.run.cluster import RayExecutor, connected, resources

    with connected(inputs.execution):
        try:
            yield RayExecutor(*inputs.work, universal=universal)
        except NoActorError as error:
            raise NoActorError(f"{error}: {resources(inputs.execution)}") from error


@contextmanager
def _stoppable() -> Iterator[Callable[[], None]]:
    """Yields a function that raises Stopped after SIGTERM and KeyboardInterrupt after Ctrl-C.

    A handler that raised by itself would do so inside Ray, which makes a SystemError of it. Enter
    this after ray.init, which sets a handler of its own; a second signal is not deferred.
    """
    kinds = {signal.SIGTERM: Stopped, signal.SIGINT: KeyboardInterrupt}
    asked: list[type[BaseException]] = []
    previous: dict[int, Any] = {}

    def check() -> None:
        if asked:
            raise asked[0]

    def ask(number: int, _frame: object) -> None:
        asked.append(kinds[signal.Signals(number)])
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        previous.update({number: signal.signal(number, ask) for number in kinds})
    try:
        yield check
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

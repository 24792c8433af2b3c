"""A small run of all methods with its scales, made without Ray, and copies to spoil."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rddrs_dist import checkpoints, data
from rddrs_dist.analysis import tables
from rddrs_dist.methods import DDRS, RDDRS, RDDRSTR, Ancer
from rddrs_dist.results import files as parts
from rddrs_dist.results import read
from rddrs_dist.results.store import Store
from rddrs_dist.run import cluster
from rddrs_dist.run.disjoint import soundness
from rddrs_dist.run.options import Run, Settings, Soundness, run_id
from rddrs_dist.run.shards import split
from rddrs_dist.run.worker import Task, Worker
from rddrs_dist.train import train_new

RUN = Run(
    indices="0:240:40",
    seed=1,
    n=300,
    alpha=0.01,
    looks=3,
    shard_size=2,
    sigma=0.5,
    save_scales=True,
    settings=Settings(
        ddrs=DDRS(steps=20, candidate_every=10),
        ancer=Ancer(learning_rates=(0.04,), steps=20),
        rddrs=RDDRS(step_lengths=(1.0,), steps=3, gradient_samples=100),
        rddrs_tr=RDDRSTR(steps=3, samples=500, compare_samples=200),
    ),
)


@dataclass(frozen=True)
class Made:
    """A run and what it was made from.

    Attributes:
        folder: Its results.
        checkpoint: Its network.
        tables: Its tables, table.md and table.csv.
    """

    folder: Path
    checkpoint: Path
    tables: tuple[Path, ...]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run; nobody may change it."""
    root = tmp_path_factory.mktemp("verify")
    _train(root / "lenet.safetensors")
    certify_here(RUN, root / "run", root / "lenet.safetensors")
    summary = tables.summary(read(root / "run"))
    (root / "table.md").write_text(tables.to_markdown(summary))
    (root / "table.csv").write_text(summary.to_csv(index=False))
    return Made(root / "run", root / "lenet.safetensors", (root / "table.md", root / "table.csv"))


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy of the run, to be spoilt."""
    shutil.copytree(original.folder, tmp_path / "run")
    copies = tuple(Path(shutil.copy(path, tmp_path)) for path in original.tables)
    return replace(original, folder=tmp_path / "run", tables=copies)


def _train(path: Path) -> None:
    """A LeNet for the 8x8 digits, trained for a second, so that it is right now and then."""
    images = data.load("digits", "train")
    shape, classes = images.event_shape, images.classes
    model = train_new("lenet", images, sigma=0.5, epochs=2, seed=0, report=lambda line: None)
    kind = {"architecture": "lenet", "event_shape": shape, "classes": classes, "sigma": 0.5}
    checkpoints.save(path, model, **kind)


def certify_here(run: Run, out: Path, checkpoint: Path) -> None:
    """What the driver does, in one process."""
    images, training = data.load("digits", "test"), data.load("digits", "train")
    indices = data.parse_indices(run.indices or "", len(images))
    content = checkpoint.read_bytes()
    hashes = (images.sha256, training.sha256, checkpoints.load(content).sha256)
    config = run.identity(0.5, len(images), *hashes)
    metadata = {key: config[key] for key in ("code_version", "weights_sha256", "data_sha256")}
    task = Task(
        run.fitted, run.methods, 0.5, run.budget, run.seed, save_scales=True, levels=run.levels
    )
    worker = Worker(task, content, (training.images, training.labels), threads=1)
    with Store.open(out, run_id=run_id(config), config=config, metadata=metadata) as store:
        for shard in split(images, indices, run.shard_size):
            done = worker.certify(shard)
            labels = {index: int(images.labels[index]) for index in shard.indices}
            judged = [
                row
                | {"label": labels[row["index"]]}
                | {"correct": row["prediction"] == labels[row["index"]]}
                for row in done.rows
            ]
            store.write(shard.number, judged, done.scales)
        store.complete({})
    (out / parts.LOCK).unlink(missing_ok=True)


class _Here:
    """What `Tasks` does, in this process."""

    @classmethod
    @contextmanager
    def connected(cls, _) -> Iterator["_Here"]:
        yield cls()

    def put(self, value: Any) -> Any:
        return value

    def each(self, function: Callable[..., Any], calls: Any) -> Iterator[Any]:
        return (function(*call) for call in calls)


def pass_here(folder: Path, rule: str) -> None:
    """Makes a pass without Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "Tasks", _Here)
        soundness(Soundness(folder, rule=rule))  # pyright: ignore[reportArgumentType]

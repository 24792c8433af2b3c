"""A small run of all methods with its scales, made without Ray, and copies to spoil."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rddrs_dist import checkpoints, data
from rddrs_dist.analysis import tables
from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.methods import DDRS, RDDRS, RDDRSTR, URS, Aim, Ancer
from rddrs_dist.results import files
from rddrs_dist.run.driver import certify
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.options import Run, settings_of
from rddrs_dist.train import train_new

# Fits of no ambition.
QUICK = settings_of(
    DDRS(steps=10, candidate_every=5),
    Ancer(learning_rates=(0.04,), steps=10),
    RDDRS(step_lengths=(1.0,), steps=3, gradient_samples=100),
    RDDRSTR(sighted_steps=3, samples=200, start_samples=50, compare_samples=200),
    URS(steps=4, samples=200, start_samples=1000),
    Aim(rotation=10.0, shift=0.2, trials=2, samples=200, sight_samples=200),
)
RUN = Run(
    indices="0:240:40",
    seed=1,
    n=300,
    alpha=0.01,
    sequential_tests=3,
    tolerance=0.33,  # some images end early
    shard_size=2,
    sigma=0.5,
    execution=Execution(executor="local", save_scales=True),
    settings=QUICK,
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
    root, images = tmp_path_factory.mktemp("verify"), data.load("digits", "train")
    network = root / "lenet.safetensors"
    model = train_new("lenet", images, sigma=0.5, epochs=3, report=lambda line: None)
    facts = {"event_shape": images.event_shape, "classes": images.classes, "sigma": 0.5}
    checkpoints.save(network, model, architecture="lenet", **facts)
    certify_here(RUN, root / "run", network)
    summary = tables.summary(read_lines([root / "run"]))
    (root / "table.md").write_text(tables.to_markdown(summary))
    (root / "table.csv").write_text(summary.to_csv(index=False))
    return Made(root / "run", network, (root / "table.md", root / "table.csv"))


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy of the run, to be spoilt."""
    shutil.copytree(original.folder, tmp_path / "run")
    copies = tuple(Path(shutil.copy(path, tmp_path)) for path in original.tables)
    return replace(original, folder=tmp_path / "run", tables=copies)


def certify_here(run: Run, out: Path, checkpoint: Path) -> None:
    """Does a run in this process."""
    assert certify(replace(run, out=out, checkpoint=checkpoint)) == {}
    (out / files.LOCK).unlink(missing_ok=True)

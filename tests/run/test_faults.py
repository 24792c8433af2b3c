"""Faults of benchmarks/faults.py on a real Ray of several nodes: no row lost or changed.

Those that only the folder of results sees (a full disk, torn and corrupt files, two drivers) are
tried by tests/results/test_store.py, and with a real Ray by benchmarks/chaos.py. So is an actor
that runs out of memory: whether Ray's monitor strikes depends on what else the machine does.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from benchmarks.faults import FAULTS, Bed, Case
from rddrs_dist.results import read
from rddrs_dist.run.cluster import RayExecutor
from rddrs_dist.run.events import read_events
from rddrs_dist.run.options import Run
from rddrs_dist.run.scheduler import Shard

from .flags import as_flags
from .runs import assert_same_rows, changed

pytestmark = pytest.mark.ray

_METHODS = ("ddrs", "rddrs_tr")  # which draw on all streams

# How the call that was struck ended; faults that befall the driver leave no call behind.
OUTCOMES = {
    "killed actor": ("lost", "ActorDied"),
    "hanging actor": ("late", "not done within 15 s"),
    "raising actor": ("failed", "RuntimeError"),
    "lost node": ("lost", "Actor"),
}


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Three nodes: one for the driver, two that work."""
    with Bed.made(2) as bed:
        yield bed


def case(bed: Bed, run: Run, out: Path) -> Case:
    """A run on the bed."""
    on_bed = changed(run, executor="ray", actors=2, address=bed.address, out=out, methods=_METHODS)
    return Case(bed, as_flags(on_bed))


@pytest.mark.parametrize("fault", [*OUTCOMES, "killed driver"])
def test_no_row_is_lost_or_changed(fault: str, bed: Bed, here: Run, quiet: Path, tmp_path: Path):
    struck = case(bed, here, tmp_path / "out")
    assert FAULTS[fault](struck)
    assert_same_rows(struck.out, quiet)
    if fault in OUTCOMES:
        outcome, reason = OUTCOMES[fault]
        tried = read_events(struck.out).to_pandas().query("outcome != 'done'")
        assert set(tried["outcome"]) == {outcome}
        assert tried["reason"].str.contains(reason).any()


def _wait_for(path: str) -> None:
    """Returns once there is a file."""
    while not Path(path).exists():
        time.sleep(0.1)


def test_a_machine_that_joins_while_the_run_goes_on_is_used(
    bed: Bed, here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Three actors are wanted and two machines there; these wait until the third one works."""
    original, seen, joined = RayExecutor.submit, set[int](), tmp_path / "joined"

    def submit(executor: RayExecutor, actor: int, shard: Shard, resort: bool) -> None:
        if not seen:
            bed.join()
        if actor not in seen and len(seen) < 2:
            executor._actors[actor].__ray_call__.remote(
                lambda _self, path: _wait_for(path), str(joined)
            )
        elif actor not in seen:
            joined.touch()
        seen.add(actor)
        original(executor, actor, shard, resort)

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(RayExecutor, "submit", submit)
    try:
        case(bed, here, tmp_path / "out").certify(actors=3)
    finally:
        bed.remove(-1)
    assert len(seen) == 3
    assert read(tmp_path / "out").attrs["complete"]

"""Every fault of benchmarks/faults.py on a real Ray of several nodes: no row lost or changed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.faults import FAULTS, Bed, Case
from rddrs_dist.results import read
from rddrs_dist.results.schema import TIMINGS
from rddrs_dist.run.config import Run
from rddrs_dist.run.events import read_events

from .flags import as_flags

pytestmark = pytest.mark.ray

# How the call that was struck ended; faults that befall the driver leave no call behind.
OUTCOMES = {
    "killed actor": ("lost", "ActorDied"),
    "hanging actor": ("late", "not done within 15 s"),
    "raising actor": ("failed", "RuntimeError"),
    "actor out of memory": ("lost", "OutOfMemory"),
    "lost node": ("lost", "Actor"),
}


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Three nodes: one for the driver, two that work."""
    with Bed.made(2) as bed:
        yield bed


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the rows of the quiet run go; the first test writes them."""
    return tmp_path_factory.mktemp("reference") / "out"


def case(bed: Bed, run: Run, out: Path) -> Case:
    """A run on the bed, of the methods that draw on all streams."""
    here = replace(run, out=out, address=bed.address, methods=("rs", "ddrs", "rddrs_tr"))
    return Case(bed, as_flags(here))


def rows(out: Path) -> pd.DataFrame:
    """Everything in a folder but the times."""
    return read(out).drop(columns=list(TIMINGS))


@pytest.mark.parametrize("fault", FAULTS)
def test_no_row_is_lost_or_changed(fault: str, bed: Bed, run: Run, reference: Path):
    if not reference.exists():
        case(bed, run, reference).certify()
    struck = case(bed, run, reference.with_name(fault))
    assert FAULTS[fault](struck)
    assert read(struck.out).attrs["complete"]
    pd.testing.assert_frame_equal(rows(struck.out), rows(reference), check_exact=True)
    if fault in OUTCOMES:
        outcome, reason = OUTCOMES[fault]
        tried = read_events(struck.out).to_pandas().query("outcome != 'done'")
        assert set(tried["outcome"]) == {outcome}
        assert tried["reason"].str.contains(reason).any()

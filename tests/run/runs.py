"""Runs of the tests of this folder: changed, done, and compared."""

import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rddrs_dist import cli
from rddrs_dist.families import FAMILIES
from rddrs_dist.results import files, read
from rddrs_dist.results.columns import TIMINGS
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.options import Run

from .flags import as_flags

_EXECUTION = frozenset(field.name for field in fields(Execution))


def changed(run: Run, **changes: Any) -> Run:
    """A run with other fields, its own or those of its execution."""
    execution = {name: changes.pop(name) for name in _EXECUTION & changes.keys()}
    return replace(run, execution=replace(run.execution, **execution), **changes)


def certify(run: Run, **changes: Any) -> int:
    """The exit code of `rddrs certify` in this process."""
    return cli.main(["certify", *as_flags(changed(run, **changes))])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, which is one line."""
    text = capsys.readouterr().err
    assert text.startswith("rddrs: error: ") and text.count("\n") == 1
    return text


def wait_for(done: Callable[[], Any], seconds: float) -> bool:
    """Whether something came to be in time; asks 50 times a second."""
    deadline = time.monotonic() + seconds
    while not (found := done()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(found)


def rows(out: Path) -> pd.DataFrame:
    """Everything in a folder but the times."""
    return read(out).drop(columns=list(TIMINGS))


def assert_same_rows(out: Path, reference: Path) -> None:
    """Holds a complete run to the rows that another one has of its methods, bit for bit."""
    found, wanted = rows(out), rows(reference)
    methods = found.attrs["config"]["methods"]
    wanted = wanted[wanted["method"].isin(methods)]
    if "aim" not in methods:  # whose changes are then not looked for
        named = ["aim_scale", *(one.column for one in FAMILIES)]
        assert found[named].isna().all(axis=None)
        wanted = wanted.assign(**dict.fromkeys(named, float("nan")))
    pd.testing.assert_frame_equal(found, wanted.reset_index(drop=True), check_exact=True)
    assert found.attrs["complete"]


def parts(out: Path) -> dict[str, int]:
    """Part files and when they were written."""
    found = files.part_paths(out).values() if out.exists() else ()
    return {path.name: path.stat().st_mtime_ns for path in found}


def scales(out: Path) -> dict[str, bytes]:
    """Files of stored scales."""
    return {path.name: path.read_bytes() for path in out.glob("_scales-*")}

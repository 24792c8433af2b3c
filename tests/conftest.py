"""Fixtures that every test module may use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.small_run import made, original  # noqa: F401

# Ray reads these when it is imported: tests need no token, and tell nobody that they ran.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps modules that start Ray in one process, and others, whose fixtures cost time, whole."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "ray" if _starts_ray(config.rootpath / module) else module

    config.option.loadscopereorder = False
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets tests that start Ray, which take the longest together, begin."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not _starts_ray(item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lets workers of Ray, which run at nice 15, go before tests that compute."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _starts_ray(item.path):
        os.nice(max(0, 19 - os.nice(0)))


@cache
def _starts_ray(module: Path) -> bool:
    return "pytest.mark.ray" in module.read_text()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with MNIST, CIFAR-10 and the authors' networks, or skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RDDRS_SHARED") or beside)
    if not (folder / "data" / "MNIST").is_dir() or not (folder / "reference").is_dir():
        pytest.skip(f"no data sets and networks in {folder}: name their folder in RDDRS_SHARED")
    return folder

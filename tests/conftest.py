"""Fixtures that every test module may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.small_run import made, original  # noqa: F401

# Ray reads these when it is imported: tests need no token, and tell nobody that they ran.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps tests of Ray in one process, and modules, whose fixtures cost time, together."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: not _of_ray(item))  # those take the longest: they start first
        for item in items:
            group = "ray" if _of_ray(item) else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lets workers of Ray, which run at nice 15, go before tests that compute."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _of_ray(item):
        os.nice(max(0, 19 - os.nice(0)))


def _of_ray(item: pytest.Item) -> bool:
    return item.get_closest_marker("ray") is not None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with MNIST, CIFAR-10 and the authors' networks, or skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RDDRS_SHARED") or beside)
    if not (folder / "data" / "MNIST").is_dir() or not (folder / "reference").is_dir():
        pytest.skip(f"no data sets and networks in {folder}: name their folder in RDDRS_SHARED")
    return folder

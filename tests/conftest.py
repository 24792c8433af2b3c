"""Fixtures that every test module may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.small_run import made, original  # noqa: F401

# Ray reads these when it is imported: tests need no token, and tell nobody that they ran.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with MNIST, CIFAR-10 and the authors' networks, or skip the test."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("RDDRS_SHARED") or beside)
    if not (folder / "data" / "MNIST").is_dir() or not (folder / "reference").is_dir():
        pytest.skip(f"no data sets and networks in {folder}: name their folder in RDDRS_SHARED")
    return folder

"""Planes of several files, read by their numbers."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from rddrs_dist.results import hyperplanes as planes


@pytest.fixture
def normals() -> np.ndarray:
    """The planes of all files together."""
    return np.arange(30, dtype=np.float32).reshape(10, 3)


def test_planes_are_found_over_all_files(tmp_path: Path, normals: np.ndarray):
    stored, pairs = planes.Planes("rs", 3), (np.arange(10), np.arange(10) + 10)
    for number, own in enumerate([slice(0, 4), slice(4, 5), slice(5, 10)]):
        both = (pairs[0][own], pairs[1][own])
        file = planes.write(tmp_path, number, "rs", both, normals[own])
        stored.append(file, len(both[0]))
        assert load_file(file)["rs/second"].tolist() == both[1].tolist()
    for chosen in ([], [0], [4], [1, 3, 4, 9], list(range(10))):
        found = stored.normals(np.array(chosen, np.int64))
        assert found.dtype == np.float32 and np.array_equal(found, normals[chosen])
    assert [path.name for path in planes.files(tmp_path)] == [
        f"_sound-planes-0000{number}.safetensors" for number in range(3)
    ]


def test_a_file_that_cannot_be_written_says_what_to_do(tmp_path: Path, normals: np.ndarray):
    pairs = (np.arange(10), np.arange(10))
    with pytest.raises(OSError, match="run `rddrs soundness` again"):
        planes.write(tmp_path / "absent", 0, "rs", pairs, normals)

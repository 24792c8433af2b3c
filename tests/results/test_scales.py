"""Stored scales: whole files, found by method and image, and what is missing is said."""

from pathlib import Path

import numpy as np
import pytest

from rddrs_dist.noise import FullNoise, Packed
from rddrs_dist.results import scales
from rddrs_dist.results.store import Store

from .rows import row

ROUND = Packed("isotropic", np.array([0.25], np.float32))
LOWER = Packed("lower", np.arange(1, 4, dtype=np.float32))


def test_scales_of_several_shards_are_found_by_method_and_image(tmp_path: Path):
    scales.write(tmp_path, 0, {("rs", 3): ROUND, ("rddrs_tr", 3): LOWER})
    scales.write(tmp_path, 12, {("rs", 7): ROUND})
    stored = scales.Scales(tmp_path)
    assert ("rs", 7) in stored and ("rddrs_tr", 7) not in stored
    found = stored.packed("rddrs_tr", 3)
    assert found.kind == "lower" and np.array_equal(found.values, LOWER.values)
    assert found.sha256 == LOWER.sha256
    noise = stored.noise("rddrs_tr", [3], (2,))
    assert isinstance(noise, FullNoise)
    assert noise.scale.tolist() == [[[1.0, 0.0], [2.0, 3.0]]]
    with pytest.raises(ValueError, match="no scale of image 7 for rddrs_tr"):
        stored.packed("rddrs_tr", 7)


def test_a_folder_without_scales_says_how_to_get_them(tmp_path: Path):
    with pytest.raises(ValueError, match="certify with --save-scales"):
        scales.Scales(tmp_path)


def test_a_torn_file_is_one_clear_line(tmp_path: Path):
    scales.write(tmp_path, 0, {("rs", 3): ROUND})
    whole = scales.path(tmp_path, 0).read_bytes()
    scales.path(tmp_path, 0).write_bytes(whole[:-2])
    with pytest.raises(ValueError, match=r"must be a whole file of scales.*--resume"):
        scales.Scales(tmp_path)


def test_a_shard_without_its_scales_is_unfinished_where_they_are_wanted(tmp_path: Path):
    given = {"run_id": "a", "config": {}, "metadata": {}, "resume": True}
    with Store.open(tmp_path, **given) as store:
        store.write(0, [row(0)])
        store.write(1, [row(1, shard=1)], {("rs", 1): ROUND})
        assert store.finished() == {0, 1}
    with Store.open(tmp_path, **given, with_scales=True) as store:
        assert store.finished() == {1}

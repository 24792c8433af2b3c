"""The worker in this process, without Ray."""

import numpy as np
import pytest
import torch

from rddrs_dist import checkpoints, data
from rddrs_dist.certify import Budget
from rddrs_dist.methods import DDRS, RDDRS, RDDRSTR, RS, Ancer
from rddrs_dist.results.columns import SCHEMA
from rddrs_dist.run.shards import Shard, split
from rddrs_dist.run.worker import Task, Worker
from rddrs_dist.train import train_new

DIGITS = data.load("digits")
KNOWN = data.load("digits", "train")
TRAINING = (KNOWN.images, KNOWN.labels)
DRIVERS_COLUMNS = {"label", "correct"}
METHODS = (
    DDRS(steps=20, candidate_every=10, learning_rate=1e-3),
    RS(),
    Ancer(steps=5),
    RDDRS(steps=3, gradient_samples=200),
    RDDRSTR(steps=3, samples=500, compare_samples=500),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("network") / "lenet.safetensors"
    model = train_new("lenet", KNOWN, sigma=0.25, epochs=8, learning_rate=3e-3)
    shape, classes = DIGITS.event_shape, DIGITS.classes
    checkpoints.save(path, model, architecture="lenet", event_shape=shape, classes=classes, sigma=0.25)
    return checkpoints.read(path)


@pytest.fixture(autouse=True)
def threads():
    """A worker sets torch's threads for its process; this process wants its own back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _task(report=("rs", "ddrs", "ancer", "rddrs", "rddrs_tr")) -> Task:
    return Task(METHODS, report, 0.25, Budget(n=500), seed=0)


def test_a_shard_gives_one_row_per_method_and_image(checkpoint):
    shard = split(DIGITS, [3, 8, 20], 3)[0]
    rows = Worker(_task(), checkpoint, TRAINING, threads=1).certify(shard).rows
    assert {(row["method"], row["index"]) for row in rows} == {
        (method.name, index) for method in METHODS for index in shard.indices
    }
    assert len(rows) == 15
    for row in rows:
        assert set(row) == set(SCHEMA.names) - DRIVERS_COLUMNS
        assert row["min_axis"] <= row["mean_axis"] <= row["max_axis"]
        assert row["l2_radius"] <= row["proxy_radius"]


def test_without_training_images_nobody_knows_who_is_inside(checkpoint):
    shard = split(DIGITS, [3], 1)[0]
    report = ("rs", "rddrs_tr")
    known = Worker(_task(report), checkpoint, TRAINING, threads=1).certify(shard).rows
    unknown = Worker(_task(report), checkpoint, None, threads=1).certify(shard).rows
    assert [row["others_inside"] for row in known] == [0, 0]
    assert [row["others_inside"] for row in unknown] == [None, None]


def test_balls_are_compared_with_the_ddrs_one(checkpoint):
    shard = split(DIGITS, [3, 8], 2)[0]
    rows = Worker(_task(), checkpoint, TRAINING, threads=1).certify(shard).rows
    ball = {row["index"]: row["l2_radius"] for row in rows if row["method"] == "ddrs"}
    for row in rows:
        assert row["contains_ddrs_ball"] is (row["l2_radius"] >= ball[row["index"]])
    alone = (
        Worker(_task(report=("rs", "ancer")), checkpoint, TRAINING, threads=1).certify(shard).rows
    )
    assert {row["contains_ddrs_ball"] for row in alone} == {None}


def test_methods_asked_for_or_not_the_others_rows_stay(checkpoint):
    """sigma_star is the same whether or not DDRS itself is certified."""
    shard = split(DIGITS, [3], 1)[0]
    all_rows = Worker(_task(), checkpoint, TRAINING, threads=1).certify(shard).rows
    (alone,) = (
        Worker(_task(report=("rddrs",)), checkpoint, TRAINING, threads=1).certify(shard).rows
    )
    (beside,) = (row for row in all_rows if row["method"] == "rddrs")
    for name in ("count", "radius", "proxy_radius", "max_axis", "fit_objective"):
        assert alone[name] == beside[name]


def test_workers_never_see_labels():
    assert "labels" not in Shard.__dataclass_fields__


def test_shards_cover_the_images_in_order():
    shards = split(DIGITS, range(10), 4)
    assert [shard.number for shard in shards] == [0, 1, 2]
    assert [index for shard in shards for index in shard.indices] == list(range(10))
    np.testing.assert_array_equal(shards[2].images, DIGITS.images[8:10])
    assert str(shards[0]) == "shard 0 (images 0 to 3)"

"""The worker in this process, without Ray."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rddrs_dist import checkpoints, data
from rddrs_dist.certify import Budget
from rddrs_dist.methods import DDRS, RDDRS, RDDRSTR, RS, Ancer
from rddrs_dist.results.columns import COLUMNS
from rddrs_dist.run.experiment import Execution, Experiment
from rddrs_dist.run.local import own_threads
from rddrs_dist.run.scheduler import split
from rddrs_dist.run.worker import Row, Training, Worker, given_up
from rddrs_dist.sight import principal_subspaces

DIGITS = data.load("digits")
KNOWN = data.load("digits", "train")
BASIS, SIZES = principal_subspaces(torch.from_numpy(KNOWN.images))
TRAINING = Training(KNOWN.images, KNOWN.labels, BASIS.numpy(), SIZES)
START = DDRS(steps=20, candidate_every=10, learning_rate=1e-3)
METHODS = (
    RS(),
    START,
    Ancer(steps=5),
    RDDRS(steps=3, gradient_samples=200),
    RDDRSTR(sighted_steps=3, samples=500, compare_samples=500),
)
EXPERIMENT = Experiment("digits", "", None, "", 0.25, METHODS, START, "0:9", Budget(n=500))
SHARD = split(DIGITS, [3, 8, 20], 3)[0]


@pytest.fixture(autouse=True)
def threads():
    """A worker sets torch's threads for its process; this process wants its own back."""
    with own_threads():
        yield


def computed(checkpoint: Path, *methods: str, training: Training | None = TRAINING) -> list[Row]:
    """Rows of the shard, of all methods or of some."""
    wanted = tuple(one for one in METHODS if one.name in methods or not methods)
    own = replace(EXPERIMENT, methods=wanted)
    content = checkpoints.read(checkpoint)
    return Worker(own, Execution(), content, training).certify(SHARD).rows


@pytest.fixture(scope="module")
def rows(checkpoint: Path) -> list[Row]:
    """Rows of all methods."""
    with own_threads():
        return computed(checkpoint)


def test_a_shard_gives_one_row_per_method_and_image(rows):
    found = sorted((row["method"], row["index"]) for row in rows)
    assert found == sorted((method.name, index) for method in METHODS for index in SHARD.indices)
    for row in rows:
        assert row["min_axis"] <= row["mean_axis"] <= row["max_axis"]
        assert row["l2_radius"] <= row["proxy_radius"]


def test_rows_have_exactly_the_columns_that_the_driver_does_not_add(rows):
    wanted = {one.name for one in COLUMNS} - {"label", "correct"}
    for row in [*rows, *given_up(EXPERIMENT, SHARD, "why").rows]:
        assert row.keys() == wanted


def test_without_training_images_nobody_knows_who_is_inside(rows, checkpoint):
    assert {row["others_inside"] for row in rows if row["method"] in ("rs", "rddrs_tr")} == {0}
    unknown = computed(checkpoint, "rs", "rddrs_tr", training=None)
    assert {row["others_inside"] for row in unknown} == {None}


SIGHT = ("blindness", "blindness_upper", "data_radius", "data_radius_99")


def test_sight_is_measured_of_every_region(rows):
    for row in rows:
        certified = row["prediction"] >= 0
        assert (row["blindness"] is not None) == (row["blindness_upper"] is not None) == certified
        assert row["l2_radius"] <= row["data_radius"] and (row["data_radius_99"] > 0) == certified
        if certified:
            assert 0 <= row["blindness"] < row["blindness_upper"] < 1
            assert row["blindness"] * 2000 == pytest.approx(round(row["blindness"] * 2000))
        if row["method"] in ("rs", "ddrs"):
            assert row["data_radius"] == row["data_radius_99"] == row["l2_radius"]
    assert any(row["data_radius"] > row["l2_radius"] for row in rows)


def test_sight_is_null_where_it_is_not_measured(checkpoint):
    unmeasured = replace(EXPERIMENT, methods=METHODS[:1], sight_samples=0)
    worker = Worker(unmeasured, Execution(), checkpoints.read(checkpoint), TRAINING)
    for found in (
        computed(checkpoint, "rs", training=None),
        worker.certify(SHARD).rows,
        given_up(EXPERIMENT, SHARD, "why").rows,
    ):
        assert all(row[name] is None for row in found for name in SIGHT)


def test_an_image_alone_has_the_sight_that_it_has_among_others(rows, checkpoint):
    own = replace(EXPERIMENT, methods=METHODS[:1])
    worker = Worker(own, Execution(), checkpoints.read(checkpoint), TRAINING)
    for shard in split(DIGITS, SHARD.indices, 1):
        (alone,) = worker.certify(shard).rows
        (among,) = [
            row for row in rows if row["method"] == "rs" and row["index"] == alone["index"]
        ]
        assert [alone[name] for name in SIGHT] == [among[name] for name in SIGHT]


def test_a_last_resort_is_measured_as_well(checkpoint):
    own = replace(EXPERIMENT, methods=METHODS[:1])
    worker = Worker(own, Execution(), checkpoints.read(checkpoint), TRAINING)
    for row in worker.certify(SHARD, resort=True).rows:
        assert row["data_radius"] == row["l2_radius"]
        assert (row["blindness"] is None) == (row["prediction"] < 0)


@pytest.mark.parametrize("labels", [(3, 3), (0, 1), (7, 9)])
def test_training_images_may_be_of_one_label_of_two_or_of_few(checkpoint, labels):
    """Null where the class is the only label there is."""
    drawn = np.array(labels)[np.arange(len(KNOWN)) // 2 % 2]
    for row in computed(checkpoint, "rs", training=TRAINING._replace(labels=drawn)):
        if row["prediction"] >= 0:
            assert (row["blindness"] is None) == (set(labels) == {row["prediction"]})
            assert row["data_radius"] == row["l2_radius"]


def test_balls_are_compared_with_the_ddrs_one(rows, checkpoint):
    ball = {row["index"]: row["l2_radius"] for row in rows if row["method"] == "ddrs"}
    for row in rows:
        assert row["contains_ddrs_ball"] is (row["l2_radius"] >= ball[row["index"]])
    alone = computed(checkpoint, "rs", "ancer")
    assert {row["contains_ddrs_ball"] for row in alone} == {None}


def test_methods_asked_for_or_not_the_others_rows_stay(rows, checkpoint):
    """sigma_star is the same whether or not DDRS itself is certified."""
    beside = [row for row in rows if row["method"] == "rddrs"]
    alone = computed(checkpoint, "rddrs")
    for name in ("count", "radius", "proxy_radius", "max_axis", "fit_objective", "scale_sha256"):
        assert [row[name] for row in alone] == [row[name] for row in beside]


def test_shards_cover_the_images_in_order_and_have_no_labels():
    shards = split(DIGITS, range(10), 4)
    assert [shard.number for shard in shards] == [0, 1, 2]
    assert [index for shard in shards for index in shard.indices] == list(range(10))
    np.testing.assert_array_equal(shards[2].images, DIGITS.images[8:10])
    assert str(shards[0]) == "shard 0 (images 0 to 3)"
    assert vars(shards[0]).keys() == {"number", "indices", "images"}

"""What a run reads before anything is computed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rddrs_dist import checkpoints
from rddrs_dist.run.driver import read_inputs
from rddrs_dist.run.options import Run
from tests.test_data import encoded, write_hub


def write_split(folder: Path, split: str, side: int) -> None:
    """Four grey images of a side, labelled 0 to 3."""
    blobs = [encoded(np.full((side, side), 60 * shade, np.uint8)) for shade in range(4)]
    write_hub(folder, f"{split}-00000-of-00001.parquet", blobs, list(range(4)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run over a data set that has a test split only."""
    write_split(tmp_path, "test", 8)
    facts = {"architecture": "lenet", "event_shape": (1, 8, 8), "classes": 4}
    network = tmp_path / "net.safetensors"
    checkpoints.save(network, checkpoints.build("lenet", (1, 8, 8), 4).eval(), **facts, sigma=0.25)
    return Run(dataset="parquet", data_root=tmp_path, checkpoint=network, out=tmp_path / "out")


def test_a_data_set_may_have_no_training_images(run, caplog):
    with pytest.raises(ValueError, match="urs fits its noise to training images and parquet has"):
        read_inputs(run)
    caplog.clear()
    inputs = read_inputs(replace(run, methods=("rs", "rddrs_tr")))
    assert inputs.training is None
    assert inputs.experiment.training_sha256 is None
    (told,) = caplog.messages
    assert "not checked against training images, nor is sight measured: no train-*.par" in told
    assert inputs.work[-1] is None


@pytest.mark.parametrize(("samples", "told"), [(0, False), (134, True), (135, False)])
def test_samples_of_which_no_row_can_be_sighted_are_told_of_once(run, caplog, samples, told):
    """At alpha = 0.001 135 samples, none of them blind, give a bound of 0.05."""
    write_split(run.data_root, "train", 8)
    inputs = read_inputs(replace(run, sight_samples=samples))
    assert inputs.experiment.sight_samples == samples
    if told:
        (message,) = caplog.messages
        assert "--sight-samples 134: at least 135 are wanted for a bound of 0.05" in message
    else:
        assert not caplog.messages


def test_workers_get_the_principal_directions_where_sight_is_measured(run):
    write_split(run.data_root, "train", 8)
    _, _, _, training = read_inputs(run).work
    assert training.basis.shape == (64, 1) and training.sizes == (1, 1)  # shades of grey
    _, _, _, training = read_inputs(replace(run, sight_samples=0)).work
    assert training.basis is None and training.sizes == ()


def test_training_images_are_part_of_the_identity_and_have_the_size_of_the_others(run):
    write_split(run.data_root, "train", 8)
    inputs = read_inputs(run)
    assert inputs.training is not None and len(inputs.training) == 4
    assert inputs.experiment.training_sha256 == inputs.training.sha256
    write_split(run.data_root, "train", 12)
    with pytest.raises(ValueError, match=r"shape \(1, 12, 12\), its test images \(1, 8, 8\)"):
        read_inputs(run)

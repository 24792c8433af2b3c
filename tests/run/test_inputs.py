"""What a run reads before anything is computed."""

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
    inputs = read_inputs(run)
    assert inputs.training is None
    assert inputs.experiment.training_sha256 is None
    assert "not checked against training images: no train-*.parquet" in caplog.text


def test_training_images_are_part_of_the_identity_and_have_the_size_of_the_others(run):
    write_split(run.data_root, "train", 8)
    inputs = read_inputs(run)
    assert inputs.training is not None and len(inputs.training) == 4
    assert inputs.experiment.training_sha256 == inputs.training.sha256
    write_split(run.data_root, "train", 12)
    with pytest.raises(ValueError, match=r"shape \(1, 12, 12\), its test images \(1, 8, 8\)"):
        read_inputs(run)

"""Runs with urs: one fit before all shards, kept in the folder, or a noise from the checkpoint."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rddrs_dist import checkpoints, cli, data
from rddrs_dist.methods import RS, URS, Context
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import FullNoise, Noise, unpack
from rddrs_dist.results import files, read, scales
from rddrs_dist.run.local import LocalExecutor
from rddrs_dist.run.options import Run, settings_of
from rddrs_dist.run.scheduler import PREPARATION, Event
from rddrs_dist.smoothing import Streams

from .runs import assert_same_rows, certify, changed, one_line, parts

QUICK = URS(steps=3, samples=200, start_samples=1000)


@pytest.fixture
def wanting(here: Run) -> Run:
    """RS and URS on six images, two to a shard."""
    changes = {"methods": ("rs", "urs"), "indices": "0:240:40", "shard_size": 2}
    return changed(here, **changes, settings=settings_of(QUICK))


def hashes(out: Path) -> list[str]:
    """Hashes of the scales of urs, each once."""
    return sorted(set(read(out).query("method == 'urs'")["scale_sha256"]))


def co_trained(checkpoint: Path, path: Path, noise: Noise) -> Path:
    """A checkpoint with a noise for all images."""
    known = checkpoints.load(checkpoint)
    facts = {name: getattr(known, name) for name in ("architecture", "event_shape", "classes")}
    checkpoints.save(path, known.model, **facts, sigma=known.sigma, universal=noise)
    return path


def wide(event_shape: tuple[int, ...] = (1, 8, 8)) -> FullNoise:
    d = int(np.prod(event_shape))
    lower = 0.3 * torch.eye(d) + 0.01 * torch.ones(d, d).tril(-1)
    return FullNoise(lower.unsqueeze(0), event_shape)


def test_all_rows_have_the_one_noise_that_a_fit_by_itself_finds(wanting: Run, checkpoint: Path):
    assert certify(wanting, save_scales=True) == cli.COMPLETE
    packed = scales.read_universal(wanting.out)
    assert packed is not None and hashes(wanting.out) == [packed.sha256]
    known = data.load("digits", "train")
    training = Neighbours(torch.from_numpy(known.images), torch.from_numpy(known.labels))
    context = Context(0.25, Streams.of(0, [0]), neighbours=training)
    found = QUICK.prepare(checkpoints.load(checkpoint).model, context)
    # Workers lay the network out in another way, which may change last bits.
    stored = unpack([packed], (1, 8, 8))
    torch.testing.assert_close(stored.scale, found.scale, rtol=1e-3, atol=1e-4)
    rows = read(wanting.out)
    assert set(rows.query("method == 'urs'")["mean_axis"]) == {float(stored.mean_axis)}
    assert set(rows["fit_status"]) == {"closed_form"}
    assert cli.main(["verify", str(wanting.out)]) == cli.COMPLETE


def test_rows_of_other_methods_do_not_change(wanting: Run, tmp_path: Path):
    assert certify(wanting) == cli.COMPLETE
    assert certify(wanting, methods=("rs",), out=tmp_path / "alone") == cli.COMPLETE
    beside = read(wanting.out).query("method == 'rs'")["proxy_radius"].tolist()
    assert read(tmp_path / "alone")["proxy_radius"].tolist() == beside
    assert not (tmp_path / "alone" / scales.UNIVERSAL).exists()


def test_resume_takes_the_noise_that_is_there(
    wanting: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert certify(wanting) == cli.COMPLETE
    whole = Path(shutil.copytree(wanting.out, tmp_path / "whole"))
    (wanting.out / files.part_name(1)).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(URS, "prepare", None)  # no second fit
        assert certify(wanting, resume=True) == cli.COMPLETE
    assert_same_rows(wanting.out, whole)
    (wanting.out / files.part_name(0)).unlink()
    (wanting.out / scales.UNIVERSAL).unlink()  # one that is lost is fitted again, to the bit
    assert certify(wanting, resume=True) == cli.COMPLETE
    assert_same_rows(wanting.out, whole)


def test_a_damaged_noise_is_refused(wanting: Run, capsys: pytest.CaptureFixture[str]):
    assert certify(wanting) == cli.COMPLETE
    (wanting.out / files.part_name(1)).unlink()
    file = wanting.out / scales.UNIVERSAL
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert certify(wanting, resume=True) == cli.WRONG
    assert "must hold the noise of all images as this run fitted it" in one_line(capsys)


def test_a_fit_that_fails_ends_the_run_in_one_line(
    wanting: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def prepare(self: URS, model: object, context: Context) -> Noise:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(URS, "prepare", prepare)
    assert certify(wanting) == cli.WRONG
    assert "urs found no noise for all images: out of luck" in one_line(capsys)
    assert not parts(wanting.out)


def test_a_fit_whose_actors_are_lost_is_tried_again_and_then_given_up(
    wanting: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    original, lost = LocalExecutor.wait, [2]

    def wait(executor: LocalExecutor, timeout: float) -> list[Event]:
        if executor._call is not None and executor._call[0] is PREPARATION and lost[0]:
            executor._call, lost[0] = None, lost[0] - 1
            return [Event(0, error="gone", lost=True)]
        return list(original(executor, timeout))

    monkeypatch.setattr(LocalExecutor, "wait", wait)
    assert certify(wanting) == cli.COMPLETE
    assert len(hashes(wanting.out)) == 1 and lost == [0]
    shutil.rmtree(wanting.out)
    lost[0] = 99
    assert certify(wanting) == cli.WRONG
    assert "the noise of all images could not be fitted: gone" in one_line(capsys)


def test_the_last_resort_of_an_image_is_the_same_noise(
    wanting: Run, monkeypatch: pytest.MonkeyPatch
):
    """The smoothed classifier stays one function, whatever becomes of other fits."""

    def fit(self: RS, model: object, images: object, context: Context) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(RS, "fit", fit)
    assert certify(wanting, indices="0", max_attempts=1) == cli.COMPLETE
    rows = read(wanting.out).set_index("method")
    assert rows["fit_status"].to_dict() == {"rs": "fallback", "urs": "closed_form"}
    packed = scales.read_universal(wanting.out)
    assert packed is not None and hashes(wanting.out) == [packed.sha256]


def test_a_checkpoint_may_hold_the_noise(
    wanting: Run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    network = co_trained(checkpoint, tmp_path / "net.safetensors", wide())
    taking = changed(wanting, checkpoint=network)
    assert certify(taking) == cli.COMPLETE
    assert hashes(taking.out) == [wide().pack()[0].sha256]
    assert not (taking.out / scales.UNIVERSAL).exists()
    again = settings_of(replace(QUICK, refit=True))
    assert certify(taking, settings=again, out=tmp_path / "again") == cli.COMPLETE
    assert hashes(tmp_path / "again") != hashes(taking.out)
    capsys.readouterr()
    diagonal = settings_of(replace(QUICK, structure="diagonal"))
    assert certify(taking, settings=diagonal, out=tmp_path / "other") == cli.WRONG
    assert "holds a full noise for all images and urs.structure is diagonal" in one_line(capsys)


def test_a_diagonal_is_fitted_where_it_is_asked_for(wanting: Run):
    diagonal = settings_of(replace(QUICK, structure="diagonal"))
    assert certify(wanting, settings=diagonal) == cli.COMPLETE
    packed = scales.read_universal(wanting.out)
    assert packed is not None and packed.kind == "diagonal"


def test_images_without_a_training_set_are_refused_unless_the_checkpoint_holds_the_noise(
    wanting: Run, checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    original = data.load

    def load(name: str, split: str = "test", *rest: object) -> data.ImageSet:
        if split == "train":
            raise FileNotFoundError("no training images")
        return original(name, split)

    monkeypatch.setattr(data, "load", load)
    assert certify(wanting) == cli.WRONG
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "urs fits its noise to training images and digits has none: leave it out" in lines[0]
    assert certify(wanting, methods=("rs",), out=tmp_path / "rs") == cli.COMPLETE
    network = co_trained(checkpoint, tmp_path / "net.safetensors", wide())
    assert certify(changed(wanting, checkpoint=network)) == cli.COMPLETE

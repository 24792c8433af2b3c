"""Runs in this process: whole, resumed, refused, and with fits that go wrong.

All of this goes for a run on Ray as well, whose driver is the same; test_cluster.py holds its rows
to those here.
"""

import importlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from rddrs_dist import cli
from rddrs_dist.analysis.status import SUMMARY
from rddrs_dist.methods import METHODS, RS, Fit, MethodError
from rddrs_dist.noise import DiagonalNoise, IsotropicNoise
from rddrs_dist.results import read
from rddrs_dist.run import driver
from rddrs_dist.run.events import read_events
from rddrs_dist.run.local import LocalExecutor
from rddrs_dist.run.options import Run
from rddrs_dist.run.scheduler import Event, Shard

from .flags import as_flags
from .runs import assert_same_rows, certify, changed, one_line, parts

IMAGES = 12
RECORDED = Path(__file__).parents[1] / "recorded"


def test_a_run_is_whole_and_says_so(quiet: Path, here: Run, capsys: pytest.CaptureFixture[str]):
    frame = read(quiet)
    assert cli.main(["status", str(quiet)]) == cli.COMPLETE
    assert f"complete: {IMAGES}/{IMAGES} images" in capsys.readouterr().out
    told = json.loads((quiet / SUMMARY).read_text())
    assert told["run"] == {"images": IMAGES, "shards": IMAGES}
    assert [line["method"] for line in told["methods"]] == list(here.methods)
    assert len(frame) == IMAGES * len(here.methods)
    assert set(frame["method"]) == set(here.methods)
    assert frame.attrs["complete"]
    assert len(parts(quiet)) == IMAGES


def test_a_run_in_one_process_does_not_import_ray(here: Run):
    flags = as_flags(changed(here, methods=("rs",), indices="0"))
    code = f"from rddrs_dist import cli; code = cli.main(['certify', *{flags!r}])"
    code += "; import sys; print(code, sorted(sys.modules.keys() & {'ray'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGINT, cli.INTERRUPTED), (signal.SIGTERM, cli.DRAINED)]
)
def test_an_interrupted_run_keeps_what_is_done_and_resume_does_the_rest(
    kind: signal.Signals, code: int, here: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    wanting = changed(here, methods=("rs",))
    assert certify(wanting, out=tmp_path / "whole") == cli.COMPLETE
    original, calls = LocalExecutor.wait, iter(range(IMAGES))

    def wait(executor: LocalExecutor, timeout: float) -> Sequence[Event]:
        if next(calls) == 4:
            signal.raise_signal(kind)
        return original(executor, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "wait", wait)
        assert certify(wanting) == code
    assert "--resume" in capsys.readouterr().err
    kept = parts(here.out)
    assert 1 <= len(kept) < IMAGES
    assert not read(here.out).attrs["complete"]
    assert certify(wanting, resume=True) == cli.COMPLETE
    assert kept.items() <= parts(here.out).items()  # none was written again
    assert_same_rows(here.out, tmp_path / "whole")


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_resuming_a_complete_run_computes_nothing(
    executor: str, quiet: Path, here: Run, monkeypatch: pytest.MonkeyPatch
):
    before = parts(quiet)
    monkeypatch.setattr(driver, "_executor", lambda inputs: pytest.fail("a worker was wanted"))
    assert certify(here, out=quiet, resume=True, executor=executor) == cli.COMPLETE
    assert parts(quiet) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_another_configuration_is_refused(
    quiet: Path, here: Run, capsys: pytest.CaptureFixture[str], resume: bool
):
    before = parts(quiet)
    assert certify(here, out=quiet, seed=1, resume=resume) == cli.WRONG
    assert "seed: 0 -> 1" in one_line(capsys)
    assert parts(quiet) == before


def test_a_run_of_0_7_0_is_not_resumed(
    here: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    old = tmp_path / "old"
    shutil.copytree(RECORDED / "run-0.7.0", old)
    before = parts(old)
    network = RECORDED / "digits-lenet-0.25.safetensors"
    assert certify(here, out=old, checkpoint=network, resume=True) == cli.WRONG
    text = one_line(capsys)
    for difference in ("looks: 1 -> ", "levels: null -> ", 'sequential_tests: "(absent)" -> 1'):
        assert difference in text
    assert "weights_sha256" not in text and "data_sha256" not in text
    assert parts(old) == before


def broken(shards: list[Shard]) -> list[Shard]:
    """The first shard with images that do not fit the network."""
    return [replace(shards[0], images=shards[0].images[:, :, :3]), *shards[1:]]


def test_an_image_that_fails_has_a_row_with_its_error_and_resume_tries_it_again(
    here: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    wanting = changed(here, methods=("rs",), indices="0:80:20", shard_size=2, max_attempts=2)
    with monkeypatch.context() as patch:
        split = driver.split
        patch.setattr(driver, "split", lambda *given: broken(split(*given)))
        assert certify(wanting) == cli.FAILED_IMAGES
    assert "for 2 images (first: image 0" in capsys.readouterr().err
    frame = read(here.out)
    assert frame["index"].tolist() == [0, 20, 40, 60]
    assert frame["fit_status"].tolist() == ["failed"] * 2 + ["closed_form"] * 2
    assert frame["prediction"].tolist()[:2] == [-1, -1] and not frame["correct"][:2].any()
    assert frame["error"][0].startswith("RuntimeError") and frame["error"][2:].isna().all()
    assert not frame.attrs["complete"]
    tried = read_events(here.out).to_pandas()
    assert tried[tried["index"] == 20]["outcome"].tolist() == ["failed"] * 5
    assert tried[tried["index"] == 20]["resort"].tolist() == [False] * 4 + [True]
    assert tried[tried["index"] == 40]["outcome"].tolist() == ["done"]
    assert certify(wanting, resume=True) == cli.COMPLETE
    assert read(here.out)["error"].isna().all()


class Raising(RS):
    """A method that raises."""

    def _fit(self, model, images, context):
        raise LookupError("of this fit")


class Novel(RS):
    """A method whose noise nobody has entered in NOISES."""

    def _fit(self, model, images, context):
        sigma = torch.full_like(images, context.sigma)
        return Fit.of(DiagonalNoise(sigma, tuple(images.shape[1:])))


class Unlimited(RS):
    """A method whose fits have no limit."""

    def _fit(self, model, images, context):
        made = super()._fit(model, images, context)
        return Fit(made.noise, made.status, made.steps, made.objective)


def test_a_fit_that_fails_is_tried_again_and_gives_way_to_the_noise_of_rs(
    here: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(METHODS, "rs", Raising)
    monkeypatch.delenv("RDDRS_DEBUG", raising=False)
    wanting = changed(here, methods=("rs",), indices="0:40:20", shard_size=2, max_attempts=2)
    assert certify(wanting) == cli.COMPLETE
    assert read(here.out)["fit_status"].tolist() == ["fallback"] * 2
    tried = read_events(here.out).to_pandas().query("index == 20")
    assert tried["outcome"].tolist() == ["failed"] * 4 + ["done"]
    assert tried["reason"].tolist() == ["LookupError: of this fit"] * 4 + [""]


def test_a_debugger_reaches_a_fit(here: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METHODS, "rs", Raising)
    monkeypatch.setenv("RDDRS_DEBUG", "1")
    with pytest.raises(LookupError, match="of this fit") as caught:
        certify(here, methods=("rs",))
    assert caught.traceback[-1].name == "_fit"
    assert not parts(here.out)
    monkeypatch.undo()
    assert certify(here, methods=("rs",), resume=True) == cli.COMPLETE


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Novel, "method rs: a noise that is stored must be one of IsotropicNoise, got Diagonal"),
        (Unlimited, "limit of a fit must be an array of 1 radii, got None"),
    ],
)
def test_a_mistake_that_no_retry_can_mend_ends_the_run_in_one_line(
    method, text, here: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(METHODS, "rs", method)
    monkeypatch.setattr("rddrs_dist.noise.NOISES", (IsotropicNoise,))
    assert certify(here, methods=("rs",)) == cli.WRONG
    assert text in one_line(capsys)
    assert not parts(here.out)


def test_a_mistake_in_a_method_comes_out_of_ray_as_it_is(monkeypatch: pytest.MonkeyPatch):
    cluster = importlib.import_module("rddrs_dist.run.cluster")
    task = cluster.exceptions.RayTaskError("certify", "Traceback", MethodError("no limit"))
    failed = mock.Mock(side_effect=task.as_instanceof_cause())
    monkeypatch.setattr(cluster.ray, "get", failed)
    monkeypatch.setattr(cluster.ray, "wait", lambda calls, **_: (calls, []))
    executor = object.__new__(cluster.RayExecutor)
    executor._calls = {"call": 0}
    with pytest.raises(MethodError, match="^no limit$") as caught:
        executor.wait(0.0)
    assert caught.type is MethodError


def test_a_fit_that_may_take_no_time_says_so(here: Run):
    """The soft deadline: the noise at which the fit was is certified."""
    assert certify(here, indices="0", fit_seconds=1e-6, methods=("ancer",)) == cli.COMPLETE
    frame = read(here.out)
    assert frame["fit_status"].tolist() == ["deadline"]
    assert frame["fit_steps"].tolist() == [0]

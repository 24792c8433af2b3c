"""What a user asks for: presets and refusals."""

import re
from pathlib import Path

import pytest
import torch

from rddrs_dist.methods import METHODS
from rddrs_dist.run.options import PRESETS, Run

from .runs import certify, changed, one_line

RUN = Run(checkpoint=Path("network"), out=Path("out"))
PAPER = {
    "ddrs": {
        **{"steps": 1500, "candidate_every": 100, "samples": 100, "learning_rate": 1e-4},
        **{"clamp": 0.02},
    },
    "ancer": {"learning_rates": (0.04, 0.4), "steps": 100, "samples": 100, "kappa": 2.0},
    "rddrs": {
        **{"step_lengths": (0.5, 1.25), "steps": 100, "gradient_samples": 20_000},
        **{"margin_samples": 100, "kappa": 1e-6, "clamp": 0.001, "metric": "affine-invariant"},
    },
}


def test_the_paper_preset_has_the_papers_settings():
    run = PRESETS["paper-mnist"]
    assert (run.n0, run.n, run.alpha, run.methods) == (100, 100_000, 0.001, tuple(METHODS))
    for name, wanted in PAPER.items():
        assert vars(run.method(name)).items() >= wanted.items()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"methods": ("rs", "rs")}, "--methods must name each method once"),
        ({"sigma": 0.0}, "--sigma must be positive and finite, got 0.0"),
        ({"sigma": float("nan")}, "--sigma must be positive"),
        ({"shard_size": 0}, "--shard-size must be at least 1"),
        ({"quantisation": 0}, "--quantisation must be at least 1"),
        ({"seed": -1}, "--seed must not be negative"),
        ({"sight_samples": -1}, "--sight-samples must not be negative, got -1"),
        ({"fit_seconds": 0.0}, "--fit-seconds must be positive"),
        ({"n": 5}, "the smallest n that can is 10"),
        ({"alpha": 2.0}, "alpha must be in (0, 1), got 2.0"),
        ({"precision": "tf32"}, "tf32 wants GPUs, got --gpus-per-actor 0: leave it out on CPUs"),
        ({"precision": "bf16"}, "precision must be one of float32, tf32, got 'bf16'"),
        ({"actors": 0}, "--actors must be at least 1, got 0"),
        ({"memory": 0.0}, "--memory must be positive and finite, got 0.0"),
        ({"image_seconds": -1.0}, "--image-seconds must be positive"),
        ({"max_attempts": 0}, "--max-attempts must be at least 1"),
        ({"gpus_per_actor": -1.0}, "--gpus-per-actor must not be negative"),
    ],
)
def test_wrong_values_are_refused(wrong, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        changed(RUN, **wrong).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"address": "auto"}, "cannot do --address auto: leave --address out"),
        ({"image_seconds": 9.0}, "cannot do --image-seconds 9.0: leave --image-seconds out"),
        ({"actors": 2}, "cannot do --actors 2: leave --actors out"),
        ({"gpus_per_actor": 0.5}, "got --gpus-per-actor 0.5: give 1"),
        ({"gpus_per_actor": 2.0}, "got --gpus-per-actor 2: give 1"),
        ({"gpus_per_actor": 1.0}, "--gpus-per-actor 1 wants a GPU and torch finds none here"),
    ],
)
def test_one_process_refuses_what_wants_several(here: Run, wrong, text, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert certify(here, **wrong) == 2
    assert text in one_line(capsys)
    assert here.out is not None and not here.out.exists()


def test_what_is_right_passes():
    for run in (*PRESETS.values(), changed(RUN, executor="local", actors=1)):
        run.check()

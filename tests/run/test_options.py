"""Configuration: identity, presets, refusals."""

from dataclasses import replace

import pytest

from rddrs_dist.methods import METHODS
from rddrs_dist.run.options import PRESETS, Run, run_id


def _identity(run: Run) -> dict:
    return run.identity(0.25, 100, "data", "training", "weights")


def test_identity_ignores_who_computes():
    run = Run(methods=("rs",))
    other = replace(run, actors=7, address="auto", resume=True, max_attempts=9, start_timeout=1.0)
    assert run_id(_identity(run)) == run_id(_identity(other))


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"n": 1000}, {"indices": "0:5"}, {"shard_size": 2}, {"cpus_per_actor": 2}]
    + [{"methods": ("rs", "ddrs")}, {"gpus_per_actor": 1.0}, {"alpha": 0.01}, {"n0": 10}],
)
def test_identity_knows_what_decides_the_rows(change):
    run = Run(methods=("rs",))
    assert run_id(_identity(run)) != run_id(_identity(replace(run, **change)))


def test_identity_knows_the_precision():
    run = Run(methods=("rs",), gpus_per_actor=1)
    assert run_id(_identity(run)) != run_id(_identity(replace(run, precision="tf32")))


def test_identity_holds_only_the_settings_that_matter():
    assert set(_identity(Run(methods=("rs",)))["settings"]) == {"rs"}
    assert set(_identity(Run(methods=("ancer",)))["settings"]) == {"ddrs", "ancer"}


def test_ddrs_comes_first_where_its_sigma_star_is_wanted():
    assert [m.name for m in Run(methods=("rs", "rddrs")).fitted] == ["ddrs", "rs", "rddrs"]
    assert [m.name for m in Run(methods=("rs",)).fitted] == ["rs"]
    assert [m.name for m in Run(methods=("ancer", "ddrs")).fitted] == ["ddrs", "ancer"]


def test_the_paper_preset_has_the_papers_settings():
    run = PRESETS["paper-mnist"]
    ddrs, ancer, rddrs = (run.method(name) for name in ("ddrs", "ancer", "rddrs"))
    assert (run.n0, run.n, run.alpha, run.methods) == (100, 100_000, 0.001, tuple(METHODS))
    assert (
        vars(ddrs).items()
        >= {
            "steps": 1500,
            "candidate_every": 100,
            "samples": 100,
            "learning_rate": 1e-4,
            "clamp": 0.02,
        }.items()
    )
    assert (
        vars(ancer).items()
        >= {"learning_rates": (0.04, 0.4), "steps": 100, "samples": 100, "kappa": 2.0}.items()
    )
    assert (
        vars(rddrs).items()
        >= {
            "step_lengths": (0.5, 1.25),
            "steps": 100,
            "gradient_samples": 20_000,
            "margin_samples": 100,
            "kappa": 1e-6,
            "clamp": 0.001,
            "metric": "affine-invariant",
        }.items()
    )


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"methods": ("rs", "sr")}, "unknown method 'sr': choose from rs, ddrs, ancer, rddrs"),
        ({"methods": ()}, "--methods must name each method once"),
        ({"methods": ("rs", "rs")}, "--methods must name each method once"),
        ({"sigma": 0.0}, "--sigma must be positive and finite, got 0.0"),
        ({"sigma": -1.0}, "--sigma must be positive"),
        ({"sigma": float("nan")}, "--sigma must be positive"),
        ({"actors": 0}, "--actors must be at least 1, got 0"),
        ({"shard_size": 0}, "--shard-size must be at least 1"),
        ({"seed": -1}, "must not be negative"),
        ({"n": 5}, "the smallest n that can is 10"),
        ({"alpha": 2.0}, r"alpha must be in \(0, 1\), got 2.0"),
        ({"precision": "tf32"}, "tf32 wants GPUs, got --gpus-per-actor 0: leave it out on CPUs"),
        ({"precision": "bf16"}, "--precision must be one of float32, tf32, got 'bf16'"),
    ],
)
def test_wrong_values_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        Run(**wrong)

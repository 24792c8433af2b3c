"""Experiment and Execution: what decides rows and what does not, and its way through JSON."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rddrs_dist.certify import Budget
from rddrs_dist.methods import DDRS, METHODS, RDDRS, RDDRSTR, RS, URS, Aim, Ancer, Method
from rddrs_dist.run.driver import part_metadata, read_inputs
from rddrs_dist.run.experiment import Execution, Experiment
from rddrs_dist.run.options import Run

from .runs import changed

OLD = Path(__file__).parents[1] / "recorded" / "run-0.7.0"
ALL = (
    *(RS(), DDRS(steps=7, candidate_every=7), Ancer(steps=3), RDDRS(steps=2), RDDRSTR(rank=9)),
    URS(steps=3),
    Aim(rotation=5.0, multiples=(1.0, 0.7)),
)
BUDGET = Budget(n=300, sequential_tests=2)
ONE = Experiment("digits", "d", "t", "w", 0.25, ALL, ALL[1], "0:10", BUDGET, fit_seconds=2.5)
# Another value of each field that a row depends on.
CHANGES = {
    **{"code_version": "0.0.1", "dataset": "mnist", "data_sha256": "e", "training_sha256": None},
    **{"weights_sha256": "v", "sigma": 0.5, "methods": ALL[:2], "start": DDRS(steps=8)},
    **{"indices": "0:5", "seed": 1, "shard_size": 2, "quantisation": 255, "precision": "tf32"},
    **{"device": "cuda", "threads": 2, "fit_seconds": None, "budget": Budget(n=301)},
    **{"sight_samples": 100},
}
BUDGETS = {"n0": 10, "n": 1000, "alpha": 0.01, "sequential_tests": 3, "tolerance": 0.1}
# Another value of each field that no row depends on; the other two name device and threads.
EXECUTION = {
    **{"executor": "local", "actors": 7, "memory": 1.0, "address": "auto", "start_timeout": 1.0},
    **{"image_seconds": 9.0, "max_attempts": 9, "max_losses": 9, "save_scales": True},
    **{"resume": True},
}


def test_the_changes_below_are_of_all_methods_fields_and_samples():
    assert [type(method) for method in ALL] == list(METHODS.values())
    assert CHANGES.keys() == {field.name for field in fields(Experiment)}
    assert BUDGETS.keys() == {field.name for field in fields(Budget)}
    cores = {"cpus_per_actor", "gpus_per_actor"}
    assert EXECUTION.keys() | cores == {field.name for field in fields(Execution)}


@pytest.mark.parametrize("methods", [ALL, *((method,) for method in ALL), ALL[::-1]])
def test_an_experiment_comes_back_from_its_json(methods: tuple[Method, ...]):
    one = replace(ONE, methods=methods)
    if len(one.fitted) == len(methods) == 1 and methods != (one.start,):
        one = replace(one, start=DDRS())  # a start that nothing starts from is not kept
    assert Experiment.from_json(json.loads(json.dumps(one.as_json()))) == one


OTHERS = [
    *(replace(ONE, **{name: value}) for name, value in CHANGES.items()),
    *(replace(ONE, budget=replace(BUDGET, **{name: value})) for name, value in BUDGETS.items()),
    *(replace(ONE, methods=(one,)) for one in ALL),
    *(replace(ONE, methods=(replace(one, compare_samples=77),)) for one in ALL[2:5]),  # pyright: ignore[reportCallIssue]
]


def test_the_identity_knows_all_that_decides_rows():
    assert len({one.run_id for one in (ONE, replace(ONE), *OTHERS)}) == 1 + len(OTHERS)


@pytest.mark.parametrize("name", EXECUTION)
def test_the_identity_ignores_who_computes(here: Run, name: str):
    run = changed(here, executor="ray")
    same = read_inputs(changed(run, **{name: EXECUTION[name]})).experiment
    assert same.run_id == read_inputs(run).experiment.run_id


def test_the_identity_holds_only_the_settings_that_matter():
    assert set(replace(ONE, methods=(RS(),)).as_json()["settings"]) == {"rs"}
    assert set(replace(ONE, methods=(Ancer(),)).as_json()["settings"]) == {"ddrs", "ancer"}


@pytest.mark.parametrize(
    ("methods", "fitted"),
    [
        ((RS(), RDDRS()), ["ddrs", "rs", "rddrs"]),
        ((RS(),), ["rs"]),
        ((Ancer(), ALL[1]), ["ddrs", "ancer"]),
    ],
)
def test_ddrs_comes_first_where_its_sigma_star_is_wanted(methods, fitted):
    assert [method.name for method in replace(ONE, methods=methods).fitted] == fitted


def test_a_configuration_of_0_7_0_is_refused_in_one_line():
    config = json.loads((OLD / "_config.json").read_text())["config"]
    with pytest.raises(ValueError, match=r"got one of 0\.7\.0 .*use that version") as caught:
        Experiment.from_json(config)
    assert "\n" not in str(caught.value)


LACKING = [{k: v for k, v in ONE.as_json().items() if k != name} for name in ONE.as_json()]
UNKNOWN = [ONE.as_json() | wrong for wrong in ({"levels": 255}, {"settings": {"rs": {"n": 1}}})]


@pytest.mark.parametrize("config", LACKING + UNKNOWN)
def test_a_configuration_that_lacks_something_or_has_something_unknown_is_refused(config):
    with pytest.raises(ValueError, match="the configuration of a run must be one of version"):
        Experiment.from_json(config)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_parts_tell_the_precision_of_the_experiment(precision):
    assert part_metadata(replace(ONE, precision=precision))["precision"] == precision

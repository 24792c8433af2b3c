"""What an operator sees: the gauges of a driver, as Prometheus reads them, and the dashboard."""

import json
import logging
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from rddrs_dist.results import read
from rddrs_dist.run import driver, metrics
from rddrs_dist.run.metrics import Metrics
from rddrs_dist.run.options import Run, run_id
from rddrs_dist.run.progress import Progress
from rddrs_dist.run.scheduler import Attempt, Job, Scheduler
from rddrs_dist.run.shards import Shard

from .conftest import Head

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana.json").read_text())
# Name and method, empty where there is none, to value.
Values = dict[tuple[str, str], float]


# What is set, with a gauge that only remembers it.


class Memory:
    """Stands for Ray's gauge."""

    values: Values
    runs: set[str]
    sets: int

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.keys = name, set(tag_keys)

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == self.keys, "Ray refuses tags that were not announced"
        Memory.values[self.name, tags.get("method", "")] = value
        Memory.runs.add(tags["run"])
        Memory.sets += 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> type[Memory]:
    Memory.values, Memory.runs, Memory.sets = {}, set(), 0
    monkeypatch.setattr(metrics, "Gauge", Memory)
    return Memory


def scheduler(**state: Any) -> Scheduler:
    """A scheduler in the middle of a run."""
    names = ("executor", "on_result", "on_failure", "on_attempt", "on_tick", "clock")
    made = Scheduler(shards=[], actors=9, **dict.fromkeys(names))
    for name, value in state.items():
        setattr(made, name, value)
    return made


def row(method: str, correct: bool, seconds: float, error: str | None = None) -> dict[str, Any]:
    times = {"fit_seconds": 0.75 * seconds, "certify_seconds": 0.25 * seconds}
    return {"method": method, "correct": correct, "error": error, **times}


def test_each_gauge_has_the_number_of_its_name(memory: type[Memory]):
    told = Metrics("0123456789abcdef", Progress(total=20, done=5), wanted=4)
    job = Job(Shard(0, (0,), np.zeros((1, 1), np.float32)))
    for outcome in ("late", "done", "lost", "failed", "late"):
        told.attempt(Attempt(job, "", outcome, "", 1.0))
    state = scheduler(idle=[1, 2], busy={3: (job, 0.0)}, losses=6, retries=7, failed={8: "why"})
    told.publish(state)
    assert memory.values == {
        ("rddrs_images", ""): 20,
        ("rddrs_images_done", ""): 5,
        ("rddrs_images_failed", ""): 1,
        ("rddrs_actors_alive", ""): 3,
        ("rddrs_actors_wanted", ""): 4,
        ("rddrs_actors_lost", ""): 6,
        ("rddrs_calls_late", ""): 2,
        ("rddrs_retries", ""): 7,
    }
    assert memory.runs == {"01234567"}


def test_shares_and_seconds_are_of_all_rows_so_far(memory: type[Memory]):
    told = Metrics("run", Progress(total=4), wanted=1)
    told.add([row("rs", True, 1.0), row("ddrs", True, 8.0)])
    told.add([row("rs", False, 2.0), row("ddrs", True, 4.0)])
    # A failed image is not certified, and its zeros are not times.
    told.add([row("rs", False, 0.0, "RuntimeError"), row("rs", True, 6.0)])
    told.publish(scheduler())
    assert memory.values["rddrs_certified_share", "rs"] == 0.5
    assert memory.values["rddrs_certified_share", "ddrs"] == 1.0
    assert memory.values["rddrs_image_seconds", "rs"] == 3.0
    assert memory.values["rddrs_image_seconds", "ddrs"] == 6.0


def test_a_method_without_a_computed_image_has_a_share_and_no_seconds(memory: type[Memory]):
    told = Metrics("run", Progress(total=1), wanted=1)
    told.add([row("rs", False, 0.0, "RuntimeError")])
    told.publish(scheduler())
    assert memory.values["rddrs_certified_share", "rs"] == 0.0
    assert ("rddrs_image_seconds", "rs") not in memory.values


def test_ticks_publish_every_five_seconds(memory: type[Memory], monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    told = Metrics("run", Progress(total=1), wanted=1)
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    published = []
    for now[0] in (100.0, 101.0, 104.9, 105.0, 109.9, 110.0):
        before = memory.sets
        told.tick(scheduler())
        published.append(memory.sets > before)
    assert published == [True, False, False, True, False, True]


@pytest.mark.ray
def test_gauges_that_fail_do_not_fail_a_run_and_say_so_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*given: object, **more: object) -> None:
        raise RuntimeError("no agent")

    monkeypatch.setattr(metrics, "Gauge", broken)
    monkeypatch.setattr(metrics, "_SECONDS", 0.0)
    with caplog.at_level(logging.WARNING):
        assert driver.certify(replace(run, methods=("rs",), indices="0:40:20")) == {}
    assert read(run.out).attrs["complete"]
    assert caplog.text.count("no metrics from here on: RuntimeError: no agent") == 1


# What Prometheus reads, from a real head.


def scraped(head: Head) -> Iterator[Any]:
    """All samples of the head's endpoint."""
    with urllib.request.urlopen(head.metrics, timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        yield from family.samples


def told(head: Head, run: Run) -> Values:
    """What the last driver of a run told; Ray passes it on when the driver leaves."""
    samples = list(scraped(head))
    name = run_id(driver.read_inputs(run).identity)[:8]
    ours = [sample for sample in samples if sample.labels.get("run") == name]
    return {(one.name, one.labels.get("method", "")): one.value for one in ours}


@pytest.mark.ray
def test_prometheus_reads_how_a_run_went(head: Head, run: Run):
    # One shard for three wanted actors, so that one is started. No other test has this seed: the
    # gauges of a driver stay for a while.
    run = replace(run, methods=("rs", "ddrs"), indices="0:80:20", seed=101)
    run = replace(run, shard_size=4, actors=3)
    assert driver.certify(run) == {}
    values = told(head, run)
    counts = {name: value for (name, method), value in values.items() if not method}
    assert counts == {
        "ray_rddrs_images": 4,
        "ray_rddrs_images_done": 4,
        "ray_rddrs_images_failed": 0,
        "ray_rddrs_actors_alive": 1,
        "ray_rddrs_actors_wanted": 3,
        "ray_rddrs_actors_lost": 0,
        "ray_rddrs_calls_late": 0,
        "ray_rddrs_retries": 0,
    }
    for method, rows in read(run.out).groupby("method"):
        seconds = (rows["fit_seconds"] + rows["certify_seconds"]).mean()
        assert values["ray_rddrs_image_seconds", method] == pytest.approx(seconds)
        assert values["ray_rddrs_certified_share", method] == rows["correct"].mean()
    assert len(values) == len(counts) + 2 * 2


@pytest.mark.ray
def test_prometheus_reads_of_late_calls_and_of_the_image_given_up(head: Head, run: Run):
    # More samples than an actor has time for: once, once again, and as a last resort.
    run = replace(run, methods=("rs",), indices="0", n=20_000_000, seed=102)
    run = replace(run, image_seconds=0.1, max_attempts=2)
    assert list(driver.certify(run)) == [0]
    values = told(head, run)
    assert values["ray_rddrs_calls_late", ""] == 3
    assert values["ray_rddrs_retries", ""] == 1
    assert values["ray_rddrs_images_failed", ""] == 1
    assert values["ray_rddrs_images_done", ""] == 1
    assert values["ray_rddrs_certified_share", "rs"] == 0.0
    assert ("ray_rddrs_image_seconds", "rs") not in values


# The dashboard.


def found(where: Any, key: str) -> Iterator[Any]:
    """All values of a key, however deep."""
    if isinstance(where, dict):
        yield from ([where[key]] if key in where else [])
        where = list(where.values())
    if isinstance(where, list):
        for inner in where:
            yield from found(inner, key)


def drawn() -> set[str]:
    """Metrics of the dashboard's expressions and of its variables."""
    texts = [*found(DASHBOARD, "expr"), *found(DASHBOARD["templating"], "definition")]
    return {name for text in texts for name in re.findall(r"\bray_\w+", text)}


@pytest.mark.ray
def test_the_dashboard_draws_what_is_exported_and_all_of_it(head: Head, run: Run):
    run = replace(run, methods=("rs",), indices="0", seed=103)
    assert driver.certify(run) == {}
    ours = {name for name in drawn() if name.startswith("ray_rddrs_")}
    assert ours == {name for name, _ in told(head, run)}
    rest = drawn() - ours - exported(head)
    # What remains is exported by machines with a GPU alone.
    assert all("_gpus_" in name or "_gram_" in name for name in rest)
    assert {name.removeprefix("ray_") for name in rest} <= set(METRICS_GAUGES)


def exported(head: Head) -> set[str]:
    """Names of all samples, once Ray has looked at its machine for the first time."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        all_names = {sample.name for sample in scraped(head)}
        if any(name.startswith("ray_node_") for name in all_names):
            return all_names
        time.sleep(0.5)
    pytest.fail("Ray's own metrics did not come")


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) > 9
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    assert all(place["w"] > 0 and place["h"] > 0 for place in places)
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    """Whether two panels share a cell of the grid."""
    return all(
        a[start] < b[start] + b[size] and b[start] < a[start] + a[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_every_query_goes_to_the_chosen_source_and_the_chosen_runs():
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["run"]["definition"] == "label_values(ray_rddrs_images, run)"
    sources = [one for one in found(DASHBOARD, "datasource") if isinstance(one, dict)]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    for text in found(DASHBOARD, "expr"):
        assert text.count("ray_rddrs_") == text.count('{run=~"$run"}') > 0
        assert set(re.findall(r"\$(\w+)", text)) <= set(variables)

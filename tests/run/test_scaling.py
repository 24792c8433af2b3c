"""Rates, efficiencies and fits from calls that are made up; the job, tiny, on a real Ray."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rddrs_dist import cli
from rddrs_dist.run import scaling
from rddrs_dist.run.scaling import (
    Call,
    Watched,
    efficiencies,
    kilobytes,
    multipliers,
    resident,
    steady_rate,
)
from rddrs_dist.run.scheduler import Event, Scheduler
from rddrs_dist.run.shards import Shard

from .conftest import Head

ROOT = Path(__file__).resolve().parents[2]


def test_the_rate_is_that_of_equal_calls_without_the_first_of_each():
    slow_start = [Call(0, 0, 10, 4), Call(0, 10, 12, 4), Call(0, 12, 14, 4)]
    assert steady_rate(slow_start) == 2.0
    assert steady_rate([*slow_start, Call(1, 1, 11, 4), Call(1, 11, 15, 4)]) == 3.0


def test_calls_count_by_their_share_and_gaps_as_lost_time():
    # Both are at work from 4 to 10: 3 of the 4 seconds of the second call, 2 of 4 of the last.
    calls = [Call(0, 0, 3, 1), Call(0, 3, 7, 1), Call(0, 8, 12, 1), Call(1, 0, 4, 1)]
    assert steady_rate([*calls, Call(1, 4, 10, 3)]) == pytest.approx((0.75 + 0.5 + 3) / 6)


def test_actors_that_never_work_together_have_no_rate():
    with pytest.raises(ValueError, match="2 calls of 2 actors leave no time"):
        steady_rate([Call(0, 0, 1, 1), Call(1, 0, 1, 1)])
    with pytest.raises(ValueError, match="wanted at least two calls of each"):
        steady_rate([])


def test_efficiencies_compare_within_a_round():
    rates = [(1, 10.0), (2, 18.0), (4, 20.0), (1, 20.0), (2, 40.0), (4, 60.0)]
    assert efficiencies(rates) == {1: [1.0, 1.0], 2: [0.9, 1.0], 4: [0.5, 0.75]}
    assert efficiencies([(2, 10.0), (4, 10.0)]) == {2: [1.0], 4: [0.5]}


def test_multipliers_are_found_and_none_is_negative():
    parts = np.array([[1.0, 0.0], [2.0, 1.0], [0.5, 3.0]])
    assert multipliers(parts, parts @ [1.5, 0.25]) == pytest.approx([1.5, 0.25])
    assert multipliers(parts, parts.sum(1)) == pytest.approx([1, 1])
    found = multipliers(parts, np.array([1.0, 1.9, 0.2]))
    assert found[1] == 0 and found[0] > 0


@dataclass
class Made:
    """Actors that take a second to start, each two more than the one before, and one to work."""

    now: float = 0.0
    due: dict[int, float] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    started: int = 0

    def start(self) -> int:
        name, self.started = self.started, self.started + 1
        self.due[name] = self.now + 1 + 2 * name
        return name

    def submit(self, actor: int, shard: Shard, resort: bool) -> None:
        self.begun.setdefault(actor, self.now)
        self.due[actor] = self.now + 1

    def wait(self, timeout: float) -> Sequence[Event]:
        self.now = min(self.due.values())
        return [Event(actor, result=[]) for actor, at in self.due.items() if self._over(at)]

    def _over(self, at: float) -> bool:
        return at <= self.now

    def discard(self, actor: int) -> None:
        self.due.pop(actor, None)


class Ending(Made):
    """The same; an event is told once."""

    def wait(self, timeout: float) -> Sequence[Event]:
        events = super().wait(timeout)
        for event in events:
            del self.due[event.actor]
        return events


def test_actors_begin_together_and_are_timed_each_on_its_own():
    inner = Ending()
    watched = Watched(inner, 2, lambda: inner.now)
    images = np.zeros((3, 1), np.float32)
    done: list[Shard] = []
    Scheduler(
        executor=watched,
        shards=[Shard(k, (0, 1, 2), images) for k in range(6)],
        actors=2,
        on_result=lambda shard, rows: done.append(shard),
        on_failure=lambda shard, why: None,
        on_attempt=lambda attempt: None,
        on_tick=lambda scheduler: None,
        clock=lambda: inner.now,
    ).run()
    assert watched.ready == {0: 1.0, 1: 3.0}
    assert inner.begun == {0: 3.0, 1: 3.0}
    assert len(done) == 6
    assert [call.images for call in watched.calls] == [3] * 6
    assert {(call.start, call.end) for call in watched.calls} == {(3, 4), (4, 5), (5, 6)}
    assert steady_rate(watched.calls) == 6


def test_an_actor_that_is_lost_is_no_ready_one():
    class Losing(Ending):
        def wait(self, timeout: float) -> Sequence[Event]:
            return [Event(0, error="gone", lost=True)]

    watched = Watched(Losing(), 1, lambda: 0.0)
    watched.start()
    assert watched.wait(1)[0].lost
    assert watched.ready == {}


def test_memory_of_a_process_is_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rollup = "00-ff ---p 0 00:00 0 [rollup]\nRss: 99 kB\nShared_Clean: 5 kB\nShared_Dirty: 2 kB\n"
    (tmp_path / "rollup").write_text(rollup + "Private_Clean: 3 kB\nPrivate_Dirty: 4 kB\n")
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  100 kB\nThreads:\t1\n")
    monkeypatch.setattr(scaling, "_ROLLUP", tmp_path / "rollup")
    monkeypatch.setattr(scaling, "_STATUS", tmp_path / "status")
    assert resident() == {"unique": 7 * 1024, "shared": 7 * 1024, "peak": 100 * 1024}
    monkeypatch.setattr(scaling, "_ROLLUP", tmp_path / "absent")
    assert resident() is None
    assert kilobytes("a: 1 kB\nb: 2\nc 3 4 kB") == {"a": 1}


@pytest.mark.ray
def test_the_trial_measures_predicts_and_draws(
    head: Head,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    told = {"forward": 1e5, "both": 4e4, "matrix_flops": 1e13, "eigh_seconds": 1}
    rates, out = tmp_path / "rates.json", tmp_path / "out"
    rates.write_text(json.dumps(told | {"dimension": 3072, "name": "a made-up GPU"}))
    tiny = "--datasets digits --scaled digits --methods rs ancer rddrs_tr --rounds 1 --images 8"
    tiny += " --epochs 4 --samples 100 --n 1000 --n-measured 200 --seconds 0.01 --ancer.steps 9"
    tiny += " --rddrs-tr.steps 2 --rddrs-tr.compare-samples 100 --devices 1 10"
    tiny += f" --out {out} --device-rates {rates} --address {head.address}"
    monkeypatch.syspath_prepend(str(ROOT / "jobs"))
    assert importlib.import_module("scaling_trial").main(tiny.split()) == cli.COMPLETE
    found = json.loads((out / "scaling.json").read_text())
    assert [row["actors"] for row in found["actors"]] == [1, 2]
    assert found["actors"][0]["efficiency"] == 1 and found["actors"][1]["efficiency"] > 0
    assert all(row["ready_seconds"] > 0.1 for row in found["actors"])
    table = pd.read_csv(out / "scaling.csv")
    assert table["method"].tolist() == ["rs", "ancer", "rddrs_tr"]
    assert (table["seconds"] > 0).all() and (table["predicted"] > 0).all()
    assert (table["both"] > 0).tolist() == [False, True, True]
    hours = pd.DataFrame(found["prediction"]["hours"]).set_index(["method", "devices"])["hours"]
    assert hours["ancer", 1] == pytest.approx(10 * hours["ancer", 10])
    assert "a made-up GPU" in capsys.readouterr().out
    assert (out / "scaling.png").stat().st_size > 20_000
    assert (out / "scaling.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"datasets": ("letters",)}, "unknown dataset 'letters': choose from digits"),
        ({"datasets": ()}, "--datasets must name at least one of digits"),
        ({"actors": (1, 1)}, "--actors must be different numbers"),
        ({"images": 1}, "--images must be at least 2, got 1"),
        ({"methods": ("best",)}, "unknown method 'best'"),
        ({"out": Path("here")}, "--out of a job must be an absolute path, got here"),
    ],
)
def test_a_trial_that_cannot_be_meant_is_refused(
    wrong: dict, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(ROOT / "jobs"))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    options = importlib.import_module("scaling.options")
    options.check(options.Trial(tmp_path))
    with pytest.raises(ValueError, match=complaint):
        options.check(options.Trial(**{"out": tmp_path} | wrong))

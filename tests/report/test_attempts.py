"""What a report tells of attempts: time that was lost is not hidden by what came after."""

import pytest

from rddrs_dist import data
from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.report import facts
from rddrs_dist.run.events import EventLog
from rddrs_dist.run.scheduler import Attempt, Job, split
from tests.small_run import Made


@pytest.fixture
def silent(made: Made) -> Made:
    """A run that tells of no attempt."""
    for path in made.folder.glob("_events-*"):
        path.unlink()
    return made


@pytest.fixture
def calls(silent: Made):
    """A shard of two that was late, its images alone, of which one was late twice more."""
    images = data.load("digits", "test")
    (shard, *others) = split(images, [0, 40, 80, 120, 160, 200], 2)
    first, second = shard.images_alone()
    log = EventLog(silent.folder)
    late = "not done within 60 s"
    for job, outcome, reason, seconds in (
        (Job(shard), "late", late, 60.25),
        (Job(first), "done", "", 7.0),
        (Job(second), "late", late, 30.5),
        (Job(second, failures=1), "late", late, 30.75),
        (Job(second, resort=True), "done", "", 0.5),
        *((Job(other), "done", "", 3.0 + k) for k, other in enumerate(others)),
    ):
        log.add(Attempt(job, "10.0.0.1", outcome, reason, seconds))
    log.write()
    lines = read_lines([silent.folder])
    return lines, facts.events(lines)


def test_seconds_of_a_late_call_are_shared_by_its_images(calls):
    known, found = calls
    lost = found.groupby("index")["lost"].sum()
    assert lost.to_dict() == {0: 30.125, 40: 30.125 + 30.5 + 30.75, 80: 0, 120: 0, 160: 0, 200: 0}
    whole, again = facts.attempts(known, found)
    assert list(whole.rows[0].values())[1:] == ["10", "6", "0", "4", "0", "2", "121.5"]
    lines = [list(row.values()) for row in again.rows]
    assert [line[0] for line in lines] == ["40", "0"]
    assert lines[0][2:5] == ["4", "91.4", "late, late, late, done (last resort)"]
    assert lines[0][-1] == "not done within 60 s" and lines[1][2:5] == ["2", "30.1", "late, done"]


def test_the_slowest_images_are_those_that_lost_most(calls):
    known, found = calls
    table = facts.slowest(known, found)
    lines = [list(row.values()) for row in table.rows]
    assert [line[0] for line in lines] == ["40"] * 7 + ["0"] * 3
    assert {line[5] for line in lines} == {"13.05", "4.30"}  # shares of seven methods, rounded
    assert {line[6] for line in lines[:6]} == {"4"}


def test_without_events_nothing_is_said_of_attempts(silent):
    lines = read_lines([silent.folder])
    found = facts.events(lines)
    assert not any(table.rows for table in facts.attempts(lines, found))
    table = facts.slowest(lines, found)
    assert {row["attempts"] for row in table.rows} == {"-"}

"""Runs and logs that lack something: the page leaves it out, or says so."""

import re
from dataclasses import replace

import pytest

from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.analysis.status import PROGRESS, write_progress
from rddrs_dist.checkpoints import load
from rddrs_dist.report import charts, facts
from rddrs_dist.report.gallery import gallery
from rddrs_dist.report.page import render
from tests.analysis.making import lines, logged
from tests.results.rows import abstention, sized


def headings(page: str) -> set[str]:
    return set(re.findall(r"<h[23]>(.*?)</h", page))


def test_a_log_alone_has_no_empty_parts(tmp_path):
    page = render([logged(tmp_path / "log")])
    absent = {"Cost", "Attempts", "Slowest images", "Images"}
    assert {"Certified accuracy", "Radii by class"} <= headings(page) - absent == headings(page)
    assert "<tbody>\n</tbody>" not in page


def test_a_log_alone_at_its_sigma_has_a_table_of_each_size_and_no_curve_that_it_lacks(tmp_path):
    both = [*lines(sized([1.0])), logged(tmp_path / "log", sigma=1.0)]
    tables = [one for one in facts.at_radii(both) if one.size == "data"]
    told = [tuple(row.values())[:3] for one in tables for row in one.rows]
    assert told == [("RS", "100.0", "1.000"), ("cohen (rounded)", "-", "-")]
    drawn = [one.title for one in charts.curve_charts(both) if one.size == "data"]
    assert drawn == ["σ = 0.5"]
    assert render(both)


def test_where_nothing_is_certified_the_page_says_so():
    nothing = lines([abstention(k) for k in range(3)])
    (proxy, *_) = charts.curve_charts(nothing)
    assert [one.text for one in proxy.figure.layout.annotations] == ["nothing certified"]
    assert proxy.figure.layout.xaxis.range == (0, 1)
    page = render(nothing)
    assert "Radii by class" not in headings(page) and "0.000" in page
    assert not charts.curve_charts(lines(sized([1.0])))[0].figure.layout.annotations


def test_columns_of_words_start_at_the_left():
    cost = facts.cost(lines(sized([1.0] * 1200)))
    assert list(cost.words.values()) == [True] + [False] * 7
    assert list(cost.rows[0].values())[2:4] == ["1,200", "1,000"]
    assert facts.endings(lines(sized([1.0]))).words["how fits ended"]


def test_a_network_of_no_run_is_named_by_its_hash(original):
    found = read_lines([original.folder])
    sha256 = load(original.checkpoint).sha256
    weights = {"weights_sha256": "f" * 64}
    other = [
        replace(one, source=replace(one.source, metadata=dict(one.source.metadata) | weights))
        for one in found
    ]
    _, (remark,) = gallery(other, [0], [original.checkpoint])
    assert f"sha256 {'f' * 12}, is none of those given, {sha256[:12]}." in remark
    _, (remark,) = gallery(found, [0])
    assert f"sha256 {sha256[:12]}, was not given (--checkpoints)" in remark


def test_provenance_says_when_and_where(made):
    for path in made.folder.glob("_events-*"):
        path.unlink()
    known = dict.fromkeys(("images", "done", "before", "retries", "losses"), 6)
    write_progress(made.folder, started=0, updated=60, actors=1, wanted=2, **known)
    found = read_lines([made.folder])
    calls = facts.events(found)
    (told,) = facts.provenance(found, calls).values()
    assert told["last driver"] == "1970-01-01 00:00:00 UTC to 1970-01-01 00:01:00 UTC"
    assert told["actors"] == "1 of 2" and "first call" not in told
    (made.folder / PROGRESS).write_text("{}")
    with pytest.raises(ValueError, match="progress"):
        facts.provenance(found, calls)
    (made.folder / PROGRESS).unlink()
    (told,) = facts.provenance(found, calls).values()
    assert "actors" not in told

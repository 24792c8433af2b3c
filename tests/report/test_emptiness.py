"""Runs and logs that lack something: the page leaves it out, or says so."""

import re

import pytest

from rddrs_dist import cli
from rddrs_dist.report import charts, facts, gallery, render
from rddrs_dist.report.attempts import events
from rddrs_dist.report.conflicts import conflicts
from rddrs_dist.results import disjoint as sound
from rddrs_dist.results import read, read_many
from tests.analysis.logs import log, take
from tests.report.test_report import framed
from tests.results.rows import abstention, sized


def headings(page: str) -> list[str]:
    return re.findall(r"<h[23]>(.*?)</h", page)


def test_a_log_alone_has_no_empty_parts(tmp_path):
    lines = ["0 3 3 0.9 1 1.0", "1 3 -1 0.0 0 1.0", "2 3 3 0.4 1 1.0"]
    frame = read_many([take(log(tmp_path / "log", *lines), tmp_path / "out")])
    page = render(frame, [], [])
    found = headings(page)
    assert "Certified accuracy" in found and "Radii by class" in found
    assert not {"Cost", "Attempts", "Slowest images", "Images"} & set(found)
    assert "<tbody>\n</tbody>" not in page


def test_where_nothing_is_certified_the_page_says_so():
    frame = framed([abstention(k, capped_proxy_radius=0.0) for k in range(3)])
    (proxy, *_) = charts.curve_charts(frame)
    assert [one.text for one in proxy.figure.layout.annotations] == ["nothing certified"]
    assert proxy.figure.layout.xaxis.range == (0, 1)
    assert "Radii by class" not in headings(render(frame, [], []))
    assert not charts.curve_charts(framed(sized([1.0])))[0].figure.layout.annotations


def test_columns_of_words_start_at_the_left():
    (cost,) = facts.cost(framed(sized([1.0] * 1200)))
    assert cost.words == [True] + [False] * 7
    assert cost.rows[0][2].text == "1,200" and cost.rows[0][3].text == "1,000"
    assert facts.endings(framed(sized([1.0]))).words[-1]


def test_a_pair_that_is_nearest_to_each_other_is_one_line(made):
    frame = read(made.folder)
    frame = frame.loc[frame["method"].isin(["rs", "rddrs_tr"])]
    nearest = {0: 40, 40: 0, 80: 0, 120: 160, 160: 120, 200: 80}
    rows = frame[["index", "method"]].assign(
        sound_radius=frame["radius"] / 2,
        sound_l2_radius=frame["l2_radius"] / 2,
        sound_proxy_radius=frame["proxy_radius"] / 2,
        mu=[0.1 + 0.001 * min(k, nearest[k]) for k in frame["index"]],
        nearest_conflict=[nearest[k] for k in frame["index"]],
        witness="conflict",
        sound_scale_sha256=frame["scale_sha256"],
        rule="narrow",
    )
    line = {"method": "rs", "regions": 6, "pairs": 15, "conflicts": 5}
    sound.write(made.folder, rows, {"rule": "narrow", "methods": [line]})
    _, pairs = conflicts(read_many([made.folder]))
    found = [(row[0].text, *sorted(int(row[k].text) for k in (2, 3))) for row in pairs.rows]
    assert len(found) == len(set(found)) == 8
    assert ("RS", 0, 40) in found and ("RDDRS-TR", 80, 200) in found


def test_a_network_of_no_run_is_named_by_its_hash(original, tmp_path):
    other = tmp_path / "other.safetensors"
    flags = ["train", "--dataset", "digits", "--sigma", "0.5", "--epochs", "1", "--seed", "9"]
    assert cli.main([*flags, "--out", str(other)]) == 0
    frame = read_many([original.folder])
    wanted = frame.attrs["runs"][str(original.folder)]["metadata"]["weights_sha256"][:12]
    _, (remark,) = gallery(frame, [0], [other], None)
    given = re.search(r"none of those given, (\w{12})\.", remark)
    assert given and wanted in remark and given[1] != wanted
    _, (remark,) = gallery(frame, [0], [], None)
    assert "was not given (--checkpoints)" in remark


def test_provenance_says_when_and_where(original, made):
    status = '{"images": 6, "done": 6, "before": 0, "started": 0, "updated": 60, "actors": 1, '
    status += '"wanted": 2, "retries": 0, "losses": 0}'
    (made.folder / "_progress.json").write_text(status)
    frame = read_many([made.folder])
    ((_, told),) = facts.provenance(frame, events(frame))
    known = dict(told)
    assert known["last driver"] == "1970-01-01 00:00:00 UTC to 1970-01-01 00:01:00 UTC"
    assert known["actors"] == "1 of 2" and "first call" not in known
    assert "actors" not in dict(
        facts.provenance(read_many([original.folder]), events(frame))[0][1]
    )
    (made.folder / "_progress.json").write_text("{}")
    with pytest.raises(ValueError, match="progress"):
        facts.provenance(frame, events(frame))

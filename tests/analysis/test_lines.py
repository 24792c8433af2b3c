"""Lines: the sizes that count, and what may stand in one figure."""

from dataclasses import replace

import numpy as np
import pytest

from rddrs_dist.analysis.lines import available, chosen, in_order, methods_of, read_lines
from rddrs_dist.analysis.sizes import SIZES, Size
from rddrs_dist.results.columns import RENAMED
from tests.results.rows import abstention, row, sized

from .making import lines, logged, run

ROWS = [
    row(0, proxy_radius=2.0, l2_radius=0.5),
    row(1, proxy_radius=3.0, l2_radius=0.25, correct=False, prediction=4),
    abstention(2),
    row(3, proxy_radius=0.0, l2_radius=0.0),
]


def certified(line, size: str) -> list[float]:
    return line.certified(size).tolist()


def test_wrong_rows_and_abstentions_are_below_every_radius():
    (line,) = lines(ROWS)
    assert certified(line, "proxy") == [2.0, -1.0, -1.0, 0.0]
    assert certified(line, "l2") == [0.5, -1.0, -1.0, 0.0]
    (told,) = lines(ROWS, correct=True)  # an abstention never counts, whatever its row says
    assert certified(told, "proxy") == [2.0, 3.0, -1.0, 0.0]


def test_the_mean_counts_wrong_rows_as_zero():
    (line,) = lines(ROWS)
    assert line.average("proxy") == 2.0 / 4 and line.average("l2") == 0.5 / 4
    assert np.isnan(line.average("disjoint"))


def test_a_size_is_one_entry(monkeypatch):
    widest = Size("widest", "max_axis", "Widest axis", "widest axis", (0.0, 1.0))
    monkeypatch.setitem(SIZES, "widest", widest)
    assert certified(lines(ROWS)[0], "widest") == [0.5, -1.0, -1.0, 0.5]
    assert "widest" in available(lines(ROWS))
    monkeypatch.setitem(SIZES, "other", Size("other", "volume", "", "", ()))
    with pytest.raises(ValueError, match=r"must be a column .* got volume; .* of .*proxy_radius"):
        lines(ROWS)[0].certified("other")


def test_sizes_that_are_not_known_are_refused():
    known = "l2, data, data99, proxy, disjoint, simultaneous, aim, rotation, shift"
    with pytest.raises(ValueError, match=f"one of {known}, .*, got 'volume'"):
        lines(ROWS)[0].certified("volume")
    with pytest.raises(ValueError, match=f"one of {known}, .*got 'volume'"):
        chosen(lines(ROWS), ["volume"])
    with pytest.raises(ValueError, match="have l2, data, proxy; run `rddrs disjoint` first"):
        chosen(lines(ROWS), ["l2", "disjoint"])
    assert chosen(lines(ROWS), ["l2", "proxy", "l2"]) == ("l2", "proxy")
    old = [replace(one, rows=one.rows.drop(columns="data_radius")) for one in lines(ROWS)]
    with pytest.raises(
        ValueError, match="have l2, proxy; certify with training images and --sigh"
    ):
        chosen(old, ["data"])


def test_a_size_is_drawn_where_every_row_of_every_run_has_it():
    assert available(lines(ROWS)) == ("l2", "data", "proxy")
    after = lines(ROWS, disjoint_proxy_radius=[1.5, 3.0, 0.0, 0.0])
    assert available(after) == ("l2", "data", "proxy", "disjoint")
    assert certified(after[0], "disjoint") == [1.5, -1.0, -1.0, 0.0]
    partly = lines(ROWS, disjoint_proxy_radius=[1.5, np.nan, 0.0, 0.0])
    assert available(partly) == available([*partly, *after]) == ("l2", "data", "proxy")


def test_a_size_that_is_not_a_default_is_there_where_it_is_asked_for():
    assert chosen(lines(ROWS, data_radius_99=2.0), ["data99"]) == ("data99",)
    assert "data99" not in available(lines(ROWS))


def test_lines_come_by_sigma_in_the_order_of_the_methods_with_their_styles():
    names = ["zzz", "rddrs_tr", "rddrs", "ancer", "ddrs", "rs"]
    found = lines(*(sized([1.0], name, sigma=s) for s in (1.0, 0.25) for name in names))
    ordered = [*names[:0:-1], "zzz"]
    assert [(one.sigma, one.method) for one in found] == [
        (sigma, name) for sigma in (0.25, 1.0) for name in ordered
    ]
    assert list(methods_of(found)) == ordered
    assert [one.label for one in found[:6]] == ["RS", "DDRS", "ANCER", "RDDRS", "RDDRS-TR", "zzz"]
    assert len({one.colour for one in found}) == len({str(one.dashes) for one in found[:5]}) + 1
    assert [one.colour for one in found[6:]] == [one.colour for one in found[:6]]


def test_lines_of_six_logs_have_styles_of_their_own(tmp_path):
    found = in_order(logged(tmp_path / "log", name=f"log{k}") for k in range(6))
    assert len({(one.colour, str(one.dashes)) for one in found}) == 6


def test_runs_at_several_sigmas_and_with_several_methods_are_joined(tmp_path):
    a = run(tmp_path / "a", [row(1), row(0)])
    b = run(tmp_path / "b", [row(0, "ddrs"), row(1, "ddrs")], "two")
    c = run(tmp_path / "c", [row(7, sigma=1.0)], "three", done=False)
    found = read_lines([a, b, c])
    told = [(one.sigma, one.method, one.source.folder, one.source.complete) for one in found]
    assert told == [(0.5, "rs", a, True), (0.5, "ddrs", b, True), (1.0, "rs", c, False)]
    assert found[0].rows["index"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="at least one folder"):
        read_lines([])


def test_one_run_in_several_copies_counts_once(tmp_path):
    a = run(tmp_path / "a", [row(0), row(1)], done=False)
    copy = run(tmp_path / "copy", [row(0, fit_seconds=3.0), row(2)])
    (line,) = read_lines([a, copy, a])
    assert line.rows["index"].tolist() == [0, 1, 2] and line.source.complete
    assert line.rows["fit_seconds"].tolist() == [0.25] * 3
    other = run(tmp_path / "other", [row(0, count=981)])
    with pytest.raises(ValueError, match="differ in count;"):
        read_lines([a, other])


def test_two_runs_of_one_method_at_one_sigma_are_refused(tmp_path):
    a = run(tmp_path / "a", [row(0, seed=0)])
    b = run(tmp_path / "b", [row(0, seed=1)], "two")
    with pytest.raises(ValueError, match=r"method rs at sigma 0.5 must come from one run"):
        read_lines([a, b])


def test_different_images_are_refused_or_cut_to_the_common_ones(tmp_path):
    a = run(tmp_path / "a", [row(0), row(1), row(2)])
    b = run(tmp_path / "b", [row(1, "ddrs"), row(9, "ddrs")], "two")
    with pytest.raises(ValueError, match=r"same images, got: .*a has 3, .*b has 2, 1 in common"):
        read_lines([a, b])
    found = read_lines([a, b], common=True)
    assert [one.rows["index"].tolist() for one in found] == [[1], [1]]
    c = run(tmp_path / "c", [row(9, "ancer")], "three")
    with pytest.raises(ValueError, match="0 in common"):
        read_lines([a, c], common=True)


@pytest.mark.parametrize(
    "other", [{"config": {"dataset": "mnist"}}, {"data_sha256": "train split"}]
)
def test_different_data_sets_are_refused(tmp_path, other):
    a = run(tmp_path / "a", [row(0)], data_sha256="d")
    b = run(tmp_path / "b", [row(0, "ddrs")], "two", **{"data_sha256": "d"} | other)
    with pytest.raises(ValueError, match="of one data set, got"):
        read_lines([a, b])


def test_runs_of_different_networks_are_not_drawn_together(tmp_path):
    one = run(tmp_path / "a", [row(0)], weights_sha256="abc")
    same = run(tmp_path / "b", [row(0, "ddrs")], "two", weights_sha256="abc")
    other = run(tmp_path / "c", [row(0, "ancer")], "three", weights_sha256="def")
    apart = run(tmp_path / "d", [row(0, sigma=1.0)], "four", weights_sha256="def")
    assert len(read_lines([one, same, apart])) == 3
    with pytest.raises(ValueError, match=r"one network .* at sigma 0.5, .*a has abc, .*c has def"):
        read_lines([one, same, other])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"quantisation": 255}, "abc on pixels rounded to 1/255"),
        ({"levels": 255}, "abc on pixels rounded to 1/255"),
        ({"precision": "tf32"}, "abc in TF32"),
    ],
)
def test_a_network_computed_in_another_way_is_another_classifier(tmp_path, config, told):
    plain = run(tmp_path / "a", [row(0)], weights_sha256="abc")
    other = run(tmp_path / "b", [row(0, "ddrs")], "two", config, weights_sha256="abc")
    with pytest.raises(ValueError, match=f"a has abc, .*b has {told}"):
        read_lines([plain, other])
    assert set(RENAMED) & {"looks", "levels"} == {"looks", "levels"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("0 4 4 0.9 1 1.0", "with one label for each image, as for image 0, got: .* 3, .* 4;"),
        ("1 3 3 0.9 1 1.0", "must be over the same images"),
    ],
)
def test_a_log_of_other_data_is_not_drawn_beside_a_run(tmp_path, entry, told):
    ours = run(tmp_path / "run", [row(0)])
    with pytest.raises(ValueError, match=told):
        read_lines([ours], logs=[logged(tmp_path / "log", entry)])


def test_the_common_images_of_a_run_and_a_log_are_drawn_where_asked_for(tmp_path):
    ours = run(tmp_path / "run", [row(0), row(7), row(8)])
    found = read_lines([ours], common=True, logs=[logged(tmp_path / "log")])
    told = [(one.method, one.rows["index"].tolist()) for one in found]
    assert told == [("rs", [0, 7]), ("cohen", [0, 7])]

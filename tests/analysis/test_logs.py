"""Logs of other projects: read as they write them, refused where broken, drawn, written anew."""

import math

import numpy as np
import pytest

from rddrs_dist.analysis import plots, tables
from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import curves, to_frame
from rddrs_dist.analysis.lines import Line, available, methods_of, read_lines
from rddrs_dist.analysis.logs import export, read_log, read_logs
from tests.results.rows import abstention, row, sized

from .making import ANCER, COHEN, DDRS, LINES, lines, log, logged, run


def test_a_log_of_locuslab_holds_balls_and_nothing_of_samples(tmp_path):
    line = logged(tmp_path / "log")
    rows = line.rows
    assert rows["index"].tolist() == [0, 7, 9] and line.method == "cohen"
    assert rows["l2_radius"].tolist() == rows["proxy_radius"].tolist() == [0.953, 0.0, 1.2e-05]
    assert rows["prediction"].tolist() == [3, -1, 8]
    assert rows["correct"].tolist() == [True, False, False]
    assert rows["certify_seconds"].tolist() == [13.73608, 15.4, 2.0]
    unknown = [
        "count",
        "n",
        "n0",
        "alpha",
        "radius",
        "data_radius",
        "blindness_upper",
        "fit_status",
    ]
    assert rows[unknown].isna().all(axis=None)
    assert available([line]) == ("l2", "proxy") and line.source.complete


def test_a_log_of_ddrs_tells_the_sigma_of_each_image(tmp_path):
    entries = ["0 3 3 0.953 1 0.31 0:00:13.736080", "1 3 -1 0.0 0 0.5 1~day,~0:00:01"]
    line = logged(tmp_path / "log", *entries, header=DDRS)
    assert line.rows["sigma"].tolist() == [0.5, 0.5]
    for axis in ("min_axis", "mean_axis", "max_axis"):
        assert line.rows[axis].tolist() == [0.31, 0.5]
    assert line.rows["certify_seconds"].tolist()[1] == 86401.0


def test_a_log_of_ancer_has_two_radii(tmp_path):
    entries = ["0 3 3 0.5 1.25 1 0.25 0:00:01", "1 3 -1 0.0 0.0 0 0.2 0:00:01"]
    rows = logged(tmp_path / "log", *entries, header=ANCER).rows
    assert rows["l2_radius"].tolist() == [0.5, 0.0]
    assert rows["proxy_radius"].tolist() == [1.25, 0.0]
    assert rows["min_axis"].tolist() == [0.25, 0.2] and rows["mean_axis"].isna().all()


def test_windows_line_ends_are_read(tmp_path):
    one = log(tmp_path / "a=b", LINES[1], LINES[0])
    one.write_bytes(b"\xef\xbb\xbf" + one.read_bytes().replace(b"\n", b"\r\n"))
    (line,) = read_logs([f"a b@0.25={one}"])
    assert line.rows["index"].tolist() == [0, 7]
    assert (line.method, line.sigma) == ("a b", 0.25)


@pytest.mark.parametrize("word", ["log", "a=log", "a@0=log", "a@x=log", "../x@1=log", "a@1:x=log"])
def test_words_that_name_no_log_are_refused(word):
    with pytest.raises(ValueError, match=r"--logs wants NAME@SIGMA=FILE .* got '") as why:
        read_logs([word])
    assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: a header is wanted"),
        (COHEN + "\n", "at least one image, got a header alone"),
        ("idx label predict correct time\n0 3 3 1 1.0\n", r"line 1: a header .* got 'idx\\tlabel"),
        (f"{COHEN}\n{LINES[0]}\n9 3 3 1.9", "line 3: a log ends with .* got '9.*1.9'"),
        (f"{COHEN}\n{LINES[0]}\n9 3 3 1.9\n", "line 3: 6 cells .* got 4"),
        (f"{COHEN}\n\n{LINES[0]}\n", "line 2: 6 cells .* got 1"),
        (f"{COHEN}\n0 3 3 abc 1 1.0\n", "line 2: radius must be a finite number.*got 'abc'"),
        (f"{COHEN}\n0 3 3 -0.5 1 1.0\n", "radius must be a finite number, 0 or more, got '-0.5'"),
        (f"{COHEN}\n0 3 3 nan 1 1.0\n", "radius must be .* got 'nan'"),
        (f"{COHEN}\n0 3 3 1e999 1 1.0\n", "radius must be .* got '1e999'"),
        (f"{COHEN}\n0 3.0 3 1.0 1 1.0\n", "label must be a whole number.*got '3.0'"),
        (f"{COHEN}\n0 3 -2 1.0 0 1.0\n", "predict must be a class, or -1 .* got '-2'"),
        (f"{COHEN}\n0 3 3 1.0 True 1.0\n", "correct must be 0 or 1, got 'True'"),
        (f"{COHEN}\n0 3 3 1.0 1 0:00:1\n", "time must be seconds, .* got '0:00:1'"),
        (f"{COHEN}\n0 3 -1 0.5 0 1.0\n", r"abstention \(predict -1\) must have radius 0, got 0.5"),
        (f"{COHEN}\n0 3 3 1.0 0 1.0\n", "correct must be 1 where label is 3 and predict 3, got 0"),
        (f"{COHEN}\n0 3 4 1.0 1 1.0\n", "correct must be 0 where label is 3 and predict 4, got 1"),
        (f"{COHEN}\n{LINES[0]}\n{LINES[0]}\n", "line 3: every idx must come once, got 0 again"),
        (f"{ANCER}\n0 3 3 0.5 0.4 1 0.2 1.0\n", "radius_proxy must be at least .* got 0.4"),
    ],
)
def test_a_broken_log_is_one_line_that_names_file_line_wanted_and_got(tmp_path, text, told):
    path = tmp_path / "log"
    path.write_text(text.replace(" ", "\t"))
    with pytest.raises(ValueError, match=told) as why:
        read_log(path, "cohen", 0.5)
    assert str(path) in str(why.value) and "\n" not in str(why.value)


def test_files_that_are_no_log_and_radii_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="absent does not exist; give another file") as why:
        read_log(tmp_path / "absent", "cohen", 0.5)
    assert "Errno" not in str(why.value)
    (tmp_path / "bytes").write_bytes(b"\xff\x00\xfe\n")
    with pytest.raises(ValueError, match="bytes must be a log of text"):
        read_log(tmp_path / "bytes", "cohen", 0.5)
    other = log(tmp_path / "b", "5 3 3 1.0 1 0.5 2.0", header=DDRS)
    with pytest.raises(ValueError, match="where its radius is named, got one of ddrs"):
        read_log(other, "cohen", 0.5, "proxy")


@pytest.mark.parametrize("name", ["RDDRS-TR", "rs", "Ancer"])
def test_a_log_is_not_called_like_a_method(tmp_path, name):
    with pytest.raises(ValueError, match=f"one of our methods, got '{name}'"):
        logged(tmp_path / "log", name=name)


def test_a_log_with_abstentions_only_is_a_curve_at_zero(tmp_path):
    line = logged(tmp_path / "log", "0 3 -1 0.0 0 1.0", "1 4 -1 0.0 0 1.0")
    (found,) = curves([line], "l2")
    assert found.accuracy.tolist() == [0.0, 0.0] and found.radii[0] == 0.0
    (told,) = tables.summary([line]).to_dict("records")
    assert (told["abstentions"], told["proxy_acr"], told["l2@0"]) == (2, 0.0, 0.0)
    assert math.isnan(told["sighted"]) and math.isnan(told["nonfinite"])
    assert plots.write([line], tmp_path / "figures")


def test_export_and_reading_give_the_same_curves(tmp_path):
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(50) < 0.1, -1, rng.lognormal(0, 2, 50))
    (ours,) = lines(sized(sizes, "ancer"), [abstention(50, "ancer")])
    (both,) = export([ours], tmp_path, kind="ancer-tsv")
    (proxy,) = export([ours], tmp_path, radius="proxy")
    assert (both.name, proxy.name) == ("ancer-sigma-0.5-ancer.tsv", "ancer-sigma-0.5-proxy.tsv")
    assert proxy.read_text().splitlines()[-1] == "50\t3\t-1\t0.0\t0\t0:00:01.500000"
    theirs = read_logs([f"both@0.5={both}", f"alone@0.5:proxy={proxy}"])
    for size, method in (("proxy", "both"), ("l2", "both"), ("proxy", "alone")):
        one, other = curves([ours, methods_of(theirs)[method]], size)
        assert np.array_equal(one.radii, other.radii)
        assert np.array_equal(one.accuracy, other.accuracy)
    assert [one.line.method for one in curves(theirs, "l2")] == ["both"]
    assert "alone (log, sight not measured)" in legend(plots.draw(theirs))
    assert "rounded" not in caption(theirs)


def test_exports_that_cannot_be_are_refused_and_leave_nothing(tmp_path):
    found = read_lines([run(tmp_path / "run", [row(0)])])
    with pytest.raises(ValueError, match="wants disjoint_proxy_radius of every image"):
        export(found, tmp_path / "logs", radius="disjoint")
    assert not (tmp_path / "logs").exists()
    with pytest.raises(ValueError, match="a folder of its own"):
        export(found, tmp_path / "run")
    with pytest.raises(ValueError, match="got the file"):
        export(found, log(tmp_path / "file"))


def legend(figure) -> list[str]:
    """The names in the legend of a figure."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def mixed(tmp_path) -> list[Line]:
    """A run and a log of the same images."""
    ours = run(tmp_path / "run", sized([1.5, 1.0, -1.0]), weights_sha256="w", data_sha256="d")
    entries = ["0 3 3 0.9 1 1.0", "1 3 -1 0.0 0 1.0", "2 3 3 0.4 1 1.0"]
    return read_lines([ours], logs=[logged(tmp_path / "log", *entries)])


def test_a_run_and_a_log_draw_together_and_the_figure_says_rounded(mixed, tmp_path):
    assert available(mixed) == ("l2", "data", "proxy")
    figure = plots.draw(mixed, "l2")
    assert len(figure.axes[0].lines) == 2
    assert legend(figure) == ["RS", "cohen (rounded, sight not measured)"]
    told = caption(mixed, sizes=["l2"])
    wanted = "networks are not known: radii of cohen (rounded to 3 significant digits there)."
    assert wanted in told and "No " not in told
    assert "Sight not measured: cohen (rounded)." in told and "3 of 3 of RS." in told
    assert "n₀ = 100, n = 1,000, α = 0.001; " in told and "unknown" not in told
    assert "Not known of cohen: n₀, n, α." in told
    names = {path.stem for path in plots.write(mixed, tmp_path / "figures")}
    assert names == {"curves-l2", "curves-data", "curves-proxy", "p-lower"}


def test_a_size_that_a_log_lacks_leaves_its_line_out(mixed):
    assert set(to_frame(curves(mixed, "data"))["method"]) == {"rs"}
    assert legend(plots.draw(mixed, "data")) == legend(plots.draw_p_lower(mixed)) == ["RS"]
    told = caption(mixed, sizes=["data"])
    assert "No data radius is known of cohen." in told and "rounded" not in told
    rs, cohen = tables.summary(mixed).to_dict("records")
    assert rs["data@0"] == pytest.approx(2 / 3) and math.isnan(cohen["data@0"])
    assert cohen["proxy@0.5"] == pytest.approx(1 / 3)
    _, data, _ = tables.to_text(tables.summary(mixed)).strip().split("\n\n")
    assert data.splitlines()[-1].split()[:7] == ["0.5", "cohen", "3", "1", "-", "-", "-"]
    with pytest.raises(ValueError, match="no line of the figure has data"):
        plots.draw(mixed[1:], "data")
    with pytest.raises(ValueError, match="no line of the figure has p_lower"):
        plots.draw_p_lower(mixed[1:])


def test_a_panel_in_which_no_line_has_the_size_is_empty(tmp_path):
    theirs = logged(tmp_path / "log", "0 3 3 0.9 1 1.0", sigma=0.25)
    figure = plots.draw(read_lines([run(tmp_path / "run", [row(0)])], logs=[theirs]), "data")
    assert [len(ax.lines) for ax in figure.axes] == [0, 1]
    assert [ax.get_title() for ax in figure.axes] == [r"$\sigma = 0.25$", r"$\sigma = 0.5$"]


def test_a_log_of_many_digits_is_not_rounded(tmp_path):
    exact = logged(tmp_path / "exact", "0 3 3 0.9531234567890123 1 0:00:01", name="theirs")
    assert exact.label == "theirs (log)"
    wanted = "radii of cohen (rounded to 3 significant digits there), theirs."
    assert wanted in caption([exact, logged(tmp_path / "rounded")])

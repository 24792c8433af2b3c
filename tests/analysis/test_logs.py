"""Logs of other projects: read as they write them, refused where broken, and written anew."""

import math

import numpy as np
import pytest

from rddrs_dist.analysis import plots, tables
from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import curve, curves
from rddrs_dist.analysis.logs.exporting import export
from rddrs_dist.analysis.sizes import available
from rddrs_dist.results import read, read_many

from .logs import ANCER, COHEN, DDRS, LINES, log, run, take
from .rows import abstention, row, sized


def test_a_log_of_locuslab_holds_balls_and_nothing_of_samples(tmp_path):
    frame = read(take(log(tmp_path / "log", *LINES), tmp_path / "out", n=1000))
    assert frame["index"].tolist() == [0, 7, 9] and set(frame["method"]) == {"cohen"}
    assert frame["l2_radius"].tolist() == frame["proxy_radius"].tolist() == [0.953, 0.0, 1.2e-05]
    assert frame["prediction"].tolist() == [3, -1, 8]
    assert frame["correct"].tolist() == [True, False, False]
    assert frame["certify_seconds"].tolist() == [13.73608, 15.4, 2.0]
    assert set(frame["n"]) == {1000}
    unknown = ["count", "n0", "alpha", "radius", "capped_proxy_radius", "min_axis", "fit_status"]
    assert frame[unknown].isna().all(axis=None)
    assert available(frame) == ("proxy", "l2") and frame.attrs["complete"]


def test_a_log_of_ddrs_tells_the_sigma_of_each_image(tmp_path):
    lines = ["0 3 3 0.953 1 0.31 0:00:13.736080", "1 3 -1 0.0 0 0.5 1~day,~0:00:01"]
    frame = read(take(log(tmp_path / "log", *lines, header=DDRS), tmp_path / "out"))
    assert frame["sigma"].tolist() == [0.5, 0.5]
    for axis in ("min_axis", "mean_axis", "max_axis"):
        assert frame[axis].tolist() == [0.31, 0.5]
    assert frame["certify_seconds"].tolist()[1] == 86401.0


def test_a_log_of_ancer_has_two_radii(tmp_path):
    lines = ["0 3 3 0.5 1.25 1 0.25 0:00:01", "1 3 -1 0.0 0.0 0 0.2 0:00:01"]
    frame = read(take(log(tmp_path / "log", *lines, header=ANCER), tmp_path / "out"))
    assert frame["l2_radius"].tolist() == [0.5, 0.0]
    assert frame["proxy_radius"].tolist() == [1.25, 0.0]
    assert frame["min_axis"].tolist() == [0.25, 0.2] and frame["mean_axis"].isna().all()


def test_windows_line_ends_and_several_files_are_read(tmp_path):
    one = log(tmp_path / "a", LINES[0])
    one.write_bytes(b"\xef\xbb\xbf" + one.read_bytes().replace(b"\n", b"\r\n"))
    frame = read(take([one, log(tmp_path / "b", LINES[1])], tmp_path / "out"))
    assert frame["index"].tolist() == [0, 7]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be a log, got an empty file"),
        ("\n\n", "must be a log, got an empty file"),
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
        (f"{COHEN}\n{LINES[0]}\n{LINES[0]}\n", "line 3: every idx .* got 0 as in .*log, line 2;"),
        (
            f"{ANCER}\n0 3 3 0.5 0.4 1 0.2 1.0\n",
            "radius_proxy must be at least radius, .* got 0.4",
        ),
    ],
)
def test_a_broken_log_is_one_line_that_names_file_line_wanted_and_got(tmp_path, text, told):
    path = tmp_path / "log"
    path.write_text(text.replace(" ", "\t"))
    with pytest.raises(ValueError, match=told) as why:
        take(path, tmp_path / "out")
    assert str(path) in str(why.value) and "\n" not in str(why.value)
    assert not (tmp_path / "out").exists()


def test_a_log_that_is_not_there_is_named_without_a_number_of_an_error(tmp_path):
    with pytest.raises(ValueError, match="absent must be a log, got No such file") as why:
        take(tmp_path / "absent", tmp_path / "out")
    assert "Errno" not in str(why.value)


def test_bytes_that_are_no_text_and_logs_of_two_kinds_are_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\x00\xfe\n")
    with pytest.raises(ValueError, match="bytes must be a log of text"):
        take(tmp_path / "bytes", tmp_path / "out")
    two = [log(tmp_path / "a", LINES[0]), log(tmp_path / "b", "5 3 3 1.0 1 0.5 2.0", header=DDRS)]
    with pytest.raises(ValueError, match="of one format, got cohen-tsv and ddrs-tsv"):
        take(two, tmp_path / "out")
    with pytest.raises(ValueError, match="--radius proxy wants a log of cohen-tsv, got .* ddrs"):
        take(two[1], tmp_path / "out", radius="proxy")
    with pytest.raises(ValueError, match="every idx .* got 0 as in .*a, line 2"):
        take([two[0], two[0]], tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "RDDRS-TR"}, "one of our methods, got 'RDDRS-TR'"),
        ({"name": "rs"}, "one of our methods"),
        ({"name": "../x"}, "--name must be"),
        ({"name": "$x$"}, "--name must be"),
        ({"sigma": math.nan}, "--sigma must be above 0 and finite, got nan"),
        ({"alpha": 1.0}, "--alpha must be above 0 and below 1, got 1.0"),
        ({"n": 0}, "--n must be above 0"),
    ],
)
def test_names_and_settings_that_cannot_be_are_refused(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        take(log(tmp_path / "log", *LINES), tmp_path / "out", **changes)


def test_a_log_with_abstentions_only_is_a_curve_at_zero(tmp_path):
    out = take(log(tmp_path / "log", "0 3 -1 0.0 0 1.0", "1 4 -1 0.0 0 1.0"), tmp_path / "out")
    frame = read_many([out])
    assert curve(frame, "l2", method="cohen", sigma=0.5).accuracy.tolist() == [0.0, 0.0]
    (line,) = tables.summary(frame).to_dict("records")
    assert (line["abstentions"], line["proxy_acr"], line["l2@0"]) == (2, 0.0, 0.0)
    assert math.isnan(line["capped_acr"]) and math.isnan(line["nonfinite"])
    assert plots.write(frame, tmp_path / "figures")


def test_export_and_import_give_the_same_curves(tmp_path):
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(50) < 0.1, -1, rng.lognormal(0, 2, 50))
    ours = read(run(tmp_path / "run", [*sized(sizes, "ancer"), abstention(50, "ancer")]))
    (both,) = export(ours, tmp_path / "logs", kind="ancer-tsv")
    (proxy,) = export(ours, tmp_path / "logs", radius="proxy")
    assert (both.name, proxy.name) == ("ancer-sigma-0.5-ancer.tsv", "ancer-sigma-0.5-proxy.tsv")
    assert proxy.read_text().splitlines()[-1] == "50\t3\t-1\t0.0\t0\t0:00:01.500000"
    theirs = read_many(
        [take(both, tmp_path / "both"), take(proxy, tmp_path / "b", name="proxy", radius="proxy")]
    )
    for metric, name in (("proxy", "cohen"), ("l2", "cohen"), ("proxy", "proxy")):
        one = curve(ours, metric, method="ancer", sigma=0.5)
        other = curve(theirs, metric, method=name, sigma=0.5)
        assert np.array_equal(one.radii, other.radii)
        assert np.array_equal(one.accuracy, other.accuracy)
    assert [one.method for one in curves(theirs, "l2")] == ["cohen"]
    assert "cohen (log)" in {own.get_text() for own in plots.draw(theirs).legends[0].get_texts()}
    assert "rounded" not in caption(theirs)


def test_exports_that_cannot_be_are_refused_and_leave_nothing(tmp_path):
    frame = read(run(tmp_path / "run", [row(0)]))
    with pytest.raises(ValueError, match="wants sound_proxy_radius of every image"):
        export(frame, tmp_path / "logs", radius="sound")
    assert not (tmp_path / "logs").exists()
    with pytest.raises(ValueError, match="a folder of its own"):
        export(frame, tmp_path / "run")
    with pytest.raises(ValueError, match="got the file"):
        export(frame, log(tmp_path / "file"))

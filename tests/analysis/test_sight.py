"""Regions that are not sighted count as nothing, and what was never measured is told."""

import csv
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln

from rddrs_dist import cli
from rddrs_dist.analysis import plots, status, tables
from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import curves, p_lower_curves, to_frame
from rddrs_dist.analysis.lines import Line, cube_of, read_lines
from rddrs_dist.region import cube_radius
from tests.results.rows import abstention, row, sized

from .making import lines, run

EARLIER = Path(__file__).parents[1] / "recorded" / "run-0.7.0"
RADII = [0.5, 1.0, 2.0, 4.0, 3.0]


def seen(upper, radii=RADII, **columns) -> Line:
    """A line of right predictions with these upper bounds of blindness."""
    (line,) = lines(sized(radii), blindness_upper=upper, **columns)
    return line


def in_space(d: int, radii=RADII) -> Line:
    """A line whose regions have the volumes of balls of d dimensions."""
    log_volume = d * np.log(radii) + d / 2 * math.log(math.pi) - gammaln(d / 2 + 1)
    return seen(0.01, radii, log_volume=log_volume)


def test_a_blind_line_is_certified_nowhere_and_its_table_says_so():
    blind = seen(1.0)
    assert blind.certified("proxy").tolist() == [-1.0] * 5
    assert blind.average("proxy") == blind.median("proxy") == 0.0
    (told,) = tables.summary([blind]).to_dict("records")
    assert {told[name] for name in told if "@" in name or "_acr" in name} == {0.0}
    assert (told["sighted"], told["not_sighted"], told["max_blindness"]) == (0.0, 5, 0.05)
    text = tables.to_text(tables.summary([blind], ["proxy"])).splitlines()
    assert text[2].split()[6:12] == ["0.0", "5", "0.000", "0.000", "0.0", "0.0"]
    assert "blindness at most 0.05 (upper bound): 0 of 5 of RS." in caption([blind])
    (curve,) = curves([blind], "proxy")
    assert curve.accuracy.tolist() == [0.0, 0.0]


def test_all_rows_are_shown_on_request():
    shown = replace(seen(1.0), sighted=1.0)
    assert shown.certified("proxy").tolist() == RADII
    assert shown.average("proxy") == np.mean(RADII) and shown.median("proxy") == 2.0
    assert "All rows count, sighted or not." in caption([shown])
    assert "blindness at most" not in caption([shown])


def test_a_region_counts_up_to_the_bound_and_where_nothing_is_known_of_it_not():
    bound = 0.05
    mixed = seen([bound, np.nextafter(bound, 1), np.nan, 0.0, 0.2])
    assert mixed.certified("l2").tolist() == [0.25, -1.0, -1.0, 2.0, -1.0]
    (told,) = tables.summary([mixed]).to_dict("records")
    assert (told["sighted"], told["not_sighted"]) == (0.4, 3)
    assert replace(mixed, sighted=0.2).certified("l2").tolist() == [0.25, 0.5, -1.0, 2.0, 1.5]
    assert replace(mixed, sighted=1.0).certified("l2").tolist() == [r / 2 for r in RADII]


def test_wrong_predictions_and_abstentions_are_not_what_sight_takes_away():
    rows = [row(0), row(1, prediction=5, correct=False), abstention(2, blindness_upper=None)]
    (line,) = lines(rows, blindness_upper=[0.01, 0.9, np.nan])
    (told,) = tables.summary([line]).to_dict("records")
    assert (told["sighted"], told["not_sighted"]) == (0.5, 0)
    (nothing,) = lines([abstention(k, blindness_upper=None) for k in range(2)])
    (told,) = tables.summary([nothing]).to_dict("records")
    assert math.isnan(told["sighted"]) and told["not_sighted"] == 0
    assert nothing.legend == "RS"


@pytest.mark.parametrize("absent", [False, True])
def test_a_line_without_a_measure_is_shown_as_it_is_and_says_so(absent):
    line = seen(np.nan)
    if absent:
        line = replace(line, rows=line.rows.drop(columns="blindness_upper"))
    assert line.certified("proxy").tolist() == RADII
    assert line.legend == "RS (sight not measured)"
    assert "Sight not measured: RS." in caption([line])
    (told,) = tables.summary([line]).to_dict("records")
    assert all(math.isnan(told[one]) for one in ("sighted", "not_sighted", "max_blindness"))
    assert told["proxy@0"] == 1.0
    (text,) = plots.draw([line]).legends[0].get_texts()
    assert text.get_text() == "RS (sight not measured)"


def test_an_image_that_failed_takes_no_size_away():
    failed = abstention(1, data_radius=None, blindness_upper=None, error="out of memory")
    (line,) = lines([row(0, data_radius=0.8), failed])
    assert line.certified("data").tolist() == [0.8, -1.0]
    (partly,) = lines([row(0, data_radius=0.8), row(1, data_radius=None)])
    assert partly.certified("data") is None


def test_measured_and_unmeasured_lines_are_told_apart():
    (ddrs,) = lines(sized(RADII, "ddrs"), blindness_upper=[0.0, 0.0, 1.0, 1.0, 1.0])
    told = caption([seen(np.nan), ddrs])
    assert "2 of 5 of DDRS. Sight not measured: RS." in told


def test_the_median_counts_others_as_zero_and_is_floored():
    (even,) = lines(sized([1.9057, 0.5, 3.0, -1.0]))
    assert even.median("proxy") == (0.5 + 1.9057) / 2
    assert seen([0.0, 0.0, 1.0, 1.0, 0.0]).median("proxy") == 0.5
    (told,) = tables.summary([even]).to_dict("records")
    assert tables.cell("proxy_median", told["proxy_median"]) == "1.202"  # 1.20285
    assert math.isnan(even.median("disjoint"))


@pytest.mark.parametrize("d", [1, 2, 64, 784, 3072, 150_528])
def test_elements_of_an_image_follow_from_radii_and_volumes(d):
    for radii in (RADII, [1.0], [25.5]):
        assert cube_of([in_space(d, radii)]) == (d, cube_radius(d))
    assert seen(0.01).dimension is None  # made-up volumes that no dimension has
    (nothing,) = lines([abstention(0)])
    assert cube_of([nothing]) is None and cube_of([nothing, in_space(d)]) == (d, cube_radius(d))


def test_the_pixel_cube_is_marked_where_the_axis_reaches_it(tmp_path):
    line = in_space(64)
    (ax,) = plots.draw([line]).axes
    (mark,) = (one for one in ax.lines if one.get_gid() == "cube")
    assert list(mark.get_xdata()) == [cube_radius(64)] * 2
    png, svg, *_ = plots.write([line], tmp_path, ["proxy"])
    assert 'id="cube"' in svg.read_text() and png.exists()
    wanted = "volume of the pixel cube, d = 64, has radius 2.02"
    assert wanted in caption([line], sizes=["proxy"])
    far = in_space(784)  # of which regions reach 4 of 6.81
    (ax,) = plots.draw([far]).axes
    assert not [one for one in ax.lines if one.get_gid() == "cube"]
    assert "d = 784, has radius 6.81" in caption([far], sizes=["proxy"])
    for size in ("l2", "data"):
        (ax,) = plots.draw([line], size).axes
        assert not [one for one in ax.lines if one.get_gid() == "cube"]
        assert "pixel cube" not in caption([line], sizes=[size])


def test_names_of_axes_keep_to_their_panels():
    many = [replace(seen(0.01), sigma=sigma) for sigma in (0.12, 0.25, 0.5)]
    figure = plots.draw(many, "data")
    figure.draw_without_rendering()
    boxes = [ax.xaxis.label.get_window_extent() for ax in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_distribution_of_p_a_is_exact(tmp_path):
    p_lower = [0.6, 0.999, 0.6, 0.75, 0.9]
    line = seen([0.0, 0.0, 0.0, 1.0, 0.0], p_lower=p_lower)  # one is blind
    wrong, gone = row(5, prediction=5, correct=False), abstention(6)
    (rest,) = lines([wrong, gone])
    rows = pd.concat([line.rows, rest.rows], ignore_index=True)
    path = plots.write([replace(line, rows=rows)], tmp_path, ["l2"])[-1]
    assert path.name == "p-lower.csv"
    with path.open(newline="") as file:
        made = list(csv.DictReader(file))
    steps = [(float(one["p_lower"]), float(one["accuracy"])) for one in made]
    wanted = [
        (0.0, 4 / 7),
        (0.6, 4 / 7),
        (0.9, 2 / 7),
        (0.999, 1 / 7),
        (np.nextafter(0.999, 1), 0),
    ]
    assert steps == wanted
    assert {one["metric"] for one in made} == {"p_lower"} and made[0]["images"] == "7"


def test_the_figure_of_p_a_cites_why_and_holds_certainty():
    certain = seen(0.01, p_lower=[0.4, 0.6, 0.99, 1.0, 1.0])
    figure = plots.draw_p_lower([certain])
    figure.draw_without_rendering()
    told = figure.texts[-1].get_text().replace("\n", " ")
    assert "Sun, Mao, Müller and Vechev 2024, arXiv 2410.06895" in told
    assert figure.axes[0].get_xlim()[0] == 0.5 and figure.axes[0].get_xlim()[1] < 1
    (curve,) = p_lower_curves([certain])
    assert "p_lower" in to_frame([curve]) and curve.reach == 1.0


def test_a_run_says_how_many_regions_are_sighted(tmp_path):
    uppers = [0.01, 0.9, 0.9, None]
    rows = [row(k, blindness_upper=upper) for k, upper in enumerate(uppers[:3])]
    out = run(tmp_path / "run", [*rows, abstention(3, blindness_upper=None)])
    told = status.status(out, 0.0)
    assert "blindness at most 0.05 (upper bound): 1 of 3 of RS." in told
    assert "sighted %  not sighted" in told
    (line,) = read_lines([out])
    (made,) = status.summary([line], {})["methods"]
    assert (made["sighted"], made["not_sighted"], made["proxy@0"]) == (1 / 3, 2, 0.25)


@pytest.mark.parametrize("value", ["0", "-0.1", "1.01", "nan"])
@pytest.mark.parametrize("command", ["curves", "report"])
def test_bounds_of_blindness_that_are_none_are_one_clear_line(tmp_path, capsys, command, value):
    out = run(tmp_path / "run", [row(0)])
    to = tmp_path / "page.html" if command == "report" else tmp_path / "figures"
    assert cli.main([command, str(out), "--out", str(to), "--sighted", value]) == cli.WRONG
    told = capsys.readouterr().err
    assert "--sighted must be above 0 and at most 1, got" in told and told.count("\n") == 1
    assert not to.exists()


def test_the_commands_leave_out_what_is_blind_and_show_all_on_request(tmp_path, capsys):
    out = run(tmp_path / "run", [row(k, blindness_upper=upper) for k, upper in enumerate((0, 1))])
    for flags, share, told in (
        ([], "0.5", "1 of 2 of RS."),
        (["--sighted", "1"], "1.0", "All rows count, sighted or not."),
    ):
        assert cli.main(["curves", str(out), "--out", str(tmp_path / "f"), *flags]) == 0
        assert told in capsys.readouterr().out and told in (tmp_path / "f/table.md").read_text()
        (made,) = csv.DictReader((tmp_path / "f/table.csv").open())
        assert made["proxy@0"] == share
    assert cli.main(["curves", str(out), "--out", str(tmp_path / "f"), "--sizes", "data99"]) == 0
    assert "Data radius, 99 %" in capsys.readouterr().out
    assert (tmp_path / "f/curves-data99.png").exists()


def test_a_run_of_an_earlier_version_is_shown_whole(tmp_path, capsys):
    found = read_lines([EARLIER])
    assert all(one.legend.endswith("(sight not measured)") for one in found)
    assert cube_of(found) == (64, cube_radius(64))
    assert [one.certified("proxy").min() > 0 for one in found] == [True] * 5
    assert "Sight not measured: RS, DDRS" in status.status(EARLIER, 0.0)
    for command, to in (("curves", "figures"), ("report", "page.html")):
        assert cli.main([command, str(EARLIER), "--out", str(tmp_path / to)]) == 0
    assert "Sight not measured: RS, DDRS" in (tmp_path / "figures/table.md").read_text()
    assert "Sight not measured: RS, DDRS" in (tmp_path / "page.html").read_text()
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert names == {"curves-l2", "curves-proxy", "p-lower"}

"""What the page tells of sight: numbers beside each image, marks, and what counts as nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import gammaln

from rddrs_dist.analysis.lines import Line, read_lines
from rddrs_dist.methods import METHODS
from rddrs_dist.region import cube_radius
from rddrs_dist.report import charts, facts
from rddrs_dist.report.gallery import Strip, gallery
from rddrs_dist.report.page import render
from tests.analysis.making import lines
from tests.results.rows import sized


def strips(found: list[Line]) -> dict[str, Strip]:
    """What the page shows of image 0, by method."""
    (entry,), _ = gallery(found, [0])
    return {one.method: one for one in entry.shown}


def with_sight(original, upper: float, share: float = 0.0, **about) -> list[Line]:
    """The lines of a run whose regions are all as blind."""
    columns = {"blindness": share, "blindness_upper": upper, "data_radius": 0.1239}
    return [
        replace(one, rows=one.rows.assign(prediction=one.rows["label"], **columns), **about)
        for one in read_lines([original.folder])
    ]


def test_blindness_and_data_radius_stand_beside_each_image(original):
    for one in strips(with_sight(original, 0.0302, 0.0201)).values():
        assert ", data 0.123, proxy " in one.title  # a size is rounded down
        assert one.sight == "blindness 0.021, at most 0.031"  # and blindness up
        assert not one.blind


def test_what_is_not_sighted_is_marked(original):
    found = with_sight(original, 0.75, 0.5)
    shown = strips(found)
    assert len(shown) == len(METHODS) and all(one.blind for one in shown.values())
    assert {one.sight for one in shown.values()} == {"blindness 0.500, at most 0.750: not sighted"}
    page = render(found, *gallery(found, [0]))
    assert page.count('<p class="sight blind">') == len(METHODS)
    assert "blindness at most 0.05 (upper bound): 0 of 6 of RS" in page
    seen = strips(with_sight(original, 0.75, 0.5, sighted=1.0))
    assert not any(one.blind for one in seen.values())
    assert {one.sight for one in seen.values()} == {"blindness 0.500, at most 0.750"}


def test_what_was_not_measured_is_told(original):
    found = with_sight(original, math.nan, math.nan)
    assert {(one.sight, one.blind) for one in strips(found).values()} == {
        ("sight not measured", False)
    }
    page = render(found)
    assert "<span>RS (sight not measured)</span>" in page and "Sight not measured: RS" in page


def test_tables_and_histograms_take_a_blind_region_as_nothing():
    (line,) = lines(sized([1.0, 2.0, 3.0]), blindness_upper=[0.01, 1.0, 1.0])
    (table,) = (one for one in facts.at_radii([line]) if one.size == "proxy")
    told = dict(table.rows[0])
    assert (told["sighted %"], told["ACR"], told["median"], told["@0"], told["@2"]) == (
        *("33.3", "0.333", "0.000", "33.3", "0.0"),
    )
    assert "sighted %" not in table.values[0] and table.values[0]["@0"] == 1 / 3
    assert facts.endings([line]).rows[0]["right, not sighted"] == "2"
    (histogram,) = (one for one in charts.histogram_charts([line]) if one.size == "proxy")
    assert histogram.figure.data[0].y.tolist()[1] == 2


@pytest.mark.parametrize(("d", "reached"), [(64, True), (784, False)])
def test_charts_mark_the_pixel_cube_where_the_axis_reaches_it(d, reached):
    radii = np.array([1.0, 4.0])
    volumes = d * np.log(radii) + d / 2 * math.log(math.pi) - gammaln(d / 2 + 1)
    found = lines(sized(radii), log_volume=volumes)
    marks = {one.size: one.figure.layout.shapes for one in charts.curve_charts(found)}
    assert [one.x0 for one in marks["proxy"]] == [cube_radius(d)] * reached
    assert not marks["l2"] and not marks["data"]
    assert f"d = {d}, has radius {cube_radius(d):.2f}" in render(found)

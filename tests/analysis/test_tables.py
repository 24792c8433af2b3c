"""Summaries at chosen radii, whose print is floored."""

import math

import numpy as np
import pytest

from rddrs_dist.analysis.lines import Line
from rddrs_dist.analysis.tables import floor_to, summary, to_markdown, to_text
from tests.results.rows import abstention, row, sized

from .making import lines


@pytest.fixture
def both() -> list[Line]:
    ddrs = sized([2.0, 2.0, 2.0], "ddrs", fit_seconds=4.0)
    return lines(sized([1.9057, 0.5, -1.0]), [abstention(3)], ddrs)


def test_floor_never_rounds_up():
    assert floor_to(1.9057, 2) == 1.90
    assert floor_to(0.29, 2) == 0.29  # 100 * 0.29 is 28.999...
    assert floor_to(0.999999999, 3) == 0.999
    assert floor_to(-0.25, 1) == -0.3
    assert floor_to(1e-9, 3) == 0.0
    assert floor_to(1e25, 4) == 1e25 and floor_to(2.0**53 + 2, 3) == 2.0**53 + 2
    assert floor_to(math.inf, 3) == math.inf and math.isnan(floor_to(math.nan, 1))
    for value in np.random.default_rng(0).lognormal(0, 4, 2000):
        assert 0 <= value - floor_to(value, 3) < 0.001 * (1 + 1e-9)


def test_summary_counts_and_means(both):
    rs, ddrs = summary(both).to_dict("records")
    assert (rs["method"], rs["sigma"], rs["images"], rs["abstentions"]) == ("rs", 0.5, 4, 1)
    assert [rs["proxy@0"], rs["proxy@0.5"], rs["proxy@1"], rs["proxy@2"]] == [0.5, 0.5, 0.25, 0.0]
    assert rs["proxy_acr"] == (1.9057 + 0.5) / 4
    assert (ddrs["fit_seconds"], ddrs["certify_seconds"], ddrs["l2@1"]) == (4.0, 1.5, 1.0)
    assert not any(name.startswith("l2") for name in summary(both, ["proxy"]).columns)


def test_text_shows_floored_numbers_in_columns_of_one_width(both):
    text = to_text(summary(both, ["proxy", "l2"]))
    assert "Proxy radius: certified accuracy in %, floored" in text and "l2 radius" in text
    assert "0.601" in text  # (1.9057 + 0.5) / 4 = 0.601425
    for block in text.strip().split("\n\n"):
        assert len({len(line) for line in block.splitlines()[1:]}) == 1


def test_what_is_just_below_a_digit_is_not_promoted_and_what_reaches_it_is():
    text = to_text(summary(lines(sized([np.nextafter(2.0, 0.0)]))))
    assert "1.999" in text and "2.000" not in text
    assert " 29.0 " in to_text(summary(lines(sized([1.0] * 29 + [-1.0] * 71))))


def test_markdown_has_a_rule_and_one_row_per_line(both):
    text = to_markdown(summary(both, ["l2"])).splitlines()
    names = (
        "sigma method images abstained nonfinite others_inside sighted_% not_sighted ACR median"
    )
    radii = "@0 @0.25 @0.5 @0.75 @1 @1.5 fit_s certify_s"
    assert text[2] == f"| {' | '.join([*names.split(), *radii.split()])} |".replace("_", " ")
    assert set(text[3]) <= set("|-: ")
    shares = "| 50.0 | 50.0 | 25.0 | 25.0 | 0.0 | 0.0 |"
    assert (
        text[4]
        == f"| 0.5 | rs | 4 | 1 | 0 | 0 | 100.0 | 0 | 0.300 | 0.125 {shares} 0.250 | 1.500 |"
    )


def test_images_with_others_inside_are_counted_where_they_are_known():
    rows = [row(0, others_inside=3), row(1, others_inside=0), row(2, others_inside=1)]
    (told,) = summary(lines(rows)).to_dict("records")
    assert told["with_others_inside"] == 2
    unknown = summary(lines(rows, others_inside=np.nan))
    (told,) = unknown.to_dict("records")
    assert np.isnan(told["with_others_inside"])
    assert " - " in to_text(unknown)

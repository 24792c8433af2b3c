"""Summaries at chosen radii, whose print is floored."""

import math

import numpy as np
import pandas as pd
import pytest

from rddrs_dist.analysis.tables import floor_to, summary, to_markdown, to_text
from rddrs_dist.results.columns import table

from .rows import abstention, row, sized


@pytest.fixture
def frame() -> pd.DataFrame:
    right = sized([1.9057, 0.5, -1.0])
    ddrs = sized([2.0, 2.0, 2.0], "ddrs", fit_seconds=4.0)
    return table([*right, abstention(3), *ddrs], {}).to_pandas()


def test_floor_never_rounds_up():
    assert floor_to(1.9057, 2) == 1.90
    assert floor_to(0.29, 2) == 0.29  # 100 * 0.29 is 28.999...
    assert floor_to(0.999999999, 3) == 0.999
    assert floor_to(-0.25, 1) == -0.3
    assert floor_to(1e-9, 3) == 0.0
    assert floor_to(1e25, 4) == 1e25 and floor_to(2.0**53 + 2, 3) == 2.0**53 + 2
    assert floor_to(math.inf, 3) == math.inf and math.isnan(floor_to(math.nan, 1))


def test_floor_is_below_the_value_and_by_less_than_one_digit():
    values = np.random.default_rng(0).lognormal(0, 4, 2000)
    for value in map(float, values):
        assert 0 <= value - floor_to(value, 3) < 0.001 * (1 + 1e-9)


def test_summary_counts_and_means(frame):
    made = summary(frame, {"proxy": [0.0, 0.5, 1.9057], "l2": [1.0]})
    rs, ddrs = made.to_dict("records")
    assert (rs["method"], rs["sigma"], rs["images"], rs["abstentions"]) == ("rs", 0.5, 4, 1)
    assert [rs["proxy@0"], rs["proxy@0.5"], rs["proxy@1.9057"]] == [0.5, 0.5, 0.25]
    assert rs["proxy_acr"] == (1.9057 + 0.5) / 4
    assert (ddrs["fit_seconds"], ddrs["certify_seconds"], ddrs["l2@1"]) == (4.0, 1.5, 1.0)


def test_text_shows_floored_numbers_in_columns_of_one_width(frame):
    text = to_text(summary(frame, {"proxy": [0.0, 0.5], "l2": [0.5]}))
    assert "Proxy radius: certified accuracy in %, floored" in text and "l2 radius" in text
    assert "0.601" in text  # (1.9057 + 0.5) / 4 = 0.601425
    for block in text.strip().split("\n\n"):
        assert len({len(line) for line in block.splitlines()[1:]}) == 1


def test_an_acr_just_below_a_digit_is_not_promoted():
    near = table(sized([np.nextafter(2.0, 0.0)]), {}).to_pandas()
    assert "1.999" in to_text(summary(near)) and "2.000" not in to_text(summary(near))


def test_markdown_has_a_rule_and_one_line_per_method(frame):
    lines = to_markdown(summary(frame, {"proxy": [0.0], "l2": [0.5]})).splitlines()
    names = "sigma method images abstained nonfinite swallowing ACR @0 capped_ACR fit_s certify_s"
    head = f"| {' | '.join(names.split())} |".replace("_", " ")
    assert lines[2] == head and set(lines[3]) <= set("|-: ")
    assert lines[4] == "| 0.5 | rs | 4 | 1 | 0 | 0 | 0.601 | 50.0 | 0.500 | 0.250 | 1.500 |"


def test_29_of_100_prints_as_29():
    frame = table(sized([1.0] * 29 + [-1.0] * 71), {}).to_pandas()
    assert " 29.0 " in to_text(summary(frame, {"proxy": [0.5]}))


def test_swallowed_images_and_capped_sizes_are_counted_where_they_are_known(frame):
    known = pd.DataFrame(
        [
            row(0, others_inside=3, capped_proxy_radius=0.8),
            row(1, others_inside=0, capped_proxy_radius=0.4),
            row(2, others_inside=1, capped_proxy_radius=9.0, correct=False),
        ]
    )
    (line,) = summary(known).to_dict("records")
    assert line["swallowing"] == 2
    assert line["capped_acr"] == pytest.approx(0.4)
    (line,) = summary(known.assign(others_inside=np.nan, capped_proxy_radius=np.nan)).to_dict(
        "records"
    )
    assert np.isnan(line["swallowing"]) and np.isnan(line["capped_acr"])
    assert " - " in to_text(summary(known.assign(others_inside=np.nan)))

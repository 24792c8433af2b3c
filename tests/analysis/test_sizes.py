"""Sizes that count as certified, and their mean."""

import numpy as np
import pandas as pd
import pytest

from rddrs_dist.analysis.sizes import METRICS, available, average_certified_radius, certified
from rddrs_dist.results.columns import table

from .rows import abstention, row

ROWS = [
    row(0, proxy_radius=2.0, l2_radius=0.5),
    row(1, proxy_radius=3.0, l2_radius=0.25, correct=False, prediction=4),
    abstention(2),
    row(3, proxy_radius=0.0, l2_radius=0.0),
]


@pytest.fixture
def frame() -> pd.DataFrame:
    return table(ROWS, {}).to_pandas()


def test_wrong_rows_and_abstentions_are_below_every_radius(frame):
    assert certified(frame, "proxy").tolist() == [2.0, -1.0, -1.0, 0.0]
    assert certified(frame, "l2").tolist() == [0.5, -1.0, -1.0, 0.0]


def test_an_abstention_never_counts_even_where_its_row_says_correct(frame):
    frame["correct"] = True
    assert certified(frame, "proxy").tolist() == [2.0, 3.0, -1.0, 0.0]


def test_the_mean_counts_wrong_rows_as_zero(frame):
    assert average_certified_radius(frame, "proxy") == 2.0 / 4
    assert average_certified_radius(frame, "l2") == 0.5 / 4


def test_a_metric_is_one_column_of_the_table(frame, monkeypatch):
    monkeypatch.setitem(METRICS, "widest", "max_axis")
    assert certified(frame, "widest").tolist() == [0.5, -1.0, -1.0, 0.5]


def test_an_unknown_metric_and_an_empty_frame_are_refused(frame):
    known = "proxy, capped, l2, sound, simultaneous"
    with pytest.raises(ValueError, match=f"one of {known}, got 'volume'"):
        certified(frame, "volume")
    with pytest.raises(ValueError, match="at least one row"):
        average_certified_radius(frame.iloc[:0], "proxy")


def test_the_sound_radius_is_a_metric_where_every_row_has_one(frame):
    assert available(frame) == ("proxy", "capped", "l2")
    sound = frame.assign(sound_proxy_radius=[1.5, 3.0, 0.0, 0.0])
    assert available(sound) == ("proxy", "capped", "l2", "sound")
    assert certified(sound, "sound").tolist() == [1.5, -1.0, -1.0, 0.0]
    assert available(sound.assign(sound_proxy_radius=[1.5, np.nan, 0.0, 0.0])) == (
        "proxy",
        "capped",
        "l2",
    )

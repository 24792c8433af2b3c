"""Sizes for all images at once are those of a certificate with alpha divided by their number."""

import numpy as np
import pytest

from rddrs_dist import cli
from rddrs_dist.analysis import simultaneous
from rddrs_dist.analysis.sizes import available
from rddrs_dist.results import read_many
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower
from tests.small_run import RUN

from .logs import LINES, log, take


def test_every_row_has_what_its_count_gives_at_its_share_of_alpha(original):
    frame = read_many([original.folder])
    found = simultaneous.add(frame)
    assert found.attrs == frame.attrs and len(found) == len(frame)
    images = frame["index"].nunique()
    for row in found.to_dict("records"):
        level = row["alpha"] / RUN.looks / images
        radius = normal_quantile_lower(clopper_pearson_lower(row["count"], row["n"], level))
        wanted = np.fmin(radius, row["radius_limit"]) if row["prediction"] >= 0 else 0.0
        assert row["simultaneous_radius"] == pytest.approx(wanted, rel=1e-12, abs=0)
        for size, axis in (("l2", "min_axis"), ("proxy", "mean_axis")):
            exact = row["simultaneous_radius"] * row[axis]
            assert 0 <= exact - row[f"simultaneous_{size}_radius"] <= 1e-12
            assert row[f"simultaneous_{size}_radius"] <= row[f"{size}_radius"]
    certified = found.loc[found["prediction"] >= 0]
    held = certified["radius"] == certified["radius_limit"]
    assert (certified["simultaneous_radius"] < certified["radius"])[~held].all()


def test_a_limit_stays_one(original):
    frame = read_many([original.folder])
    free = simultaneous.add(frame.assign(radius_limit=np.nan))["simultaneous_radius"]
    assert (free > 0.5).any()
    held = simultaneous.add(frame.assign(radius_limit=0.5))["simultaneous_radius"]
    assert held.tolist() == free.clip(upper=0.5).tolist()


def test_it_is_drawn_on_request_alone(original, capsys, tmp_path):
    assert "simultaneous" not in available(read_many([original.folder]))
    for flags, drawn in (([], False), (["--simultaneous"], True)):
        command = ["curves", str(original.folder), "--out", str(tmp_path), *flags]
        assert cli.main(command) == 0
        assert (tmp_path / "curves-simultaneous.csv").exists() == drawn
        assert ("all images at once" in capsys.readouterr().out) == drawn


def test_a_log_has_none(tmp_path):
    frame = simultaneous.add(read_many([take(log(tmp_path / "log", *LINES), tmp_path / "out")]))
    assert np.isnan(frame[list(simultaneous.COLUMNS)].to_numpy()).all()
    assert available(frame) == ("proxy", "l2")

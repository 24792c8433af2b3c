"""Sizes for all images at once are those of a certificate with alpha divided by their number."""

from dataclasses import replace

import numpy as np
import pytest

from rddrs_dist import cli
from rddrs_dist.analysis.lines import available, read_lines
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower

from .making import logged


def test_every_row_has_what_its_count_gives_at_its_share_of_alpha(original):
    for line in read_lines([original.folder], simultaneous=True):
        tests = line.source.config["sequential_tests"]
        assert tests > 1
        for row in line.rows.to_dict("records"):
            level = row["alpha"] / tests / len(line)
            radius = normal_quantile_lower(clopper_pearson_lower(row["count"], row["n"], level))
            wanted = np.fmin(radius, row["radius_limit"]) if row["prediction"] >= 0 else 0.0
            assert row["simultaneous_radius"] == pytest.approx(wanted, rel=1e-12, abs=0)
            for size, axis in (("l2", "min_axis"), ("proxy", "mean_axis")):
                exact = row["simultaneous_radius"] * row[axis]
                assert 0 <= exact - row[f"simultaneous_{size}_radius"] <= 1e-12
                assert row[f"simultaneous_{size}_radius"] <= row[f"{size}_radius"]
        certified = line.rows.loc[~line.abstained]
        held = certified["radius"] == certified["radius_limit"]
        assert (certified["simultaneous_radius"] < certified["radius"])[~held].all()


def test_a_limit_stays_one(original):
    lines = read_lines([original.folder])

    def radii(limit: float) -> np.ndarray:
        limited = [replace(one, rows=one.rows.assign(radius_limit=limit)) for one in lines]
        found = [one.with_simultaneous() for one in limited]
        return np.concatenate([one.rows["simultaneous_radius"] for one in found])

    assert (radii(np.nan) > 0.5).any()
    assert np.array_equal(radii(0.5), radii(np.nan).clip(max=0.5))


def test_it_is_drawn_on_request_alone(original, capsys, tmp_path):
    assert "simultaneous" not in available(read_lines([original.folder]))
    for flags, drawn in (([], False), (["--simultaneous"], True)):
        command = ["curves", str(original.folder), "--out", str(tmp_path), *flags]
        assert cli.main(command) == 0
        assert (tmp_path / "curves-simultaneous.csv").exists() == drawn
        assert ("all images at once" in capsys.readouterr().out) == drawn


def test_a_log_has_none(tmp_path):
    found = read_lines([], simultaneous=True, logs=[logged(tmp_path / "log")])
    assert available(found) == ("l2", "proxy")

"""The scaling trial: its rates of calls that are made up, its extrapolation, and the job, tiny."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scaling_trial

from rddrs_dist import DDRS, RDDRS, RDDRSTR, Ancer, cli
from rddrs_dist.run.local import own_threads

TINY = (
    "--datasets digits --scaled digits --methods rs ancer rddrs_tr --rounds 1 --images 6 "
    "--epochs 4 --samples 100 --n 1000 --n-measured 200 --seconds 0.01 --ancer.steps 9 "
    "--rddrs-tr.sighted-steps 2 --rddrs-tr.compare-samples 100"
)


def rate(actors: int, *calls: tuple[float, float]) -> float:
    """Images per second of calls that begin and end at given times."""
    begins, ends = np.array(calls, dtype=float).T
    return scaling_trial.steady_rate(begins, ends, actors)


def test_the_rate_is_that_of_the_calls_after_the_first_of_each_actor():
    one = [(0, 10), (10, 12), (12, 14)]
    assert rate(1, *one) == 0.5
    # A second actor is ready late. Both are past their first calls from 12 to 14.
    assert rate(2, *one, (9, 11), (11, 14), (14, 15)) == pytest.approx(1 / 2 + 1 / 3)


def test_calls_count_by_their_share_and_gaps_as_lost_time():
    # All are at work from 4 to 10: 3 of the 4 seconds of the second call, 2 of 4 of the last.
    calls = [(0, 3), (3, 7), (8, 12), (0, 4), (4, 10)]
    assert rate(2, *calls) == pytest.approx((0.75 + 0.5 + 1) / 6)


def test_actors_that_are_never_all_at_work_have_no_rate():
    with pytest.raises(ValueError, match="in which all of 2 actors are at work"):
        rate(2, (0, 1), (1, 2), (2, 3))
    with pytest.raises(ValueError, match="2 images leave no time"):
        rate(2, (0, 1), (0, 1))


def test_published_settings_are_cut_down_and_made_whole_again():
    for method, factor in ((DDRS(), 75), (Ancer(), 10), (RDDRS(), 200)):
        short, found, _ = scaling_trial.shortened(method, 2000)
        assert found == factor and short.steps < method.steps
    assert scaling_trial.shortened(RDDRSTR(), 2000) == (RDDRSTR(), 1.0, 0)


@pytest.mark.ray
def test_the_job_measures_and_draws(tmp_path: Path):
    with own_threads():
        assert scaling_trial.main([*TINY.split(), "--out", str(tmp_path)]) == cli.COMPLETE
    blocks = pd.read_csv(tmp_path / "scaling-actors.csv")
    assert blocks["actors"].tolist() == [1, 2]
    assert blocks["efficiency"][0] == 1 and blocks["efficiency"][1] > 0
    table = pd.read_csv(tmp_path / "scaling.csv")
    assert table["method"].tolist() == ["rs", "ancer", "rddrs_tr"]
    phases = table[["fit_seconds", "sample_seconds", "sizes_seconds", "neighbours_seconds"]]
    assert (phases > 0).all(axis=None)
    assert table["seconds"].to_numpy() == pytest.approx(phases.sum(axis=1).to_numpy())
    assert table["cifar10_hours"].isna().all()  # it was not measured
    assert (tmp_path / "scaling.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--actors 1 1", "--actors must be different numbers"),
        ("--images 1", "--images at least 2, got 3 and 1"),
        ("--methods best", "unknown method 'best'"),
        ("--out here", "--out of a job must be an absolute path, got here"),
    ],
)
def test_a_trial_that_cannot_be_meant_is_refused(
    flags: str,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert scaling_trial.main(["--out", str(tmp_path / "out"), *flags.split()]) == cli.WRONG
    assert complaint in capsys.readouterr().err

"""Figure 2: one run per network, one figure of them all, and what all images would cost."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from rddrs_dist import cli
from rddrs_dist.results.schema import table
from rddrs_dist.run.config import RDDRS, Run, Settings
from tests.results.rows import row

sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))
import figure2

# The settings of tests/small_run.py.
FLAGS = [
    *("--dataset", "digits", "--indices", "0:240:40", "--n", "300", "--alpha", "0.01"),
    *("--looks", "3", "--shard-size", "2", "--save-scales", "--ddrs.steps", "20"),
    *("--ddrs.candidate-every", "10", "--ancer.learning-rates", "0.04", "--ancer.steps", "20"),
    *("--rddrs.step-lengths", "1.0", "--rddrs.steps", "3", "--rddrs.gradient-samples", "100"),
    *("--rddrs-tr.steps", "3", "--rddrs-tr.samples", "500", "--rddrs-tr.compare-samples", "200"),
]


def test_runs_that_are_there_are_drawn_and_not_done_again(original, tmp_path, capsys):
    networks = [tmp_path / f"{name}.safetensors" for name in ("a", "b")]
    for path in networks:
        shutil.copy(original.checkpoint, path)
    shutil.copytree(original.folder, tmp_path / "out" / "a")
    # One network, as one sigma has room for one only.
    flags = ["--checkpoints", str(networks[0]), "--out", str(tmp_path / "out")]
    assert figure2.main([*flags, *FLAGS]) == cli.COMPLETE
    told = capsys.readouterr().out
    assert "core hours of all 10,000 images" in told
    figures = tmp_path / "out" / "figure2"
    assert (figures / "curves-proxy.png").exists()
    assert (figures / "full-size.txt").read_text() in told


def test_each_network_gets_its_sigma_and_its_folder():
    made = figure2.panels([Path("a.pth"), Path("b.pth")], [0.12, 0.5], Path("out"))
    assert [panel.out for panel in made] == [Path("out/sigma-0.12"), Path("out/sigma-0.5")]
    command = made[1].command(["--n", "7"])
    assert command[:4] == ["certify", "paper-mnist", "--n", "7"]
    assert "--resume" in command and command[-2:] == ["--sigma", "0.5"]
    own = figure2.panels([Path("x/a.pth")], [], Path("out"))
    assert own[0].out == Path("out/a") and "--sigma" not in own[0].command([])


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["a.pth", "b.pth", "--sigmas", "0.5"], "one number per checkpoint"),
        (["x/a.pth", "y/a.pth"], "folders of their own"),
        (["a.pth", "--n", "none"], "--n"),
        (["absent.pth", "--dataset", "digits"], "absent.pth"),
    ],
)
def test_wrong_flags(capsys, tmp_path, flags, text):
    try:
        code = figure2.main(["--out", str(tmp_path), "--checkpoints", *flags])
    except SystemExit as stop:  # flags that do not parse at all
        code = stop.code
    assert code == cli.WRONG and text in capsys.readouterr().err


def test_predicted_hours_scale_with_samples_and_images():
    rows = [row(k, "rddrs", fit_seconds=2.0 + k, certify_seconds=1.0) for k in range(2)]
    rows += [row(0, "rs", fit_seconds=0.0, certify_seconds=3.0)]
    short = RDDRS(step_lengths=(0.5,), steps=10, gradient_samples=100, margin_samples=101)
    run = Run(n=50_000, settings=Settings(rddrs=short))
    found = figure2.predicted_hours(table(rows, {}).to_pandas(), run).set_index("method")
    longer = 2 * 100 * (20_000 + 100) / (10 * 201)
    assert found.loc["rddrs", "fit_hours"] == pytest.approx(10_000 * 2.5 * longer / 3600)
    assert found.loc["rddrs", "certify_hours"] == pytest.approx(10_000 * 2 * 1.0 / 3600)
    assert found.loc["rs"].tolist()[1:] == pytest.approx([0.0, 10_000 * 2 * 3.0 / 3600])
    assert isinstance(found, pd.DataFrame)
    assert "in all " in figure2.as_text(found.reset_index())

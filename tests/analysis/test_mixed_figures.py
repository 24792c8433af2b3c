"""Runs and logs of other projects in one figure, and what a log alone cannot give."""

import math

import pandas as pd
import pytest

from rddrs_dist.analysis import plots, status, tables
from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.curves import curves, to_frame
from rddrs_dist.analysis.logs.marks import marks
from rddrs_dist.analysis.sizes import available
from rddrs_dist.analysis.styles import looks, style
from rddrs_dist.results import files as parts
from rddrs_dist.results import read, read_many
from rddrs_dist.results.store import Store
from rddrs_dist.verify import verify

from .logs import LINES, log, run, take
from .rows import row, sized


def legend(figure) -> list[str]:
    """The names in the legend of a figure."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture
def mixed(tmp_path) -> pd.DataFrame:
    """A run and a log of the same images."""
    ours = run(tmp_path / "run", sized([1.5, 1.0, -1.0]), weights_sha256="w", data_sha256="d")
    lines = ["0 3 3 0.9 1 1.0", "1 3 -1 0.0 0 1.0", "2 3 3 0.4 1 1.0"]
    return read_many([ours, take(log(tmp_path / "log", *lines), tmp_path / "out", n=500)])


def test_a_run_and_a_log_draw_together_and_the_figure_says_rounded(mixed, tmp_path):
    assert available(mixed) == ("proxy", "capped", "l2")
    figure = plots.draw(mixed, ["l2"])
    assert len(figure.axes[0].lines) == 2
    assert legend(figure) == ["RS", "cohen (rounded)"]
    told = caption(mixed, metrics=["l2"])
    assert "Radii of cohen are those of a log, rounded to 3 significant digits there" in told
    assert "its network is not known" in told and "No " not in told
    assert "n₀ = 100, n = 500, 1,000, α = 0.001; " in told and "unknown" not in told
    assert "Not known of cohen: n₀, α." in told
    names = {path.stem for path in plots.write(mixed, tmp_path / "figures")}
    assert names == {"curves-proxy", "curves-capped", "curves-l2"}


def test_a_metric_that_a_log_lacks_leaves_its_line_out(mixed):
    assert set(to_frame(curves(mixed, "capped"))["method"]) == {"rs"}
    assert legend(plots.draw(mixed, ["capped"])) == ["RS"]
    told = caption(mixed, metrics=["capped"])
    assert "No capped proxy radius is known of cohen." in told and "rounded" not in told
    rs, cohen = tables.summary(mixed).to_dict("records")
    assert rs["capped@0"] == pytest.approx(2 / 3) and math.isnan(cohen["capped@0"])
    assert cohen["proxy@0.5"] == pytest.approx(1 / 3)
    _, capped, _ = tables.to_text(tables.summary(mixed)).strip().split("\n\n")
    assert capped.splitlines()[-1].split()[:7] == ["0.5", "cohen", "3", "1", "-", "-", "-"]
    with pytest.raises(ValueError, match="no log of the figure has capped"):
        plots.draw(mixed.loc[mixed["method"] == "cohen"], ["capped"])


def test_a_panel_in_which_no_line_has_the_metric_is_empty(tmp_path):
    ours = run(tmp_path / "run", [row(0)])
    theirs = take(log(tmp_path / "log", "0 3 3 0.9 1 1.0"), tmp_path / "out", sigma=0.25)
    figure = plots.draw(read_many([ours, theirs]), ["capped"])
    assert [len(ax.lines) for ax in figure.axes] == [0, 1]
    assert [ax.get_title() for ax in figure.axes] == [r"$\sigma = 0.25$", r"$\sigma = 0.5$"]


@pytest.mark.parametrize(
    ("lines", "changes", "told"),
    [
        (["0 3 3 0.9 1 1.0"], {"dataset": "mnist"}, "run is of digits .* is of mnist; draw them"),
        (["0 3 3 0.9 1 1.0"], {"dataset": None}, r"unnamed data \(name it with --dataset\)"),
        (["0 4 4 0.9 1 1.0"], {}, "one label for each image, got for image 0 .* another split"),
        (["1 3 3 0.9 1 1.0"], {}, "must be over the same images"),
    ],
)
def test_a_log_of_other_data_is_not_drawn_beside_a_run(tmp_path, lines, changes, told):
    ours = run(tmp_path / "run", [row(0)])
    with pytest.raises(ValueError, match=told):
        read_many([ours, take(log(tmp_path / "log", *lines), tmp_path / "out", **changes)])


def test_the_common_images_of_a_run_and_a_log_are_drawn_where_asked_for(tmp_path):
    ours = run(tmp_path / "run", [row(0), row(7), row(8)])
    theirs = take(log(tmp_path / "log", *LINES), tmp_path / "out")
    frame = read_many([ours, theirs], common=True)
    assert frame.groupby("method")["index"].agg(list).to_dict() == {"cohen": [0, 7], "rs": [0, 7]}


def test_runs_of_different_networks_are_not_drawn_together(tmp_path):
    one = run(tmp_path / "a", [row(0)], weights_sha256="abc")
    same = run(tmp_path / "b", [row(0, "ddrs")], run_id="two", weights_sha256="abc")
    other = run(tmp_path / "c", [row(0, "ancer")], run_id="three", weights_sha256="def")
    apart = run(tmp_path / "d", [row(0, sigma=1.0)], run_id="four", weights_sha256="def")
    assert len(read_many([one, same, apart])) == 3
    with pytest.raises(ValueError, match=r"at sigma 0.5 .* one network.*a has abc, .*c has def"):
        read_many([one, same, other])


def test_a_network_on_rounded_pixels_is_another_classifier(tmp_path):
    plain = run(tmp_path / "a", [row(0)], weights_sha256="abc")
    rounded = run(tmp_path / "b", [row(0, "ddrs")], "two", {"levels": 255}, weights_sha256="abc")
    with pytest.raises(ValueError, match=r"a has abc, .*b has abc on pixels rounded to 1/255"):
        read_many([plain, rounded])


def test_a_network_in_tf32_is_another_classifier(tmp_path):
    plain = run(tmp_path / "a", [row(0)], weights_sha256="abc")
    shorter = run(
        tmp_path / "b", [row(0, "ddrs")], "two", {"precision": "tf32"}, weights_sha256="abc"
    )
    with pytest.raises(ValueError, match=r"a has abc, .*b has abc in TF32"):
        read_many([plain, shorter])


def test_several_files_are_rounded_as_soon_as_one_is(tmp_path):
    exact = log(tmp_path / "exact", "0 3 3 0.9531234567890123 1 0:00:01")
    rounded = log(tmp_path / "rounded", "7 3 3 0.953 1 0:00:01")
    frame = read(take([exact, rounded], tmp_path / "out"))
    assert [mark.name for mark in marks(frame).values()] == ["cohen (rounded)"]
    alone = read(take(exact, tmp_path / "one"))
    assert [mark.name for mark in marks(alone).values()] == ["cohen (log)"]


def test_what_a_log_cannot_give_is_refused_and_its_status_is_told(tmp_path):
    out = take(log(tmp_path / "log", *LINES), tmp_path / "out")
    told = status.status(out, 0.0)
    assert told.startswith("imported log, complete: 3/3 images\nRadii of cohen")
    assert "nan" not in told and "None" not in told
    with pytest.raises(ValueError, match="nothing in it can be verified"):
        verify(out)
    with pytest.raises(ValueError, match="holds an imported log, which no run can continue"):
        Store.open(out, run_id="one", config={}, metadata={}, resume=True)
    with pytest.raises(ValueError, match="new or an empty folder"):
        take(tmp_path / "log", out)
    (out / parts.CONFIG).unlink()
    with pytest.raises(ValueError, match="holds an imported log"):
        Store.open(out, run_id="one", config={}, metadata={}, resume=True)


def test_logs_of_one_figure_have_styles_of_their_own_and_one_sentence(tmp_path):
    names = [f"log{k}" for k in range(5)]
    assert len({style(name) for name in names}) < 5
    found = looks({name: name for name in ["rs", *names]})
    assert len({(one.color, str(one.dashes)) for one in found.values()}) == 6
    path = log(tmp_path / "log", *LINES)
    frame = read_many([take(path, tmp_path / name, name=name) for name in names[:3]])
    assert "Radii of log0, log1 and log2 are those of logs, rounded" in caption(frame)

"""The figure: what it draws, what it says, and that it is the same every time."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rddrs_dist.analysis import plots
from rddrs_dist.analysis.captions import caption
from rddrs_dist.analysis.lines import Line
from rddrs_dist.methods import METHODS
from tests.results.rows import abstention, row, sized

from .making import lines


def example(
    sigmas=(0.25, 0.5), methods=("rddrs", "rs"), images=40, tail=0.3, **about
) -> list[Line]:
    """Makes runs in which rs ends at once and every other method has a lognormal tail."""
    rng = np.random.default_rng(0)
    rows = []
    for sigma in sigmas:
        for method in methods:
            spread = 0.0 if method == "rs" else tail
            sizes = 3 * sigma * rng.lognormal(spread, spread, images)
            rows += sized(np.where(rng.random(images) < 0.1, -1, sizes), method, sigma=sigma)
    return lines(rows, **about)


def test_figures_need_no_pyplot():
    """It would keep them all, and choose a window. Who imports matplotlib at all is a contract."""
    code = "import sys; from rddrs_dist.analysis import plots; "
    code += "print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_have_their_names_and_the_same_rows_give_the_same_bytes(tmp_path):
    drawn = example(sigmas=(0.5,), methods=("rs",))
    first, second = (plots.write(drawn, tmp_path / name, ["proxy", "l2"]) for name in "ab")
    stems = ("curves-proxy", "curves-l2", "p-lower")
    names = [stem + end for stem in stems for end in (".png", ".svg", ".csv")]
    assert [path.name for path in first] == names
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].read_bytes().startswith(b"\x89PNG")


def test_the_disjoint_figure_has_what_was_before_as_thin_lines():
    both = example(sigmas=(0.5,))
    halved = [one.rows.assign(disjoint_proxy_radius=one.rows["proxy_radius"] / 2) for one in both]
    after = [replace(one, rows=rows) for one, rows in zip(both, halved, strict=True)]
    (axes,) = plots.draw(after, "disjoint").axes
    assert axes.get_xlabel() == "Proxy radius $R$ of the disjoint region (thin: before)"
    reach = {width: [] for width in (0.6, 1.4)}
    for line in axes.get_lines():
        reach[line.get_linewidth()].append(line.get_xdata()[-2])
    assert len(reach[0.6]) == 2
    assert sorted(reach[1.4]) == pytest.approx([before / 2 for before in sorted(reach[0.6])])


def test_the_csv_holds_the_curve_at_full_precision(tmp_path):
    (line,) = example(sigmas=(0.5,), methods=("rddrs",))
    path = plots.write([line], tmp_path, ["proxy"])[2]
    with path.open(newline="") as file:
        made = list(csv.DictReader(file))
    assert list(made[0]) == ["metric", "sigma", "method", "images", "radius", "accuracy", "lower"]
    right = line.rows["proxy_radius"][line.right]
    assert float(made[-2]["radius"]) == right.max()
    assert {(one["method"], one["images"]) for one in made} == {("rddrs", "40")}
    assert float(made[0]["accuracy"]) == len(right) / 40


def test_one_panel_per_sigma_and_one_line_and_band_per_method():
    figure = plots.draw(example(methods=("rddrs", "rs", "ancer")), "l2")
    assert len(figure.axes) == 2
    for ax in figure.axes:
        assert len(ax.lines) == 3 and len(ax.collections) == 3
        assert all(line.get_drawstyle() == "steps-pre" for line in ax.lines)
    assert [ax.get_xlabel() for ax in figure.axes] == [r"$\ell_2$ radius"] * 2
    assert [ax.get_ylabel() for ax in figure.axes] == ["Certified accuracy", ""]
    assert "0.25" in figure.axes[0].get_title() and "0.5" in figure.axes[1].get_title()


def test_colours_belong_to_methods_and_the_legend_keeps_their_order():
    both, alone = plots.draw(example()), plots.draw(example(methods=("rddrs",)))
    assert [text.get_text() for text in both.legends[0].get_texts()] == ["RS", "RDDRS"]
    assert both.axes[0].lines[1].get_color() == alone.axes[0].lines[0].get_color()
    own = METHODS.values()
    assert len({to_hex(one.colour) for one in own}) == len({str(one.dashes) for one in own}) == 7


def spread(tail: float) -> tuple[np.ndarray, float, str]:
    """Draws rs beside an rddrs of that tail: its certified sizes, the axis end, the caption."""
    both = example(sigmas=(0.5,), images=200, tail=tail)
    figure = plots.draw(both)
    sizes = both[1].column("proxy_radius")[both[1].right]
    told = figure.texts[0].get_text().replace("\n", " ")
    return sizes, figure.axes[0].get_xlim()[1], told


@pytest.mark.parametrize("tail", [1.0, 3.0])
def test_a_heavy_tail_is_cut_and_the_caption_says_how_much(tail):
    sizes, end, told = spread(tail)
    assert end <= 10 * 1.5 + 1e-9  # rs ends at 1.5
    found = re.search(r"RDDRS at .* \((.*)% of its images, up to (.*?)\)", told)
    assert found, told
    share, reach = found.groups()
    assert float(share) == pytest.approx(100 * (sizes > end).sum() / 200, abs=0.05)
    assert sizes.max() - 1 < float(reach.replace(",", "")) <= sizes.max()
    assert "less than 5% of the images of every other method" in told


def test_a_light_tail_is_shown_whole():
    sizes, end, told = spread(0.05)
    assert end > sizes.max() and end > 1.5 and "Axes are cut" not in told


def test_the_caption_tells_data_noise_budget_images_and_band_and_what_is_missing():
    told = caption(example())
    assert told.startswith("Data set: digits; σ = 0.25, 0.5; n₀ = 100, n = 1,000, α = 0.001; 40 ")
    assert "pointwise one-sided 95% Clopper–Pearson lower bound" in told
    assert "not complete" not in told and "TF32" not in told
    first, *others = example(complete=False, config={"precision": "tf32"})
    told = caption([replace(first, rows=first.rows[2:], common=True), *others])
    assert "Run not complete." in told and "Only images that every method has." in told
    assert "38 to 40 images per curve" in told and "The network multiplies in TF32." in told


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="got the file"):
        plots.write(example(), tmp_path / "file")


def test_one_image_and_a_dollar_sign_in_a_name_do_not_break_the_figure(tmp_path):
    config = {"dataset": "cheap$ and $cheerful_"}
    named = example(sigmas=(0.25,), images=1, config=config)
    assert plots.write(named, tmp_path, ["l2"])


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([7], "1 image (7)"),
        ([0, 5, 6], "3 images (0, 5, 6)"),
        (range(4), "4 images (0 to 3)"),
        (range(0, 10_000, 1000), "10 images (0 to 9,000 in steps of 1,000)"),
        ([0, 1, 2, 9], "4 images."),
    ],
)
def test_the_caption_names_the_very_images(indices, text):
    rows = [row(k, method) for k in indices for method in ("rs", "ddrs")]
    assert text in caption(lines(rows))


def test_the_caption_tells_the_range_of_n_where_images_stopped_at_sequential_tests():
    rows = [row(k, n=n) for k, n in enumerate((1250, 2500, 5000, 10_000))]
    assert "n = 1,250 to 10,000, α" in caption(lines(rows))


def test_the_caption_names_settings_that_are_not_the_default():
    usual = {name: json.loads(json.dumps(vars(METHODS[name]()))) for name in ("rddrs", "ancer")}
    drawn = lines([row(0, "rddrs"), row(0, "ancer")], config={"settings": usual})
    assert "Not at" not in caption(drawn)
    usual["rddrs"] |= {"gradient_samples": 1000, "step_lengths": [0.25]}
    usual["ddrs"] = {"steps": 7}  # not drawn
    wanted = "default setting: rddrs.gradient_samples = 1000, rddrs.step_lengths = 0.25."
    assert wanted in caption(drawn)


def test_where_nothing_is_certified_the_panel_says_so_on_a_plain_axis():
    nothing = lines([abstention(k) for k in range(3)])
    (ax,) = plots.draw(nothing).axes
    assert [text.get_text() for text in ax.texts] == ["nothing certified"]
    assert ax.get_xlim() == (0, 1)

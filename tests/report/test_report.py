"""The page: what is in it is true, it fetches nothing, and it stays small."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from rddrs_dist import cli
from rddrs_dist.analysis.curves import certified_accuracy
from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.analysis.logs import read_logs
from rddrs_dist.analysis.sizes import SIZES
from rddrs_dist.report import charts, facts
from rddrs_dist.report.gallery import gallery
from rddrs_dist.report.page import render
from rddrs_dist.results import disjoint, files, read
from tests.analysis.making import lines, log
from tests.results.rows import abstention, row, sized

# Sizes of rows without aim.
SHOWN = [one.name for one in SIZES.values() if one.default and one.name != "aim"]
METHODS = ("rs", "ddrs", "ancer", "rddrs", "rddrs_tr", "mine")


def figures(page: str) -> list[dict]:
    """The figures in a page."""
    (text,) = re.findall(
        r'<script type="application/json" id="figures">(.*?)</script>', page, re.S
    )
    return json.loads(text)


def numbers(stored) -> np.ndarray:
    """An array as plotly stores it."""
    if isinstance(stored, list):
        return np.array(stored)
    flat = np.frombuffer(base64.b64decode(stored["bdata"]), stored["dtype"])
    return flat.reshape([int(n) for n in str(stored.get("shape", len(flat))).split(",")])


class Sources(HTMLParser):
    """Collects whatever a page could fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


@pytest.fixture(scope="module")
def sizes() -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 1.5, 700)


@pytest.fixture(scope="module")
def page(sizes) -> str:
    rows = sized(sizes) + sized(np.where(sizes > 1, 2 * sizes, -1), "rddrs_tr")
    return render(lines(rows))


def test_nothing_is_fetched(page):
    sources = Sources()
    sources.feed(page)
    assert sources.found == ["data:,"]
    assert "@import" not in page.split("</style>")[0] and "url(" not in page.split("</style>")[0]


def test_drawn_curves_and_what_is_printed_on_hovering_are_never_above_the_truth(page, sizes):
    truth = lines(sized(sizes))[0].certified("proxy")
    (curve,) = [
        trace
        for trace in figures(page)[SHOWN.index("proxy")]["data"]
        if trace["meta"]["method"] == "rs" and "customdata" in trace
    ]
    radii, drawn = numbers(curve["x"]), numbers(curve["y"])
    counts, shares, below = numbers(curve["customdata"]).T
    printed = np.array([float(f"{radius:.4f}") for radius in radii])
    # The step of a radius is drawn to its left: what stands there is certified at least so far.
    assert len(radii) < len(sizes)
    reached = certified_accuracy(truth, printed)
    assert (drawn <= reached + 1e-7).all() and (counts <= np.rint(reached * len(truth))).all()
    assert (np.array([float(f"{one:.1f}") for one in shares]) <= 100 * counts / 700 + 1e-9).all()
    assert (below <= shares).all()
    middle = counts[(radii > 1) & (radii < 4)] / (700 * reached[(radii > 1) & (radii < 4)])
    assert (middle > 0.99).all()


def test_numbers_compete_for_stars_before_flooring():
    rows = [row(0, "rs", proxy_radius=1.00004), row(0, "ddrs", proxy_radius=1.00001)]
    (one,) = (one for one in facts.at_radii(lines(rows)) if one.size == "proxy")
    assert [row["ACR"] for row in one.rows] == ["1.000", "1.000"]
    assert [own["ACR"] for own in one.values] == [1.00004, 1.00001]
    assert [own["@0"] for own in one.values] == [1.0, 1.0]  # both are certified at 0


def test_names_cannot_end_the_script_or_become_markup():
    name = 'runs/</script><img src="http://x/">'
    page = render(lines([row(0, "</script><b>")], config={"dataset": name}), [], [name])
    sources = Sources()
    sources.feed(page)
    assert sources.found == ["data:,"]
    assert figures(page)[0]["data"]


def test_histograms_hold_every_image_once():
    for values in ([1.0], [1e-3, 5.0, 1e6], [3.0, 3.0]):
        rows = [*sized([*values, -1.0]), abstention(len(values) + 1)]
        (proxy,) = (one for one in charts.histogram_charts(lines(rows)) if one.size == "proxy")
        (outline,) = proxy.figure.data
        assert outline.y.tolist()[1] == 2 and sum(outline.y) == len(values) + 2
        bins = proxy.figure.layout.meta["bins"]
        assert bins[0] == "none" and len(bins) == len(outline.y) - 2


def test_histograms_are_outlines_on_an_axis_of_whole_numbers():
    for images in (1, 3, 17, 130):
        rows = sized([1.0] * images) + sized([2.0] * images, "ancer")
        chart = charts.histogram_charts(lines(rows))[0].figure
        assert {trace.line.shape for trace in chart.data} == {"hvh"}
        assert len({trace.line.dash for trace in chart.data}) == 2
        step = chart.layout.yaxis.dtick
        assert step == int(step) >= 1 and 2 <= max(2, images) / step <= max(4, step)


def test_an_unfinished_run_says_so():
    assert "Run not complete: runs/somewhere" in render(lines([row()], complete=False))
    assert "Run not complete:" not in render(lines([row()]))


def test_ten_thousand_images_and_six_methods_stay_below_ten_megabytes():
    drawn = np.random.default_rng(1).gamma(2.0, 1.5, (len(METHODS), 10_000))
    rows = []
    for values, method in zip(drawn, METHODS, strict=True):
        rows += [one | {"label": one["index"] % 10} for one in sized(values, method)]
    more = {name: drawn.ravel() / 2 for name in ("disjoint", "simultaneous")}
    page = render(lines(rows, **{f"{name}_proxy_radius": own for name, own in more.items()}))
    assert re.findall(r'type="radio" name="size" value="(\w+)"', page) == SHOWN
    assert len(page.encode()) < 10e6


def test_the_disjoint_pass_is_told(made, capsys, tmp_path):
    frame = read(made.folder)
    nearest = {0: 40, 40: 0, 80: 0, 120: 160, 160: 120, 200: 80}
    rows = frame[["index", "method"]].assign(
        disjoint_radius=frame["radius"] / 2,
        disjoint_l2_radius=frame["l2_radius"] / 2,
        disjoint_proxy_radius=frame["proxy_radius"] / 2,
        contact_factor=[0.1 + 0.001 * min(k, nearest[k]) for k in frame["index"]],
        nearest_conflict=[nearest[k] for k in frame["index"]],
        witness="conflict",
        disjoint_scale_sha256=frame["scale_sha256"],
        rule="narrow",
    )
    line = {"method": "rddrs_tr", "regions": 5, "pairs": 12345, "conflicts": 7}
    disjoint.write(made.folder, rows, {}, {"rule": "narrow", "methods": [line]})
    assert cli.main(["report", str(made.folder), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<td>12,345</td><td>7</td>" in page and "0.1000" in page
    assert "Disjoint proxy radius" in page
    # Two regions that are nearest to each other are one pair.
    kept = [one for one in read_lines([made.folder]) if one.method in ("rs", "rddrs_tr")]
    _, pairs = facts.conflicts(kept)
    found = [
        (row["method"], *sorted(int(row[name]) for name in ("image", "and image")))
        for row in pairs.rows
    ]
    assert len(found) == len(set(found)) == 8
    assert ("RS", 0, 40) in found and ("RDDRS-TR", 80, 200) in found


def test_the_command_shows_images_and_walks_with_the_network(original, capsys, tmp_path):
    out = tmp_path / "page.html"
    flags = ["--checkpoints", str(original.checkpoint), "--images", "0", "80"]
    assert cli.main(["report", str(original.folder), "--out", str(out), *flags]) == 0
    page = out.read_text()
    assert "image 0, class" in page and "image 80, class" in page and "image 40," not in page
    assert page.count("data:image/png;base64,") >= 2 * 5
    assert "the class stays up to" in page or "the class has changed" in page


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--images", "7"], "images [7] must be among those of"),
        (["--checkpoints", "absent.pth"], "absent.pth"),
        (["--out", "absent/page.html"], "folder that does not exist"),
        (["--out", "RUN/page.html"], "a folder of its own"),
    ],
)
def test_wrong_flags(original, capsys, tmp_path, monkeypatch, flags, text):
    monkeypatch.chdir(tmp_path)
    flags = [flag.replace("RUN", str(original.folder)) for flag in flags]
    code = cli.main(["report", str(original.folder), "--out", "page.html", *flags])
    told = capsys.readouterr().err
    assert code == cli.WRONG and text in told and told.count("\n") == 1
    assert not [*tmp_path.rglob("*.html"), *original.folder.glob("*.html")]


def test_a_folder_without_rows_or_scales(made, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", str(tmp_path / "empty"), "--out", str(tmp_path / "p.html")]) == 2
    assert "got a folder without part-*.parquet" in capsys.readouterr().err
    for path in made.folder.glob("_scales-*"):
        path.unlink()
    (made.folder / files.SUCCESS).unlink()
    assert cli.main(["report", str(made.folder), "--out", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text()
    assert "certify with --save-scales" in page and "Run not complete" in page
    flags = ["--out", str(tmp_path / "q.html"), "--images", "0"]
    assert cli.main(["report", str(made.folder), *flags]) == 2
    assert "--save-scales" in capsys.readouterr().err


def test_printed_semi_axes_and_walks_are_never_above_the_row(original):
    entries, remarks = gallery(read_lines([original.folder]), [0, 40, 80], [original.checkpoint])
    assert not remarks and len(entries) == 3
    rows = read(original.folder).set_index(["index", "method"])
    looked = 0
    for entry, index in zip(entries, (0, 40, 80), strict=True):
        for trace in entry.figure.data:
            if trace.mode != "lines" or not trace.meta:
                continue
            row = rows.loc[(index, trace.meta["method"])]
            printed = [float(text) for text in trace.customdata]
            assert printed[-1] <= row["l2_radius"] * (1 + 1e-12)
            assert printed[-1] >= 0.998 * row["l2_radius"]
            assert printed == sorted(printed, reverse=True)
            looked += 1
    assert looked > 3


def test_a_run_that_is_given_twice_is_shown_once(original, tmp_path):
    other = tmp_path / "copy"
    shutil.copytree(original.folder, other)
    flags = ["--out", str(tmp_path / "page.html"), "--images", "0", "0"]
    assert cli.main(["report", str(original.folder), str(other), *flags]) == 0
    assert (tmp_path / "page.html").read_text().count("<article>") == 1


def test_a_log_beside_a_run_has_no_star_and_asks_for_no_scales(original, capsys, tmp_path):
    rs, out = read_lines([original.folder])[0], tmp_path / "page.html"
    entries = [
        f"{one['index']} {one['label']} {one['prediction']} "
        f"{0.0 if one['prediction'] < 0 else 9.99} {one['correct']:d} 0:00:01"
        for one in rs.rows.to_dict("records")
    ]
    flags = ["--logs", f"theirs@0.5={log(tmp_path / 'log', *entries)}", "--images", "0"]
    assert cli.main(["report", str(original.folder), "--out", str(out), *flags]) == 0
    page = out.read_text()
    assert "theirs (rounded)" in page and "rounded to 3 significant digits" in page
    both = read_lines([original.folder], logs=read_logs(flags[1:2]), sighted=1.0)
    (table,) = (one for one in facts.at_radii(both) if one.size == "proxy")
    assert table.values[0] and not table.values[-1]

"""The command `rddrs inside`, and what the report says of the same."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rddrs_dist import cli, data
from rddrs_dist.analysis import inside
from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.families import FAMILIES
from rddrs_dist.results.scales import Scales
from tests.run.runs import one_line

NAMES = [family.name for family in FAMILIES]


@pytest.fixture(scope="module")
def written(original, tmp_path_factory):
    """The folder that the command writes, all regions counted."""
    out = tmp_path_factory.mktemp("inside") / "new"
    assert cli.main(["inside", str(original.folder), "--out", str(out), "--sighted", "1"]) == 0
    return out


def test_there_is_one_row_per_image_and_method(original, written):
    found = pd.read_csv(written / "inside.csv").set_index(["method", "index"])
    lines = read_lines([original.folder], sighted=1.0)
    assert list(found.columns) == ["sigma", "counted", *NAMES]
    assert len(found) == sum(map(len, lines)) == 42
    stored, images = Scales(original.folder), data.load("digits", "test")
    for line in lines:
        for row, right in zip(line.rows.to_dict("records"), line.right, strict=True):
            own = found.loc[(line.method, row["index"])]
            assert own["counted"] == right and (own[NAMES] > 0).all() == right
            if right:
                noise = stored.noise(line.method, [row["index"]], images.event_shape)
                moved = torch.full((1, 1, 8, 8), own["brightness"], dtype=torch.float64)
                length = noise.mahalanobis(moved).item()
                assert 0.999999 * row["radius"] < length < row["radius"]


def test_medians_are_printed_and_written(original, written, capsys, tmp_path):
    flags = ["--out", str(tmp_path), "--sighted", "1"]
    assert cli.main(["inside", str(original.folder), *flags]) == 0
    printed = capsys.readouterr().out
    table = (written / "inside.md").read_text()
    assert table == (tmp_path / "inside.md").read_text()
    names = "rotation, degrees | shift, pixels | scaling, % | shear, degrees | brightness, pixel"
    assert f"| method | σ | images | counted | {names}" in table
    assert "Proven for all parameters up to the value" in table and "All rows count" in table
    found = pd.read_csv(written / "inside.csv")
    rs = found[found["method"] == "rs"]
    (line,) = (text for text in table.splitlines() if text.startswith("| RS |"))
    cells = [text.strip() for text in line.split("|")[3:-1]]
    assert cells[:2] == ["6", str(rs["counted"].sum())]
    for name, cell in zip(NAMES, cells[2:], strict=True):
        assert rs[name].median() - 0.001 < float(cell) <= rs[name].median()
    assert [text.split()[0] for text in printed.splitlines()[1:8]] == [
        one.label for one in read_lines([original.folder])
    ]


def test_only_right_and_sighted_regions_hold_something(original):
    (line, *_) = read_lines([original.folder])
    upper = np.where(np.arange(len(line)) % 2, 0.01, 0.5)
    line.rows["blindness_upper"] = upper
    line.rows["correct"] = line.rows["index"] != 40
    line.rows["prediction"] = 1
    found = inside.of_lines([line]).set_index("index")
    counted = (upper < 0.05) & (line.rows["index"] != 40).to_numpy()
    assert found["counted"].tolist() == counted.tolist() and counted.any()
    assert ((found[NAMES] > 0).any(axis=1) <= found["counted"]).all()


def test_no_more_images_are_looked_at_than_asked_for(original):
    found = inside.of_lines(read_lines([original.folder]), most=3)
    assert found.groupby("method")["index"].apply(list).tolist() == [[0, 80, 200]] * 7


def test_what_reaches_the_limit_says_so():
    assert inside.told(FAMILIES[0], 45.0) == "≥ 45"
    assert inside.told(FAMILIES[0], 0.1 + 0.2) == "0.3"
    assert inside.told(FAMILIES[4], 0.02999) == "0.029"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ("run", "must be the folder of a run, got no such folder"),
        ("scales", "certify with --save-scales"),
        ("some scales", "no scale of image"),
        ("other scales", "must have sha256"),
        ("images", "must be those that were certified"),
        ("out", "must go to a folder of its own"),
        ("file", "--out must be a folder"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(made, capsys, tmp_path, monkeypatch, spoil, text):
    folder, out = made.folder, tmp_path / "out"
    stored = sorted(folder.glob("_scales-*"))
    if spoil == "run":
        folder = tmp_path / "nowhere"
    elif spoil == "scales":
        for path in stored:
            path.unlink()
    elif spoil == "some scales":
        stored[1].unlink()
    elif spoil == "other scales":
        for path in stored:
            save_file({name: 2 * one for name, one in load_file(path).items()}, path)
    elif spoil == "images":
        other = data.load("digits", "train")
        monkeypatch.setattr(data, "load", lambda *_: other)
    elif spoil == "out":
        out = folder
    else:
        shutil.copy(made.checkpoint, out)
    flags = ["--out", str(out), "--sighted", "1"]
    assert cli.main(["inside", str(folder), *flags]) == cli.WRONG
    assert text in one_line(capsys)
    assert not (out / "inside.csv").exists()


def test_the_report_shows_it(original, tmp_path):
    page = tmp_path / "page.html"
    flags = ["--out", str(page), "--images", "0", "80", "--sighted", "1"]
    assert cli.main(["report", str(original.folder), *flags]) == 0
    text, lines = page.read_text(), read_lines([original.folder], sighted=1.0)
    right = sum(int(line.right[line.rows["index"].isin([0, 80])].sum()) for line in lines)
    assert right and text.count("holds rotation ") == right
    _, section = text.split('<section id="inside">')
    section = section.split("</section>")[0]
    assert section.count("<tr data-method=") == 7 and "contrast, %" in section


def test_the_report_says_why_it_does_not(made, tmp_path):
    for path in made.folder.glob("_scales-*"):
        path.unlink()
    page = tmp_path / "page.html"
    assert cli.main(["report", str(made.folder), "--out", str(page)]) == 0
    section = page.read_text().split('<section id="inside">')[1].split("</section>")[0]
    assert "Not known: " in section and "--save-scales" in section and "<table>" not in section

"""The picture of a report in the README: in true colour, by a rule that `make figures` has."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from rddrs_dist import METHODS, cli

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def job(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "jobs"))
    return importlib.import_module("screenshot")


def test_colours_of_methods_are_those_of_the_page(job, tmp_path, capsys):
    if not any(map(shutil.which, job.BROWSERS)):
        pytest.skip("no browser: install chromium")
    colours = [method.colour for method in METHODS.values()]
    bars = "".join(f"<div style='background:{one};height:30px'></div>" for one in colours)
    page, out = tmp_path / "page.html", tmp_path / "picture.png"
    page.write_text(f"<body style='margin:0'>{bars}")
    flags = [str(page), "--out", str(out), "--width", "500", "--height", "300"]
    assert job.main(flags) == cli.COMPLETE, capsys.readouterr().err
    with Image.open(out) as picture:
        assert picture.mode == "RGB" and picture.size == (500, 300)
        found = [picture.getpixel((250, 15 + 30 * k)) for k in range(5)]
    assert found == [tuple(bytes.fromhex(one[1:])) for one in colours]


def test_without_page_or_browser_one_line_says_so(job, tmp_path, capsys, monkeypatch):
    flags = [str(tmp_path / "absent.html"), "--out", str(tmp_path / "picture.png")]
    assert job.main(flags) == cli.WRONG
    assert "make it with `rddrs report" in capsys.readouterr().err
    (tmp_path / "absent.html").write_text("x")
    monkeypatch.setattr(job, "BROWSERS", ("no-such-browser",))
    assert job.main(flags) == cli.WRONG
    told = capsys.readouterr().err
    assert "a browser is wanted" in told and told.count("\n") == 1


def test_every_picture_of_the_documentation_is_made_by_make_figures(tmp_path):
    if not shutil.which("make"):
        pytest.skip("no make")
    (tmp_path / "test-00000.parquet").touch()
    command = ["make", "-n", "figures", "NETWORKS=networks", f"CIFAR={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/results.md"))
    found = re.findall(r"!\[[^]]*\]\((?:docs/)?(figures/[^)]*)\)", text)
    pictures = {f"docs/{one}" for one in found}
    assert len(pictures) > 4
    for one in pictures:
        targets = (one, str(Path(one).parent))
        assert any(f" {target}" in done.stdout for target in targets), one
    assert f"cifar10 --cifar-parquet {tmp_path}" in done.stdout
    without = subprocess.run(command[:-1], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "cp runs/scaling" not in without.stdout
    with Image.open(ROOT / "docs/figures/report.png") as picture:
        assert picture.mode == "RGB"

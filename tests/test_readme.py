"""What the README and the examples in docstrings say, done."""

import doctest
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from rddrs_dist.run.options import PRESETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_library_example_runs_and_certifies(capsys):
    (block,) = re.findall(r"```python\n# README example\n(.*?)```", README, re.S)
    scope: dict = {}
    exec(block, scope)
    certificate = scope["certificate"]
    assert 0 < certificate.region.l2_radius[0] <= certificate.region.proxy_radius[0]
    assert str(certificate.region.prediction) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["certify", "disjoint.classifier", "region", "run.experiment"])
def test_examples_of_a_module_print_what_they_say(name: str):
    found = doctest.testmod(import_module(f"rddrs_dist.{name}"))
    assert found.attempted > 0 and found.failed == 0


def test_every_picture_of_the_documentation_is_made_by_make_figures(tmp_path):
    if not shutil.which("make"):
        pytest.skip("no make")
    (tmp_path / "test-00000.parquet").touch()
    command = ["make", "-n", "figures", "NETWORKS=networks", f"CIFAR={tmp_path}"]
    with_cifar, without = (
        subprocess.run(one, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for one in (command, command[:-1])
    )
    text = README + (ROOT / "docs/results.md").read_text()
    pictures = set(re.findall(r"!\[[^]]*\]\((?:docs/)?(figures/[^)]*)\)", text))
    assert len(pictures) > 4
    for one in pictures:
        assert re.search(rf"[ =]docs/({one}|{Path(one).parent})\s", with_cifar), one
    assert f"cifar10 --cifar-parquet {tmp_path}" in with_cifar
    assert "cp runs/scaling" not in without


def test_links_and_figures_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), target


def test_presets_and_the_documented_table_of_columns_are_named():
    for name in (*PRESETS, "docs/columns.md"):
        assert name in README

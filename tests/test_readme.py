"""What the README says, done."""

import re
from pathlib import Path

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


def test_links_and_figures_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), target


def test_presets_and_the_documented_table_of_columns_are_named():
    for name in (*PRESETS, "docs/columns.md"):
        assert name in README

"""What the README says, done."""

import re
from pathlib import Path

from rddrs_dist.results.columns import SCHEMA
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


def test_every_column_is_explained():
    columns = (ROOT / "docs/columns.md").read_text()
    table = columns.split("| column | meaning | unit |")[1].split("\n\n")[0]
    named = re.findall(
        r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])
    )
    assert named == SCHEMA.names


def test_links_and_figures_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), target


def test_presets_are_named():
    for name in PRESETS:
        assert name in README

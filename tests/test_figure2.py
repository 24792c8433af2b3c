"""Figure 2: one run per network, one figure of them all, and what all images would cost."""

import re
import shlex
import shutil
from pathlib import Path

import figure2
import pytest

from rddrs_dist import RDDRS, cli
from rddrs_dist.results.columns import table
from rddrs_dist.run.options import Run, settings_of
from tests.results.rows import row
from tests.run.runs import one_line
from tests.small_run import RUN


def chosen(**fields: tuple[str, ...]) -> list[str]:
    """Flags of fields of methods, as tests/small_run.py has them."""
    return [
        text
        for name, own in fields.items()
        for field in own
        for text in (f"--{name}.{field}", str(getattr(RUN.method(name), field)))
    ]


# The settings of tests/small_run.py.
FLAGS = [
    *("--dataset", "digits", "--indices", "0:240:40", "--seed", "1"),
    *("--n", "300", "--alpha", "0.01", "--sequential-tests", "3", "--tolerance", "0.33"),
    *("--shard-size", "2", "--save-scales"),
    *("--ancer.learning-rates", "0.04", "--rddrs.step-lengths", "1.0"),
    *chosen(
        ddrs=("steps", "candidate_every"),
        ancer=("steps",),
        rddrs=("steps", "gradient_samples"),
        rddrs_tr=("sighted_steps", "samples", "start_samples", "compare_samples"),
        urs=("steps", "samples", "start_samples"),
        aim=("rotation", "shift", "trials", "samples", "sight_samples"),
    ),
]


def test_runs_that_are_there_are_drawn_and_not_done_again(original, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(original.folder, out / "sigma-0.5")
    # One network, which says its sigma.
    flags = ["--checkpoints", str(original.checkpoint), "--out", str(out), *FLAGS]
    assert figure2.main(flags) == cli.COMPLETE
    told = capsys.readouterr().out
    assert "core hours of all 10,000 images" in told
    assert (out / "figure2" / "curves-proxy.png").exists()
    text = (out / "figure2" / "full-size.txt").read_text()
    assert text in told
    command = f"python jobs/figure2.py --checkpoints {original.checkpoint} --out {out}-full"
    kept = "--dataset digits --seed 1 --alpha 0.01 --shard-size 2 --save-scales"
    assert text.splitlines()[0] == f"{command} {kept}"


def panels(out, *flags):
    return figure2.panels(*figure2.options(["--out", str(out), "--checkpoints", *flags]))


def test_each_network_gets_its_sigma_and_its_folder(original):
    made = panels("out", "a.pth", "b.pth", "--sigmas", "0.12", "0.5", "--n", "7")
    assert list(made) == [Path("out/sigma-0.12"), Path("out/sigma-0.5")]
    command = made[Path("out/sigma-0.5")]
    assert command[:4] == ["certify", "paper-mnist", "--n", "7"] and "--resume" in command
    assert command[command.index("--sigma") + 1] == "0.5"
    assert list(panels("out", str(original.checkpoint))) == [Path("out/sigma-0.5")]
    with pytest.raises(ValueError, match="a sigma of its own, got 0.5, 0.5"):
        panels("out", *[str(original.checkpoint)] * 2)


def test_the_full_size_command_is_the_one_of_the_documentation():
    root = Path(__file__).parents[1]
    page = (root / "docs/results.md").read_text().replace(" \\\n   ", "")
    (given,) = re.findall(r"^python (jobs/figure2\.py .*--indices .*)$", page, re.M)
    wanted = figure2.full_size(*figure2.options(shlex.split(given)[1:]))
    assert (root / "docs/figures/figure2/full-size.txt").read_text().startswith(wanted + "\n")
    assert wanted in page and "--indices" not in wanted and "--rddrs." not in wanted


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["a.pth", "b.pth", "--sigmas", "0.5"], "one number per checkpoint"),
        (["a.pth", "b.pth", "--sigmas", "0.5", "0.5"], "a sigma of its own"),
        (["a.pth", "--sigmas", "0.5", "--n", "none"], "--n"),
        (["absent.pth"], "absent.pth"),
        (["absent.pth", "--sigmas", "0.5", "--dataset", "digits"], "absent.pth"),
    ],
)
def test_wrong_flags(capsys, tmp_path, flags, text):
    assert figure2.main(["--out", str(tmp_path), "--checkpoints", *flags]) == cli.WRONG
    assert text in one_line(capsys)


def test_predicted_hours_scale_with_samples_and_images():
    rows = [
        row(k, "rddrs", fit_seconds=2.0 + k, certify_seconds=1.0, n=n)
        for k, n in enumerate((25_000, 75_000))  # the second stopped later
    ]
    rows += [row(0, "rs", fit_seconds=0.0, certify_seconds=3.0, n=50_000)]
    short = RDDRS(step_lengths=(0.5,), steps=10, gradient_samples=100, margin_samples=101)
    run = Run(settings=settings_of(short))
    found = figure2.predicted_hours(table(rows, {}).to_pandas(), run).set_index("method")
    longer = 2 * 100 * (20_000 + 100) / (10 * 201)
    assert found.loc["rddrs", "fit_hours"] == pytest.approx(10_000 * 2.5 * longer / 3600)
    assert found.loc["rddrs", "certify_hours"] == pytest.approx(10_000 * 2 * 1.0 / 3600)
    assert found.loc["rs"].tolist()[1:] == pytest.approx([0.0, 10_000 * 2 * 3.0 / 3600])
    assert "in all " in figure2.as_text(found.reset_index())

"""The command line: presets, and one clear line with exit code 2 for every mistake."""

import io
from pathlib import Path

import pytest

from rddrs_dist import checkpoints, cli, data
from rddrs_dist.run.experiment import Execution
from rddrs_dist.run.options import PRESETS, Run
from tests.run.runs import one_line

RUN = Path(__file__).parent / "recorded" / "run-0.7.0"
NETWORK = RUN.parent / "digits-lenet-0.25.safetensors"
DIGITS = ["--dataset", "digits", "--indices", "0:2", "--n", "100", "--methods", "rs"]


def _refusal(capsys, *arguments: str | Path) -> str:
    """The one line that a wrong command prints; nothing else, and exit code 2."""
    assert cli.main([str(argument) for argument in arguments]) == cli.WRONG
    return one_line(capsys)


@pytest.fixture
def command(tmp_path) -> list[str | Path]:
    """A command that is right."""
    return ["certify", *DIGITS, "--checkpoint", NETWORK, "--out", tmp_path / "run"]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--methods", "rs", "magic"], "unknown method 'magic': choose from rs, ddrs"),
        (["--dataset", "imagenet"], "unknown dataset 'imagenet': wanted one of digits, mnist"),
        (["--indices", "0:300"], "the data set has 257 images"),
        (["--methods"], "got none: choose from rs, ddrs"),
        (["--n", "5"], "--n = 5 can never certify"),
        (["--sequential-tests", "0"], "--sequential-tests must be at least 1"),
        (["--rddrs-tr.decay", "2"], "--rddrs-tr.decay must be between 0 and 1, got 2.0"),
        (["--data-root", "/nowhere", "--dataset", "mnist"], "--data-root or RDDRS_DATA, or fetch"),
        (["--checkpoint", "/nowhere/none"], "no checkpoint file"),
    ],
)
def test_wrong_flags(capsys, tmp_path, command, flags, text):
    assert text in _refusal(capsys, *command, *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["certify", "slow"], "unknown preset 'slow' of certify: choose from quickstart"),
        (["train", "slow"], "unknown preset 'slow' of train: choose from quickstart"),
        (["certify", "--out", "o"], "--checkpoint is required"),
        (["certify", "--checkpoint", "c"], "--out is required"),
        (["train"], "--out is required"),
        (["curves", "nowhere", "--out", "f"], "nowhere must be the folder of a run, got no such"),
        (["status", __file__], "must be the folder of a run, got a file"),
        (["novel"], "unknown command 'novel': choose from train, certify"),
        ([], "expected one of {train, certify,"),
        # Words of 0.7.0 are refused with the present ones.
        (["certify", "--looks", "3"], "--sequential-tests"),
        (["certify", "--levels", "255"], "--quantisation"),
        (["certify", "--rddrs-tr.memory", "0.7"], "--rddrs-tr.decay"),
        (["certify", "--rddrs-tr.near", "0.4"], "--rddrs-tr.boundary-share"),
        (["certify", "--rddrs-tr.guard", "1.5"], "--rddrs-tr.neighbour-margin"),
        (["soundness", "runs"], "rddrs disjoint"),
    ],
)
def test_wrong_commands(capsys, arguments, text):
    assert text in _refusal(capsys, *arguments)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # of the boxes that tyro draws
@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ("certify --n abc", ["error parsing --n", "'abc'; wanted --n INT"]),
        ("certify --foo", ["unrecognized options: --foo"]),
        ("certify --sigmas 1", ["unrecognized options: --sigmas, 1; perhaps --sigma"]),
        ("certify --executor x", ["invalid choice 'x'", "--executor", "'ray', 'local'"]),
        ("certify --n", ["missing value for argument", "--n"]),
        ("curves runs", ["missing from rddrs curves: --out PATH"]),
        ("verify", ["missing from rddrs verify: PATH"]),
    ],
)
def test_flags_that_cannot_be_parsed_are_one_line_that_points_to_the_help(
    capsys, monkeypatch, encoding, arguments, texts
):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    line = _refusal(capsys, *arguments.split())
    assert all(text in line for text in texts)
    assert line.endswith(f"; see `rddrs {arguments.split()[0]} --help`\n")


def test_help_is_printed_as_it_is(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["certify", "--help"])
    assert stop.value.code == 0
    assert "--rddrs-tr.decay" in capsys.readouterr().out


def test_networks_that_cannot_be_used(capsys, tmp_path, command):
    path, shape = tmp_path / "other.safetensors", (1, 28, 28)
    path.write_bytes(NETWORK.read_bytes()[:1000])
    line = _refusal(capsys, *command, "--checkpoint", path)
    assert "damaged" in line and str(path) in line
    model = checkpoints.build("lenet", shape, 10)
    facts = {"architecture": "lenet", "classes": 10, "sigma": 0.25}
    checkpoints.save(path, model, event_shape=shape, **facts)
    line = _refusal(capsys, *command, "--checkpoint", path)
    assert "(1, 28, 28) in 10 classes, but digits has shape (1, 8, 8)" in line


def test_a_run_is_exported_as_logs_and_a_log_is_drawn_beside_a_run(capsys, tmp_path):
    figures, log = tmp_path / "figures", tmp_path / "logs" / "rs-sigma-0.25.tsv"
    assert cli.main(["export", str(RUN), "--out", str(log.parent)]) == 0
    assert log.read_text().startswith("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t")
    drawn = ["curves", str(RUN), "--out", str(figures), "--logs"]
    assert cli.main([*drawn, f"cohen@0.25={log}"]) == 0
    for text in (capsys.readouterr().out, (figures / "table.md").read_text()):
        assert "From logs, whose networks are not known: radii of cohen" in text
    assert "one of our methods" in _refusal(capsys, *drawn, f"ancer@0.25={log}")
    assert "log none does not exist" in _refusal(capsys, *drawn, "cohen@0.25=none")


def test_training_writes_a_checkpoint_that_certify_takes(capsys, tmp_path):
    out = tmp_path / "network" / "lenet.safetensors"
    assert cli.main(["train", "--epochs", "1", "--sigma", "0.5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "ETA" in printed
    assert "under noise of 0.5" in printed
    loaded = checkpoints.load(out)
    assert (loaded.architecture, loaded.sigma) == ("lenet", 0.5)
    assert loaded.event_shape == data.load("digits").event_shape


@pytest.mark.parametrize("wrong", [["--epochs", "0"], ["--sigma", "-1"], ["--batch-size", "0"]])
def test_training_refuses_wrong_values(capsys, tmp_path, wrong):
    out = tmp_path / "network.safetensors"
    assert f"{wrong[0]} must be" in _refusal(capsys, "train", "--out", out, *wrong)
    assert not out.exists()


def test_presets_can_be_overridden_and_methods_set():
    changes = ["--n", "200", "--executor", "local", "--rddrs.exp-map", "geomstats"]
    rates = ["--ancer.learning-rates", "0.1", "0.2", "0.3"]
    run = cli.parse(["certify", "quickstart", *changes, *rates])
    assert isinstance(run, Run)
    assert run.n == 200 and run.execution == Execution("local", save_scales=True)
    assert run.checkpoint == PRESETS["quickstart"].checkpoint
    rddrs = vars(run.method("rddrs"))
    assert (rddrs["exp_map"], rddrs["gradient_samples"]) == ("geomstats", 1000)
    assert vars(run.method("ancer"))["learning_rates"] == (0.1, 0.2, 0.3)

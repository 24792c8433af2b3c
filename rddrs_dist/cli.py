"""The command line: `rddrs train | certify | disjoint | status | verify | curves | inside | ...`.

A command is a dataclass of options and a function of it; this module names them and knows exit
codes.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import groupby
from operator import or_
from typing import Annotated, Any

import tyro
from tyro.conf import subcommand

from rddrs_dist import checkpoints, data, verify
from rddrs_dist.analysis.commands import (
    Curves,
    Explain,
    Export,
    Inside,
    Status,
    curves,
    explain,
    export,
    hold,
    status,
)
from rddrs_dist.report.command import Report, report
from rddrs_dist.results import disjoint as results
from rddrs_dist.results.columns import as_markdown
from rddrs_dist.run.disjoint import Disjoint
from rddrs_dist.run.options import PRESETS as RUN_PRESETS
from rddrs_dist.run.options import TRAINING_PRESETS, Run, Training, naming_flags
from rddrs_dist.run.scheduler import NoActorError
from rddrs_dist.train import accuracy, train_new, train_universal

COMPLETE, FAILED_IMAGES, WRONG, NO_ACTORS, INTERRUPTED, DRAINED = 0, 3, 2, 4, 130, 143

# What older versions called a flag or a command, and what it is called now.
RENAMED = {
    "--looks": "--sequential-tests",
    "--levels": "--quantisation",
    "--rddrs-tr.memory": "--rddrs-tr.decay",
    "--rddrs-tr.near": "--rddrs-tr.boundary-share",
    "--rddrs-tr.guard": "--rddrs-tr.neighbour-margin",
    "soundness": "rddrs disjoint",
    "import": "rddrs curves DIR --logs NAME@SIGMA=FILE",
}


@dataclass(frozen=True)
class Columns:
    """Print the table of all columns of the results, as Markdown."""


def train(training: Training) -> int:
    """Trains a network and writes its checkpoint."""
    if training.out is None:
        raise ValueError("--out is required")
    known, unseen = (
        data.load(training.dataset, split, training.data_root, training.download)
        for split in ("train", "test")
    )
    shape = {"event_shape": known.event_shape, "classes": known.classes}
    architecture = training.architecture or ("lenet" if known.event_shape[0] == 1 else "resnet20")
    names = ("sigma", "epochs", "batch_size", "learning_rate", "seed", "device")
    settings = {name: getattr(training, name) for name in names}
    training.check()
    settings["aim"] = training.changes
    report, noise = partial(print, flush=True), None
    with naming_flags(*names):
        model = train_new(architecture, known, **settings, report=report)
    if training.universal:
        own = {**settings, "rounds": training.universal, "epochs": training.universal_epochs}
        method = training.universal_method
        noise = train_universal(model, known, method, **own, report=report)
    facts = {"architecture": architecture, **shape, "sigma": training.sigma, "universal": noise}
    checkpoints.save(training.out, model, **facts)
    clean, noisy = (accuracy(model, unseen, sigma=s) for s in (0.0, training.sigma))
    print(f"test accuracy {clean:.2%} clean, {noisy:.2%} under noise of {training.sigma:g}")
    if noise is not None:
        print(f"test accuracy {accuracy(model, unseen, sigma=noise):.2%} under the noise fitted")
    print(f"wrote {training.out}")
    return COMPLETE


def certify(run: Run) -> int:
    """Does a run and says how it ended."""
    # Imported here: the other commands need not wait for all that a run wants.
    from rddrs_dist.run.driver import Stopped
    from rddrs_dist.run.driver import certify as drive

    try:
        failed = drive(run)
    except (KeyboardInterrupt, Stopped) as stop:
        print(
            f"\nstopped; finished shards are in {run.out}: give the same command with --resume "
            "to go on",
            file=sys.stderr,
        )
        return DRAINED if isinstance(stop, Stopped) else INTERRUPTED
    if failed:
        first, why = min(failed.items())
        return _complain(
            f"nothing could be computed for {len(failed)} images (first: image {first}, {why}); "
            f"they stand as abstentions, with the error, among the rows in {run.out}: give the "
            "same command with --resume to try them again",
            FAILED_IMAGES,
        )
    assert run.out is not None
    status(Status(run.out))
    print(f"\ncomplete: rows in {run.out}; draw them with `rddrs curves {run.out} --out FIGURES`")
    return COMPLETE


def disjoint(options: Disjoint) -> int:
    """Makes the regions of a run disjoint and says what that did to each method."""
    from rddrs_dist.run.disjoint import as_text
    from rddrs_dist.run.disjoint import disjoint as make

    print(as_text(make(options)), end="")
    print(f"wrote {options.dir / results.DISJOINT}; `rddrs curves {options.dir}` draws it too")
    return COMPLETE


def columns(_: Columns) -> int:
    """Prints the documented table."""
    print(as_markdown(), end="")
    return COMPLETE


COMMANDS: dict[str, tuple[type, Callable[[Any], int]]] = {
    "train": (Training, train),
    "certify": (Run, certify),
    "disjoint": (Disjoint, disjoint),
    "status": (Status, status),
    "verify": (verify.Verify, verify.command),
    "curves": (Curves, curves),
    "inside": (Inside, hold),
    "explain": (Explain, explain),
    "report": (Report, report),
    "export": (Export, export),
    "columns": (Columns, columns),
}


PRESETS = {"train": TRAINING_PRESETS, "certify": RUN_PRESETS}


def _preset(argv: list[str], command: str) -> Any:
    """The preset named right after a command, taken out of the arguments; None without one."""
    if argv[:1] != [command] or len(argv) < 2 or argv[1].startswith("-"):
        return None
    name, presets = argv.pop(1), PRESETS[command]
    if name not in presets:
        raise ValueError(f"unknown preset {name!r} of {command}: choose from {', '.join(presets)}")
    return presets[name]


def parse(argv: Sequence[str]) -> Any:
    """The options that command-line arguments stand for; nothing is checked but their types.

    Raises:
        ValueError: If a command, a preset, a flag or a value cannot be.
        SystemExit: For `--help`.
    """
    arguments, commands = list(argv), []
    for word in (*arguments[:1], *(one.split("=")[0] for one in arguments if one[:2] == "--")):
        if new := RENAMED.get(word.replace("_", "-")):
            raise ValueError(f"{word} is now {new}: use that")
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        raise ValueError(f"unknown command {arguments[0]!r}: choose from {', '.join(COMMANDS)}")
    for name, (options, _) in COMMANDS.items():
        default = {}
        if name in PRESETS:
            default = {"default": _preset(arguments, name) or options()}
        commands.append(Annotated[options, subcommand(name, **default)])
    return parsed(
        reduce(or_, commands),
        "rddrs",
        arguments,
        description="Certified robustness by data-dependent randomized smoothing. "
        "`rddrs certify PRESET` and `rddrs train PRESET` start from a preset: "
        f"{', '.join(RUN_PRESETS)}.",
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


def parsed(options: Any, program: str, arguments: Sequence[str], **more: Any) -> Any:
    """What tyro makes of the arguments of a program.

    Raises:
        ValueError: If a flag or a value cannot be.
        SystemExit: For `--help`.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(options, prog=program, args=arguments, **more)
    except SystemExit as stop:
        if not stop.code:
            raise
    command = " ".join([program, *(one for one in arguments[:1] if one in COMMANDS)])
    raise ValueError(f"{_gist(box.getvalue())}; see `{command} --help`")


def _gist(box: str) -> str:
    """What tyro's box says first, and the first flag that it describes then."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    # A title, and parts between rules, of which the last one names the help.
    lines = [line.strip("│╰╯ ") for line in plain.splitlines()[1:]]
    parts = [[*own] for text, own in groupby(lines, lambda one: one.strip("─-") != "") if text]
    said = " ".join(parts[0]).rstrip(".")
    flags = [line for part in parts[1:-1] for line in part if line.startswith("--")]
    means = "perhaps " if "Perhaps you meant:" in lines else "wanted "
    return said[0].lower() + said[1:] + "".join(f"; {means}{one}" for one in flags[:1])


def _complain(text: str, code: int = WRONG) -> int:
    """Prints one line of error and passes an exit code on."""
    print("rddrs: error: " + " ".join(text.split()), file=sys.stderr)
    return code


def guarded(work: Callable[[], int]) -> int:
    """The exit code of some work; an error that a user can mend is one line, see `main`."""
    try:
        return work()
    except (ValueError, OSError, NoActorError) as error:
        if os.environ.get("RDDRS_DEBUG"):
            raise
        return _complain(str(error), NO_ACTORS if isinstance(error, NoActorError) else WRONG)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0 complete; 1 a run that `verify` found unsound; 2 wrong configuration, missing file or failed
    write; 3 nothing could be computed for some images; 4 no actor could be started; 130 and 143
    stopped by Ctrl-C and SIGTERM. With RDDRS_DEBUG set, errors come with their traceback.
    """
    return guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    """Parses a command line and does what it says."""
    options = parse(argv)
    command = next(own for kind, own in COMMANDS.values() if type(options) is kind)
    return command(options)


if __name__ == "__main__":
    sys.exit(main())

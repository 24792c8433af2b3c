"""The command line: `rddrs COMMAND`; see `rddrs --help`."""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, subcommand

from rddrs_dist import checkpoints, data
from rddrs_dist.analysis.commands import Curves, Export, Status, curves, export, status
from rddrs_dist.report.command import Report, report
from rddrs_dist.results.disjoint import SOUND
from rddrs_dist.run.disjoint import Soundness
from rddrs_dist.run.options import PRESETS, TRAINING_PRESETS, Run, Training
from rddrs_dist.train import accuracy, train_new

UNSOUND = 1
COMPLETE, FAILED_IMAGES, WRONG, NO_ACTORS, INTERRUPTED, DRAINED = 0, 3, 2, 4, 130, 143


@dataclass(frozen=True)
class Verify:
    """Check a finished run with code that shares nothing with what made it.

    Attributes:
        dir: Folder given to `rddrs certify` as --out.
        checkpoint: The network that was certified; --resample wants it.
        data_root: Folder of the data; RDDRS_DATA is read where this is not given.
        resample: Rows to draw again, from the streams of the run and from fresh ones; wants
            stored scales (--save-scales).
        tables: Tables that `rddrs curves` made of this run alone (table.md or table.csv), whose
            numbers are then computed anew.
        pairs: After a soundness pass: pairs of regions of each method that a plane is sought for,
            of those that neither distance nor a stored plane tells apart.
        seed: Chooses the rows to draw again, these pairs and the fresh streams.
    """

    dir: Positional[Path]
    checkpoint: Path | None = None
    data_root: Path | None = None
    resample: int = 0
    tables: tuple[Path, ...] = ()
    pairs: int = 2000
    seed: int = 0


def train(training: Training) -> int:
    """Trains a network and writes its checkpoint."""
    if training.out is None:
        raise ValueError("--out is required")
    sets = {
        split: data.load(training.dataset, split, training.data_root, training.download)
        for split in ("train", "test")
    }
    event_shape, classes = sets["train"].event_shape, sets["train"].classes
    architecture = training.architecture or ("lenet" if event_shape[0] == 1 else "resnet20")
    model = train_new(
        architecture,
        sets["train"],
        sigma=training.sigma,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        seed=training.seed,
        device=training.device,
        report=lambda line: print(line, flush=True),
    )
    checkpoints.save(
        training.out,
        model,
        architecture=architecture,
        event_shape=event_shape,
        classes=classes,
        sigma=training.sigma,
    )
    clean, noisy = (accuracy(model, sets["test"], sigma=s) for s in (0.0, training.sigma))
    print(f"test accuracy {clean:.2%} clean, {noisy:.2%} under noise of {training.sigma:g}")
    print(f"wrote {training.out}")
    return COMPLETE


def certify(run: Run) -> int:
    """Does a run and says how it ended."""
    # Imported here, as is matplotlib below: the other commands need not wait for ray.
    from rddrs_dist.run.driver import Stopped
    from rddrs_dist.run.driver import certify as drive
    from rddrs_dist.run.scheduler import NoActorError

    try:
        failed = drive(run)
    except NoActorError as error:
        return _complain(str(error), NO_ACTORS)
    except (KeyboardInterrupt, Stopped) as stop:
        print(
            f"\nstopped; finished shards are in {run.out}: give the same command with --resume "
            "to go on",
            file=sys.stderr,
        )
        return DRAINED if isinstance(stop, Stopped) else INTERRUPTED
    if failed:
        first = min(failed)
        return _complain(
            f"nothing could be computed for {len(failed)} images (first: image {first}, "
            f"{failed[first]}); they stand as abstentions, with the error, among the rows in "
            f"{run.out}: give the same command with --resume to try them again",
            FAILED_IMAGES,
        )
    if run.out is not None:
        status(Status(run.out))
        print()
    print(f"complete: rows in {run.out}; draw them with `rddrs curves {run.out} --out FIGURES`")
    return COMPLETE


def soundness(options: Soundness) -> int:
    """Does the soundness pass and prints what it did to each method."""
    from rddrs_dist.run.disjoint import as_text
    from rddrs_dist.run.disjoint import soundness as shrink

    print(as_text(shrink(options)), end="")
    print(f"wrote {options.dir / SOUND}; `rddrs curves {options.dir}` draws sound radii too")
    return COMPLETE


def verify(options: Verify) -> int:
    """Checks a run and prints what was checked and found."""
    from rddrs_dist.verify import as_text, is_sound
    from rddrs_dist.verify import verify as check

    outcomes = check(
        options.dir,
        checkpoint=options.checkpoint,
        data_root=options.data_root,
        resample=options.resample,
        tables=options.tables,
        pairs=options.pairs,
        seed=options.seed,
    )
    print(as_text(outcomes), end="")
    return COMPLETE if is_sound(outcomes) else UNSOUND


def _default(argv: list[str], command: str, presets: Mapping[str, Run | Training]):
    """The preset named right after a command, taken out of the arguments; None without one."""
    if argv[:1] != [command] or len(argv) < 2 or argv[1].startswith("-"):
        return None
    name = argv.pop(1)
    if name not in presets:
        raise ValueError(f"unknown preset {name!r} of {command}: choose from {', '.join(presets)}")
    return presets[name]


def parse(
    argv: Sequence[str],
) -> Training | Run | Soundness | Status | Verify | Curves | Report | Export:
    """The configuration that command-line arguments stand for.

    Raises:
        ValueError: If a preset or a value is unknown.
        SystemExit: For `--help`, or a flag that does not exist.
    """
    arguments = list(argv)
    training = _default(arguments, "train", TRAINING_PRESETS) or Training()
    run = _default(arguments, "certify", PRESETS) or Run()
    commands = (
        Annotated[Training, subcommand("train", default=training)]
        | Annotated[Run, subcommand("certify", default=run)]
        | Annotated[Soundness, subcommand("soundness")]
        | Annotated[Status, subcommand("status")]
        | Annotated[Verify, subcommand("verify")]
        | Annotated[Curves, subcommand("curves")]
        | Annotated[Report, subcommand("report")]
        | Annotated[Export, subcommand("export")]
    )
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(  # type: ignore[call-overload]
                commands,
                prog="rddrs",
                description="Certified robustness by data-dependent randomized smoothing. "
                "`rddrs certify PRESET` and `rddrs train PRESET` start from a preset: "
                f"{', '.join(PRESETS)}.",
                args=arguments,
                config=(tyro.conf.OmitSubcommandPrefixes,),
            )
    except SystemExit as stop:
        if cause := _own_error(stop):
            raise cause from None
        sys.stderr.write(complaint.getvalue())
        raise


def _own_error(stop: BaseException) -> ValueError | None:
    """The ValueError of a configuration that tyro has turned into a box and an exit."""
    error: BaseException | None = stop
    while error is not None and not (type(error) is ValueError and _raised_here(error)):
        error = error.__context__
    return error


def _raised_here(error: BaseException) -> bool:
    """Whether our own code raised an error, rather than a type that tyro tried on a text."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").startswith("rddrs_dist")


def _complain(text: str, code: int) -> int:
    """Prints one line of error and passes an exit code on."""
    print("rddrs: error: " + " ".join(text.split()), file=sys.stderr)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code.

    0 complete; 1 a run that `verify` found unsound; 2 wrong configuration, missing file or failed
    write; 3 nothing could be computed for some images; 4 no actor could be started; 130 and 143
    stopped by Ctrl-C and SIGTERM. With RDDRS_DEBUG set, errors come with their traceback.
    """
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        commands = {
            Training: train,
            Run: certify,
            Soundness: soundness,
            Status: status,
            Verify: verify,
            Curves: curves,
            Report: report,
            Export: export,
        }
        return commands[type(options)](options)  # type: ignore[operator]
    except (ValueError, OSError) as error:
        if os.environ.get("RDDRS_DEBUG"):
            raise
        return _complain(str(error), WRONG)


if __name__ == "__main__":
    sys.exit(main())

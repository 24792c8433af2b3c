"""An independent check of a folder of results: the command `rddrs verify`.

Definitions are shared with what wrote the folder: columns, files, the configuration, the format of
scales and the matrix that each stands for, data sets, networks, and which random stream belongs to
which image. Computations are not: what a certificate claims is computed here in another way, and
held against what is stored.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from rddrs_dist.run.experiment import not_negative
from rddrs_dist.verify import certificates, changes, disjoint, folder, printed, resampling, sight
from rddrs_dist.verify.findings import Checked, Missing, Outcome, as_text, by_row, is_sound
from rddrs_dist.verify.folder import Case, Verify

__all__ = ["UNSOUND", "Verify", "command", "verify"]

UNSOUND = 1
_Check = Callable[[Case], Checked]

_OF_ALL_ROWS: dict[str, _Check] = {
    "config": folder.check_config,
    "parts": folder.check_parts,
    "manifest": folder.check_manifest,
    "rows": certificates.check_rows,
    "settings": by_row(certificates.judge_settings),
    "verdicts": certificates.check_verdicts,
    "labels": certificates.check_labels,
    "checkpoint": certificates.check_network,
    "values": by_row(certificates.judge_values),
}
# Of rows whose numbers are numbers.
_OF_NUMBERS: dict[str, _Check] = {
    "p_lower": by_row(certificates.judge_p_lower),
    "radius": by_row(certificates.judge_radius),
    "sizes": by_row(certificates.judge_sizes),
    "given noise": by_row(certificates.judge_given_noise),
    "abstentions": by_row(certificates.judge_abstention),
    "ddrs ball": by_row(certificates.judge_ddrs_ball),
    "volumes": by_row(certificates.judge_volumes),
    "scales": certificates.check_scales,
    "axes": certificates.check_axes,
    "sight": by_row(sight.judge_sight),
    "data radii": sight.check_data_radii,
    "named changes": by_row(changes.judge_multiple),
    "changed images": changes.check_changes,
    "redrawn": resampling.check_redrawn,
    "fresh samples": resampling.check_fresh,
    "blindness": resampling.check_blindness,
    "others inside": resampling.check_others_inside,
}
# Of what `rddrs disjoint` has made of them.
_OF_A_PASS: dict[str, _Check] = {
    "disjoint rows": disjoint.check_rows,
    "disjoint sizes": disjoint.check_sizes,
    "disjoint scales": disjoint.check_scales,
    "disjoint pairs": disjoint.check_pairs,
    "nearest conflicts": disjoint.check_nearest,
}


def command(options: Verify) -> int:
    """Checks a run and prints what was checked and found.

    Returns:
        0 where every check that was made found every claim to hold, else `UNSOUND`.
    """
    outcomes = verify(options)
    print(as_text(outcomes), end="")
    return 0 if is_sound(outcomes) else UNSOUND


def verify(options: Verify) -> list[Outcome]:
    """Checks a folder of results.

    Returns:
        How each check went, those that could not be made among them.

    Raises:
        ValueError: If something that was given cannot be used.
        FileNotFoundError: If the folder, or something else that was given, is absent.
    """
    not_negative(options, "resample", "pairs", "seed")
    if options.resample and options.checkpoint is None:
        raise ValueError("--resample wants the network that was certified: give --checkpoint")
    if absent := [str(path) for path in options.tables if not path.is_file()]:
        raise FileNotFoundError(
            f"no file {', '.join(absent)}: give a table.md or table.csv that `rddrs curves` wrote "
            "to --tables"
        )
    case = Case.read(options)
    made = list(_made(_OF_ALL_ROWS, case))
    judged = ((row, certificates.judge_values(row, case)) for row in case.rows)
    sane = [row for row, claims in judged if all(holds for holds, *_ in claims)]
    case = replace(case, rows=sane)
    made += _made(_OF_NUMBERS, case)
    for path in options.tables:
        made += _made({"table": partial(printed.check_table, path=path)}, case)
    made += [Outcome("table", skipped="no --tables given")] * (not options.tables)
    if case.pass_table.path.exists():
        made += _made(_OF_A_PASS, case)
    elif (options.dir / "_sound.parquet").exists():
        made.append(Outcome("disjoint rows", skipped="of version 0.7.0; run `rddrs disjoint`"))
    return made


def _made(checks: Mapping[str, _Check], case: Case) -> Iterator[Outcome]:
    """Makes one check after the other."""
    for name, check in checks.items():
        try:
            checked, findings = check(case)
            yield Outcome(name, checked, tuple(findings))
        except Missing as why:
            yield Outcome(name, "", why.findings, skipped=str(why))

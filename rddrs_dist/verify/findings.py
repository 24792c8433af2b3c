"""What a check is, what it finds, and both as text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

Row = Mapping[str, Any]
# Method and index of an image.
Key = tuple[str, int]
_SHOWN = 20


class Severity(Enum):
    """What a finding means."""

    ERROR = "error"  # a claim that does not hold
    WARNING = "warning"  # it holds, but it is not what this run should have made of it
    NOTE = "note"  # nothing wrong, but worth knowing


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    where: str  # file, or image and method
    wanted: str
    found: str
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Outcome:
    """How a check went."""

    check: str
    checked: str = ""  # what was looked at, such as "15 rows"
    findings: tuple[Finding, ...] = ()
    skipped: str | None = None  # why it was not made


# Whether it holds, what is wanted, what is found, and what it means where it does not hold: an
# error, if nothing else is said.
Claim = tuple[object, object, object] | tuple[object, object, object, Severity]
# What a check returns: what it looked at, and what it found.
Checked = tuple[str, Iterable[Finding]]


class Missing(Exception):
    """Why a check cannot be made, and what was found nevertheless."""

    def __init__(self, why: object, findings: Iterable[Finding] = ()) -> None:
        super().__init__(str(why))
        self.findings = tuple(findings)


def key_of(row: Row) -> Key:
    """Method and image of a row."""
    return row["method"], row["index"]


def at(where: str | Key, claims: Iterable[Claim]) -> list[Finding]:
    """The claims that do not hold of a file, or of an image and method."""
    place = where if isinstance(where, str) else f"image {where[1]}, {where[0]}"
    return [
        Finding(place, str(wanted), str(found), *severity)
        for holds, wanted, found, *severity in claims
        if not holds
    ]


def bounded(name: str, value: float, least: float, most: float | Fraction) -> Iterator[Claim]:
    """A lower bound is an error above `most`, and odd below `least`."""
    yield value <= most, f"{name} of at most {float(most)!r}", repr(value)
    yield value >= least, f"{name} of at least {least!r}", repr(value), Severity.WARNING


def each_row(rows: Iterable[Row], judge: Callable[[Row], Iterable[Claim]]) -> Checked:
    """Looks at each row by itself; there has to be one."""
    kept = list(rows)
    if not kept:
        raise Missing("there is no row to look at")
    return f"{len(kept)} rows", [one for row in kept for one in at(key_of(row), judge(row))]


def by_row(judge: Callable[[Row, Any], Iterable[Claim]]) -> Callable[[Any], Checked]:
    """The check of a `Case` that looks at each row by itself."""
    return lambda case: each_row(case.rows, lambda row: judge(row, case))


def is_sound(outcomes: Sequence[Outcome]) -> bool:
    """Whether no check found an error."""
    return not _counts(outcomes)[Severity.ERROR]


def _counts(outcomes: Sequence[Outcome]) -> Counter[Severity]:
    """Findings of each severity."""
    return Counter(finding.severity for one in outcomes for finding in one.findings)


def as_text(outcomes: Sequence[Outcome]) -> str:
    """One line per check, one per finding (20 at most) and a verdict."""
    ranks = list(Severity)
    found = [
        (ranks.index(one.severity), k, outcome.check, one)
        for outcome in outcomes
        for k, one in enumerate(outcome.findings)
    ]
    found.sort(key=lambda entry: entry[:2])  # errors first, the first of each check before others
    lines = list(map(_line, outcomes))
    for _, _, check, one in found[:_SHOWN]:
        claim = f"{one.where}: wanted {one.wanted}, found {one.found}"
        lines.append(f"{one.severity.value}: {check}: {claim}")
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more of {len(found)} findings")
    counts, left = _counts(outcomes), [one.check for one in outcomes if one.skipped is not None]
    errors = _plural(counts[Severity.ERROR], "error")
    warnings = _plural(counts[Severity.WARNING], "warning")
    made = _plural(len(outcomes) - len(left), "check")
    verdict = "sound" if is_sound(outcomes) else "UNSOUND"
    missing = ", ".join(left) or "nothing"
    lines.append(f"{verdict}: {errors}, {warnings}, {made} made; not checked: {missing}\n")
    return "\n".join(lines)


def _line(outcome: Outcome) -> str:
    """One line for one check."""
    if outcome.skipped is not None:
        return f"{outcome.check}: not checked: {outcome.skipped}"
    counts = _counts([outcome])
    result = ", ".join(_plural(counts[kind], kind.value) for kind in Severity if counts[kind])
    return f"{outcome.check}: {outcome.checked}: {result or 'ok'}"


def _plural(count: int, word: str) -> str:
    """A number of things."""
    return f"{count} {word}{'' if count == 1 else 's'}"

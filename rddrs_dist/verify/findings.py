"""What a check is, what it finds, and both as text."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import Any

Row = Mapping[str, Any]
_SHOWN = 20


class Severity(Enum):
    """What a finding means."""

    ERROR = "error"  # a claim that does not hold
    WARNING = "warning"  # it holds, but it is not what this run should have made of it
    NOTE = "note"  # nothing wrong, but worth knowing


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: What it means.
        wanted: What should have been there.
        found: What is there.
        where: File, or image and method.
    """

    severity: Severity
    wanted: str
    found: str
    where: str = ""

    def __str__(self) -> str:
        """One line."""
        return f"{self.where}: wanted {self.wanted}, found {self.found}"


@dataclass(frozen=True)
class Outcome:
    """How a check went.

    Attributes:
        check: Its name.
        checked: What was looked at, such as "15 rows".
        findings: What it found.
        skipped: Why it was not made; None where it was.
    """

    check: str
    checked: str = ""
    findings: tuple[Finding, ...] = ()
    skipped: str | None = None


# What a check returns: what it looked at, and what it found.
Checked = tuple[str, Iterable[Finding]]


class Missing(Exception):
    """Why a check cannot be made, and what was found nevertheless."""

    def __init__(self, why: object, *findings: Finding) -> None:
        super().__init__(str(why))
        self.findings = findings


def wrong(wanted: object, found: object, where: str = "") -> Finding:
    """A claim that does not hold."""
    return Finding(Severity.ERROR, str(wanted), str(found), where)


def odd(wanted: object, found: object, where: str = "") -> Finding:
    """A claim that holds, and yet is not as this run should have it."""
    return Finding(Severity.WARNING, str(wanted), str(found), where)


def unless(*claims: tuple[object, object, object]) -> Iterator[Finding]:
    """An error for each claim (whether it holds, what is wanted, what is found) that is false."""
    return (wrong(wanted, found) for holds, wanted, found in claims if not holds)


def bounded(name: str, value: float, least: float, most: float | Fraction) -> Iterator[Finding]:
    """Holds a lower bound against what it may be: an error above `most`, odd below `least`."""
    if value > most:
        yield wrong(f"{name} of at most {float(most)!r}", repr(value))
    elif value < least:
        yield odd(f"{name} of at least {least!r}", repr(value))


def at(where: str | Row, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings with their place: a file, or image and method of a row."""
    place = where if isinstance(where, str) else f"image {where['index']}, {where['method']}"
    return (replace(one, where=place) for one in findings)


def over_rows(rows: Iterable[Row], judge: Callable[[Row], Iterable[Finding]]) -> Checked:
    """Looks at each row by itself; there has to be one."""
    kept = list(rows)
    if not kept:
        raise Missing("there is no row to look at")
    return f"{len(kept)} rows", [one for row in kept for one in at(row, judge(row))]


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
        (ranks.index(one.severity), k, f"{one.severity.value}: {outcome.check}: {one}")
        for outcome in outcomes
        for k, one in enumerate(outcome.findings)
    ]
    found.sort(key=lambda entry: entry[:2])  # errors first, the first of each check before others
    shown = [text for *_, text in found[:_SHOWN]]
    if len(found) > _SHOWN:
        shown.append(f"and {len(found) - _SHOWN} more of {len(found)} findings")
    return "\n".join([*map(_line, outcomes), *shown, _verdict(outcomes)]) + "\n"


def _line(outcome: Outcome) -> str:
    """One line for one check."""
    if outcome.skipped is not None:
        return f"{outcome.check}: not checked: {outcome.skipped}"
    counts = _counts([outcome])
    result = ", ".join(_plural(counts[kind], kind.value) for kind in Severity if counts[kind])
    return f"{outcome.check}: {outcome.checked}: {result or 'ok'}"


def _verdict(outcomes: Sequence[Outcome]) -> str:
    """The last line."""
    left = [outcome.check for outcome in outcomes if outcome.skipped is not None]
    facts = [
        *(_plural(_counts(outcomes)[kind], kind.value) for kind in list(Severity)[:2]),
        f"{_plural(len(outcomes) - len(left), 'check')} made; not checked: "
        f"{', '.join(left) or 'nothing'}",
    ]
    return f"{'sound' if is_sound(outcomes) else 'UNSOUND'}: {', '.join(facts)}"


def _plural(count: int, word: str) -> str:
    """A number of things."""
    return f"{count} {word}{'' if count == 1 else 's'}"

"""What a check is and what it finds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Row = Mapping[str, Any]


class Severity(Enum):
    """What a finding means."""

    ERROR = "error"  # a claim that does not hold
    WARNING = "warning"  # it holds, but it is not what this run should have made of it
    NOTE = "note"  # nothing wrong, but worth knowing


@dataclass(frozen=True)
class Fault:
    """A finding that does not know yet where it was found.

    Attributes:
        severity: What it means.
        wanted: What should have been there.
        found: What is there.
    """

    severity: Severity
    wanted: str
    found: str


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        check: Name of the check.
        severity: What it means.
        where: File, or image and method.
        wanted: What should have been there.
        found: What is there.
    """

    check: str
    severity: Severity
    where: str
    wanted: str
    found: str

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.severity.value}: {self.check}: {self.where}: "
            f"wanted {self.wanted}, found {self.found}"
        )


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


def wrong(wanted: object, found: object) -> Fault:
    """A claim that does not hold."""
    return Fault(Severity.ERROR, str(wanted), str(found))


def odd(wanted: object, found: object) -> Fault:
    """Something sound that is not as it should be."""
    return Fault(Severity.WARNING, str(wanted), str(found))


def place(row: Row) -> str:
    """Image and method of a row."""
    return f"image {row['index']}, {row['method']}"


def located(check: str, where: str, faults: Iterable[Fault]) -> Iterator[Finding]:
    """Findings of one place."""
    return (Finding(check, one.severity, where, one.wanted, one.found) for one in faults)


def over_rows(check: str, rows: Iterable[Row], judge: Callable[[Row], Iterable[Fault]]) -> Outcome:
    """Makes a check that looks at each row by itself."""
    kept = list(rows)
    if not kept:
        return Outcome(check, skipped="there is no row to look at")
    findings = [one for row in kept for one in located(check, place(row), judge(row))]
    return Outcome(check, f"{len(kept)} rows", tuple(findings))

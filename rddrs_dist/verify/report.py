"""What the checks found, as text."""

from collections import Counter
from collections.abc import Sequence

from rddrs_dist.verify.findings import Outcome, Severity

_SHOWN = 20


def is_sound(outcomes: Sequence[Outcome]) -> bool:
    """Whether no check found an error."""
    findings = (finding for outcome in outcomes for finding in outcome.findings)
    return all(finding.severity is not Severity.ERROR for finding in findings)


def as_text(outcomes: Sequence[Outcome]) -> str:
    """One line per check, one per finding (20 at most) and a verdict."""
    ranks = list(Severity)
    found = [(k, finding) for one in outcomes for k, finding in enumerate(one.findings)]
    # Errors first, and the first of each check before the second of any.
    found.sort(key=lambda entry: (ranks.index(entry[1].severity), entry[0]))
    findings = [finding for _, finding in found]
    shown = [str(finding) for finding in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        shown.append(f"and {len(findings) - _SHOWN} more of {len(findings)} findings")
    return "\n".join([*map(_line, outcomes), *shown, _verdict(outcomes)]) + "\n"


def _line(outcome: Outcome) -> str:
    """One line for one check."""
    if outcome.skipped is not None:
        return f"{outcome.check}: not checked: {outcome.skipped}"
    counts = Counter(finding.severity for finding in outcome.findings)
    result = ", ".join(_plural(counts[kind], kind.value) for kind in Severity if counts[kind])
    return f"{outcome.check}: {outcome.checked}: {result or 'ok'}"


def _verdict(outcomes: Sequence[Outcome]) -> str:
    """The last line."""
    made = sum(outcome.skipped is None for outcome in outcomes)
    left = [outcome.check for outcome in outcomes if outcome.skipped is not None]
    counts = Counter(finding.severity for one in outcomes for finding in one.findings)
    facts = [_plural(counts[kind], kind.value) for kind in (Severity.ERROR, Severity.WARNING)]
    facts += [f"{_plural(made, 'check')} made", f"not checked: {', '.join(left) or 'nothing'}"]
    return f"{'sound' if is_sound(outcomes) else 'UNSOUND'}: {', '.join(facts[:-1])}; {facts[-1]}"


def _plural(count: int, word: str) -> str:
    """A number of things."""
    return f"{count} {word}{'' if count == 1 else 's'}"

"""Names and styles of methods, the same in every figure, table and page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LABELS = {"rs": "RS", "ddrs": "DDRS", "ancer": "ANCER", "rddrs": "RDDRS", "rddrs_tr": "RDDRS-TR"}
# Okabe and Ito's colours tell apart with any colour vision, and the dashes without any.
_STYLES: dict[str, tuple[str, Any]] = {
    "rs": ("#4d4d4d", (0, (1, 1.1))),
    "ddrs": ("#0072b2", (0, (5, 1.6))),
    "ancer": ("#009e73", (0, (5, 1.4, 1, 1.4))),
    "rddrs": ("#d55e00", "solid"),
    "rddrs_tr": ("#aa3f8f", (0, (9, 1.6))),
}
_OTHERS = (("#a6761d", "solid"), ("#56b4e9", "solid"), ("#8c6bb1", (0, (3, 1, 1, 1, 1, 1))))
_MORE = tuple((color, (0, (2, 2))) for color, _ in _OTHERS)


def label(method: str) -> str:
    """Returns the printed name of a method."""
    return LABELS.get(method, method)


def style(method: str) -> tuple[str, Any]:
    """Returns colour and dashes of a method, as matplotlib takes them."""
    if method in _STYLES:
        return _STYLES[method]
    return _OTHERS[sum(method.encode()) % len(_OTHERS)]


@dataclass(frozen=True)
class Look:
    """Colour, dashes and printed name of a line."""

    color: str
    dashes: Any
    name: str


def looks(names: Mapping[str, str]) -> dict[str, Look]:
    """Returns how the lines of one figure look.

    Of methods that are none of ours, such as imported logs, no two have the same style, as long as
    they are no more than six.

    Args:
        names: Printed name of each method.
    """
    found = {method: style(method) for method in names}
    taken: list[tuple[str, Any]] = []
    for method in sorted(found.keys() - _STYLES.keys()):
        free = [one for one in (found[method], *_OTHERS, *_MORE) if one not in taken]
        found[method] = free[0] if free else found[method]
        taken.append(found[method])
    return {method: Look(*found[method], name) for method, name in names.items()}

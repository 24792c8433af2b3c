"""Names and styles of methods, the same in every figure, table and page."""

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


def label(method: str) -> str:
    """Returns the printed name of a method."""
    return LABELS.get(method, method)


def style(method: str) -> tuple[str, Any]:
    """Returns colour and dashes of a method, as matplotlib takes them."""
    if method in _STYLES:
        return _STYLES[method]
    return _OTHERS[sum(method.encode()) % len(_OTHERS)]

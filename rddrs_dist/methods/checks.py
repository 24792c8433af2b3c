"""Checks of hyper-parameters, with errors that name the method and the field."""

from typing import Any


def refuse(method: Any, field: str, wanted: str) -> None:
    """Says what was wanted of a field, and what it is."""
    raise ValueError(f"{method.name}.{field} must {wanted}, got {getattr(method, field)}")


def at_least_one(method: Any, *fields: str) -> None:
    """Refuses counts below 1."""
    for field in fields:
        if getattr(method, field) < 1:
            refuse(method, field, "be at least 1")


def positive(method: Any, *fields: str) -> None:
    """Refuses numbers, or sequences of numbers, that are not all positive and finite."""
    for field in fields:
        value = getattr(method, field)
        values = value if isinstance(value, tuple) else (value,)
        if not values or not all(0 < v < float("inf") for v in values):
            refuse(method, field, "be positive and finite")


def between(method: Any, low: float, high: float, *fields: str) -> None:
    """Refuses numbers outside an open interval."""
    for field in fields:
        if not low < getattr(method, field) < high:
            refuse(method, field, f"be between {max(low, 0):g} and {high:g}")

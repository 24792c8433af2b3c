"""Checks of hyper-parameters, with errors that name the method and the field."""

from typing import Any


def _refuse(method: Any, field: str, wanted: str, value: object) -> None:
    raise ValueError(f"{method.name}.{field} must be {wanted}, got {value}")


def at_least_one(method: Any, *fields: str) -> None:
    """Refuses counts below 1."""
    for field in fields:
        if getattr(method, field) < 1:
            _refuse(method, field, "at least 1", getattr(method, field))


def positive(method: Any, *fields: str) -> None:
    """Refuses numbers, or sequences of numbers, that are not all positive and finite."""
    for field in fields:
        value = getattr(method, field)
        values = value if isinstance(value, tuple) else (value,)
        if not values or not all(0 < v < float("inf") for v in values):
            _refuse(method, field, "positive and finite", value)


def one_of(method: Any, field: str, choices: tuple[str, ...]) -> None:
    """Refuses a name that is not among the choices."""
    if getattr(method, field) not in choices:
        _refuse(method, field, f"one of {', '.join(choices)}", getattr(method, field))


def clamp_range(method: Any, field: str) -> None:
    """Refuses a clamp of probabilities outside (0, 1/2)."""
    if not 0 < getattr(method, field) < 0.5:
        _refuse(method, field, "between 0 and 1/2", getattr(method, field))

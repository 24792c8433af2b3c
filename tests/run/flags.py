"""A run as the command line that stands for it."""

from dataclasses import fields

from rddrs_dist.methods import METHODS
from rddrs_dist.run.options import Run


def as_flags(run: Run) -> list[str]:
    """The command line that stands for a run."""
    given: list[str] = []
    methods = ((run.method(name), f"{name}.") for name in METHODS)
    owners = [(run, ""), (run.execution, ""), *methods]
    for owner, prefix in owners:
        for field in fields(owner):
            value, name = getattr(owner, field.name), f"--{prefix}{field.name.replace('_', '-')}"
            if isinstance(value, bool):
                given += [name] * value
            elif isinstance(value, tuple):
                given += [name, *map(str, value)]
            elif value is not None and field.name not in ("settings", "execution"):
                given += [name, str(value)]
    return given

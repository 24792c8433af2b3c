"""The columns of a part and its version, written down once more and by hand."""

import pyarrow as pa

VERSION = "5"
PREFIX = "rddrs_dist."
IMPORTED = "imported"  # in the metadata of a log of another project

_REQUIRED = {
    "index": "int64",
    "label": "int64",
    "method": "string",
    "sigma": "double",
    "prediction": "int64",
    "correct": "bool",
    "count": "int64",
    "n": "int64",
    "n0": "int64",
    "alpha": "double",
    "p_lower": "double",
    "radius": "double",
    "l2_radius": "double",
    "proxy_radius": "double",
    "log_volume": "double",
    "min_axis": "double",
    "mean_axis": "double",
    "max_axis": "double",
    "fit_status": "string",
    "fit_steps": "int64",
    "fit_objective": "double",
    "fit_seconds": "double",
    "certify_seconds": "double",
    "seed": "int64",
    "shard": "int64",
}
_NULLABLE = {
    "radius_limit": "double",
    "capped_proxy_radius": "double",
    "axes_beyond_domain": "int64",
    "others_inside": "int64",
    "contains_ddrs_ball": "bool",
    "error": "string",
    "scale_sha256": "string",
}
# Null in parts of earlier versions alone.
_FILLED = ("capped_proxy_radius", "axes_beyond_domain")
STATUSES = frozenset(
    {"closed_form", "converged", "max_steps", "deadline", "nonfinite", "fallback", "failed"}
)
# What a soundness pass adds, in a file of its own.
SOUND = {
    "index": "int64",
    "method": "string",
    "sound_radius": "double",
    "sound_l2_radius": "double",
    "sound_proxy_radius": "double",
    "sound_scale_sha256": "string",
    "mu": "double",
    "nearest_conflict": "int64",
    "witness": "string",
    "rule": "string",
}
RULES = ("narrow", "order-free", "in-order")
# Columns of real numbers that must be finite: all but log_volume, which is -inf for nothing, and
# fit_objective, which is NaN where nothing was fitted.
FINITE = tuple(
    name
    for name, kind in (_REQUIRED | _NULLABLE).items()
    if kind == "double" and name not in ("log_volume", "fit_objective")
)


def differences(table: pa.Table) -> list[str]:
    """What tells a table from what a part must be, one phrase each."""
    wanted = {name: f"{kind} not null" for name, kind in _REQUIRED.items()} | _NULLABLE
    found = {
        field.name: f"{field.type}{'' if field.nullable else ' not null'}"
        for field in table.schema
    }
    phrases = [f"no column {name}" for name in wanted if name not in found]
    phrases += [f"a column {name}" for name in found if name not in wanted]
    phrases += [
        f"{name} as {found[name]}, not {kind}"
        for name, kind in wanted.items()
        if found.get(name, kind) != kind
    ]
    full = [name for name in (*_REQUIRED, *_FILLED) if name in found]
    return phrases + [f"null in {name}" for name in full if table[name].null_count]

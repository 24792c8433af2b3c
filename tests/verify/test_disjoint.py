"""A disjoint pass is held against what can be computed from its files in another way."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rddrs_dist import RDDRSTR
from rddrs_dist.analysis import tables
from rddrs_dist.analysis.lines import read_lines
from rddrs_dist.run.disjoint import Disjoint, disjoint
from rddrs_dist.verify.findings import Severity, as_text, is_sound
from tests.small_run import RUN, Made, certify_here

from .tampering import (
    PASS,
    Row,
    Spoil,
    change,
    change_arrays,
    edit,
    found,
    read_rows,
    read_table,
    rewrite,
    scaled,
    shift_cell,
    skipped,
    unlink,
    verified,
)

CHECKS = [f"disjoint {what}" for what in ("rows", "sizes", "scales", "pairs")]
CHECKS.append("nearest conflicts")


@pytest.fixture(scope="module")
def whole(original: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose regions overlap, with a pass; nobody may change it."""
    folder = tmp_path_factory.mktemp("disjoint") / "run"
    larger = replace(RUN.settings, rddrs_tr=RDDRSTR(blindness=1.0, steps=15, compare_samples=500))
    run = replace(RUN, methods=("rs", "ancer", "rddrs_tr"), indices="0:240:10", settings=larger)
    certify_here(run, folder, original.checkpoint)
    disjoint(Disjoint(folder, executor="local"))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_the_run_of_these_tests_has_pairs_of_all_kinds(whole: Path):
    made, certified = read_rows(whole, PASS), read_rows(whole)
    witnesses = [row["witness"] for row in made]
    assert witnesses.count("conflict") > 3
    assert {"ball", "hyperplane"} & set(witnesses)
    kept = {row["disjoint_scale_sha256"] for row in made} & {r["scale_sha256"] for r in certified}
    assert len(kept) < len(made) - 3


@pytest.mark.parametrize("rule", ["narrow", "order-free", "in-order"])
def test_a_pass_is_sound(folder: Path, rule: str):
    if rule != "narrow":
        disjoint(Disjoint(folder, rule=rule, executor="local"))
    outcomes = verified(folder)
    assert is_sound(outcomes), as_text(outcomes)
    assert not found(outcomes, Severity.WARNING), as_text(outcomes)
    assert not {*CHECKS} & skipped(outcomes).keys()
    assert " pairs" in next(one.checked for one in outcomes if one.check == "disjoint pairs")


rows = partial(edit, pattern=PASS)  # of the pass


def turned(name: str, values: np.ndarray) -> np.ndarray:
    """The first hyperplane of a method, turned away."""
    if not name.endswith("/normal"):
        return values
    return np.concatenate([-values[:1], values[1:]])


without_hyperplanes = unlink("_disjoint-hyperplanes*")


def unnarrowed(folder: Path) -> None:
    """Certified regions given out as disjoint ones, the scales of the pass being gone."""
    unlink("_disjoint-scales-*")(folder)
    known = {(row["method"], row["index"]): row for row in read_rows(folder)}

    def certified(name: str) -> Callable[[Row], Any]:
        return lambda row: known[row["method"], row["index"]][name]

    every = (*SIZES, "disjoint_scale_sha256")
    rows(anyone, **{name: certified(name.removeprefix("disjoint_")) for name in every})(folder)


def with_a_null(folder: Path) -> None:
    own = read_table(folder / PASS)
    schema = pa.schema([field.with_nullable(True) for field in own.schema], own.schema.metadata)
    changed = [{**own.to_pylist()[0], "disjoint_proxy_radius": None}, *own.to_pylist()[1:]]
    pq.write_table(pa.Table.from_pylist(changed, schema), folder / PASS)


def conflict(row: Row) -> bool:
    return row["witness"] == "conflict"


def anyone(row: Row) -> bool:
    return row["disjoint_radius"] > 0


SLIGHT = np.float32(1.001)
SIZES = ("disjoint_radius", "disjoint_l2_radius", "disjoint_proxy_radius")
SPOILT = {
    "sizes times ten": ("disjoint sizes", rows(anyone, **scaled(SIZES, 10))),
    "proxy radius up by 1e-9":
        ("disjoint sizes", rows(conflict, **scaled("disjoint_proxy_radius", 1 + 1e-9))),
    "l2 radius up by 1e-9":
        ("disjoint sizes", rows(conflict, **scaled("disjoint_l2_radius", 1 + 1e-9))),
    "NaN": ("disjoint sizes", rows(conflict, disjoint_radius=float("nan"))),
    "null": ("disjoint rows", with_a_null),
    "a row dropped": ("disjoint rows", rewrite(lambda every: every[1:], PASS)),
    "a row twice": ("disjoint rows", rewrite(lambda every: [*every, every[0]], PASS)),
    "no narrowed scale": ("disjoint scales", rows(conflict, disjoint_scale_sha256="0" * 64)),
    "a narrowed scale spoilt":
        ("disjoint scales", change_arrays("_disjoint-scales-*", lambda _, one: one * SLIGHT)),
    "radius up by a share of 1e-6":
        ("disjoint scales", rows(conflict, **scaled("disjoint_radius", 1 + 2e-6))),
    "a hyperplane turned": ("disjoint pairs", change_arrays("_disjoint-hyperplanes*", turned)),
    "certified regions as disjoint ones": ("disjoint pairs", unnarrowed),
    "certified regions without hyperplanes":
        ("disjoint pairs", lambda folder: (without_hyperplanes(folder), unnarrowed(folder))),
    "hyperplanes dropped": ("nearest conflicts", without_hyperplanes),
    "contact factor raised": (
        "nearest conflicts",
        rows(conflict, contact_factor=lambda row: (row["contact_factor"] + 1) / 2),
    ),
    "another nearest conflict": ("nearest conflicts", rows(conflict, nearest_conflict=7)),
    "a conflict as a hyperplane": ("nearest conflicts", rows(conflict, witness="hyperplane")),
    "unknown rule": ("nearest conflicts", rows(anyone, rule="none")),
    "parts changed since": ("disjoint rows", change("rs", True, fit_seconds=17.0)),
    "torn": ("disjoint rows", lambda folder: (folder / PASS).write_bytes(b"PAR1")),
}  # fmt: skip


@pytest.mark.parametrize(("check", "spoil"), SPOILT.values(), ids=SPOILT)
def test_what_is_spoilt_is_found(folder: Path, check: str, spoil: Spoil):
    spoil(folder)
    outcomes = verified(folder)
    assert check in found(outcomes), as_text(outcomes)
    assert not is_sound(outcomes)


def test_an_earlier_pass_is_refused(folder: Path):
    pq.write_table(read_table(folder / PASS).drop_columns(["rule"]), folder / PASS)
    assert "run `rddrs disjoint` again" in found(verified(folder))["disjoint rows"].wanted


def test_without_scales_regions_are_not_checked(folder: Path):
    unlink("_scales-*")(folder)
    assert {*CHECKS[1:]} <= skipped(verified(folder)).keys()


def printed(folder: Path) -> Path:
    """A table of all sizes, those of the pass and for all images at once among them."""
    summary = tables.summary(read_lines([folder], simultaneous=True))
    path = folder.parent / "table.md"
    path.write_text(tables.to_markdown(summary))
    path.with_suffix(".csv").write_text(summary.to_csv(index=False))
    return path


def test_printed_sizes_of_the_pass_and_for_all_images_at_once_are_checked(whole: Path):
    path = printed(whole)
    assert "Disjoint proxy radius" in path.read_text()
    assert "all images at once" in path.read_text()
    outcomes = verified(whole, tables=[path, path.with_suffix(".csv")])
    made = [one for one in outcomes if one.check == "table"]
    assert is_sound(outcomes) and len(made) == 2, as_text(outcomes)
    assert not any(one.findings for one in made), as_text(outcomes)


@pytest.mark.parametrize("title", ["Disjoint proxy radius", "Proxy radius, all images at once"])
@pytest.mark.parametrize("by", [0.001, -0.002])
def test_a_printed_size_of_these_that_is_not_the_floor_is_found(
    whole: Path, title: str, by: float
):
    path = printed(whole)
    shift_cell(path, "ACR", by, title)
    assert "table" in found(verified(whole, tables=[path])), path.read_text()


def test_pairs_that_are_passed_over_are_told(whole: Path):
    without = verified(whole, pairs=0)
    assert is_sound(without)
    assert "raise --pairs" in found(without, Severity.WARNING)["disjoint pairs"].wanted

"""A soundness pass is held against what can be computed from its files in another way."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from rddrs_dist import RDDRSTR
from rddrs_dist.analysis import simultaneous, tables
from rddrs_dist.results import read, read_many
from rddrs_dist.run import overlap
from rddrs_dist.verify import Severity, as_text, is_sound, verify
from tests.small_run import RUN, Made, certify_here, pass_here

from .tampering import Row, change, scaled
from .test_verify import found, shift_cell

CHECKS = ("sound rows", "sound sizes", "sound scales", "sound pairs", "nearest conflicts")


@pytest.fixture(scope="module")
def whole(original: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose regions overlap, with a pass; nobody may change it."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    larger = replace(RUN.settings, rddrs_tr=RDDRSTR(steps=15, compare_samples=500))
    run = replace(RUN, methods=("rs", "ancer", "rddrs_tr"), indices="0:240:10", settings=larger)
    certify_here(run, folder, original.checkpoint)
    pass_here(folder, "narrow")
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_the_run_of_these_tests_has_pairs_of_all_kinds(whole: Path):
    frame = read(whole)
    assert (frame["witness"] == "conflict").sum() > 3
    assert {"ball", "plane"} & set(frame["witness"])
    assert (frame["sound_scale_sha256"] != frame["scale_sha256"]).sum() > 3


@pytest.mark.parametrize("rule", ["narrow", "order-free", "in-order"])
def test_a_pass_is_sound(folder: Path, rule: str):
    if rule != "narrow":
        pass_here(folder, rule)
    outcomes = verify(folder)
    assert is_sound(outcomes), as_text(outcomes)
    assert not found(outcomes, Severity.WARNING), as_text(outcomes)
    made = {one.check: one for one in outcomes}
    assert all(made[name].skipped is None for name in CHECKS)
    assert "pairs" in made["sound pairs"].checked


def test_sizes_do_not_depend_on_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overlap, "_BLOCK_BYTES", 1 << 19)
    monkeypatch.setattr(overlap, "_WAITING_BYTES", 1)
    before = read(folder)
    assert overlap.block_size(64, dense=True) < 10 < len(before) / 3
    pass_here(folder, "narrow")
    after = read(folder)
    assert before["witness"].equals(after["witness"])
    for name in (*SIZES, "mu"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-2)
    assert is_sound(outcomes := verify(folder)), as_text(outcomes)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_pair_of_blocks_comes_once(count: int):
    found = sorted(overlap.block_pairs(count))
    assert found == [(i, j) for i in range(count) for j in range(i, count)]


def table(change: Callable[[list[Row]], list[Row]]) -> Callable[[Path], None]:
    """Changes the rows of the pass."""

    def spoil(folder: Path) -> None:
        with pq.ParquetFile(folder / "_sound.parquet") as file:
            own = file.read()
        rows = change(own.to_pylist())
        assert rows != own.to_pylist()
        pq.write_table(pa.Table.from_pylist(rows, own.schema), folder / "_sound.parquet")

    return spoil


def rows(only: Callable[[Row], bool], **changes: Any) -> Callable[[Path], None]:
    """Changes columns of some rows of the pass; a change is a value or a function of the row."""

    def of(row: Row) -> Row:
        new = {name: to(row) if callable(to) else to for name, to in changes.items()}
        return row | new if only(row) else row

    return table(lambda every: [of(row) for row in every])


def arrays(
    pattern: str, change: Callable[[str, np.ndarray], np.ndarray]
) -> Callable[[Path], None]:
    """Changes the arrays of the first file of a kind."""

    def spoil(folder: Path) -> None:
        (path, *_) = sorted(folder.glob(pattern))
        save_file({name: change(name, one) for name, one in load_file(path).items()}, path)

    return spoil


def turned(name: str, values: np.ndarray) -> np.ndarray:
    """The first plane of a file, turned away."""
    if not name.endswith("/normal"):
        return values
    return np.concatenate([-values[:1], values[1:]])


def without_planes(folder: Path) -> None:
    for path in folder.glob("_sound-planes-*"):
        path.unlink()


def unnarrowed(folder: Path) -> None:
    """Certified regions given out as sound ones, the scales of the pass being gone."""
    for path in folder.glob("_sound-scales-*"):
        path.unlink()
    known = {(row["method"], row["index"]): row for row in read_rows(folder)}

    def of(row: Row) -> Row:
        own = known[row["method"], row["index"]]
        sizes = {f"sound_{name}": own[name] for name in ("radius", "l2_radius", "proxy_radius")}
        return row | sizes | {"sound_scale_sha256": own["scale_sha256"]}

    table(lambda every: [of(row) for row in every])(folder)


def read_rows(folder: Path) -> list[Row]:
    """Rows of the run."""
    parts = [pq.ParquetFile(path) for path in sorted(folder.glob("part-*.parquet"))]
    return [row for part in parts for row in part.read().to_pylist()]


def with_a_null(folder: Path) -> None:
    with pq.ParquetFile(folder / "_sound.parquet") as file:
        own = file.read()
    schema = pa.schema([field.with_nullable(True) for field in own.schema], own.schema.metadata)
    changed = [{**own.to_pylist()[0], "sound_proxy_radius": None}, *own.to_pylist()[1:]]
    pq.write_table(pa.Table.from_pylist(changed, schema), folder / "_sound.parquet")


def conflict(row: Row) -> bool:
    return row["witness"] == "conflict"


def anyone(row: Row) -> bool:
    return row["sound_radius"] > 0


SIZES = ("sound_radius", "sound_l2_radius", "sound_proxy_radius")
SPOILT = {
    "sizes times ten": ("sound sizes", rows(anyone, **{n: scaled(n, 10) for n in SIZES})),
    "proxy radius up by 1e-9": (
        "sound sizes",
        rows(conflict, sound_proxy_radius=scaled("sound_proxy_radius", 1 + 1e-9)),
    ),
    "l2 radius up by 1e-9": (
        "sound sizes",
        rows(conflict, sound_l2_radius=scaled("sound_l2_radius", 1 + 1e-9)),
    ),
    "NaN": ("sound sizes", rows(conflict, sound_radius=float("nan"))),
    "null": ("sound rows", with_a_null),
    "a row dropped": ("sound rows", table(lambda every: every[1:])),
    "a row twice": ("sound rows", table(lambda every: [*every, every[0]])),
    "no narrowed scale": ("sound scales", rows(conflict, sound_scale_sha256="0" * 64)),
    "a narrowed scale spoilt": (
        "sound scales",
        arrays("_sound-scales-*", lambda _, one: one * np.float32(1.001)),
    ),
    "radius up by a share of 1e-6": (
        "sound scales",
        rows(conflict, sound_radius=scaled("sound_radius", 1 + 2e-6)),
    ),
    "a plane turned": ("sound pairs", arrays("_sound-planes-*", turned)),
    "certified regions as sound ones": ("sound pairs", unnarrowed),
    "certified regions without planes": (
        "sound pairs",
        lambda folder: (without_planes(folder), unnarrowed(folder)),
    ),
    "planes dropped": ("nearest conflicts", without_planes),
    "mu raised": ("nearest conflicts", rows(conflict, mu=lambda row: (row["mu"] + 1) / 2)),
    "another nearest conflict": ("nearest conflicts", rows(conflict, nearest_conflict=7)),
    "a conflict as a plane": ("nearest conflicts", rows(conflict, witness="plane")),
    "unknown rule": ("nearest conflicts", rows(anyone, rule="none")),
    "parts changed since": ("sound rows", change("rs", True, fit_seconds=17.0)),
    "torn": ("sound rows", lambda folder: (folder / "_sound.parquet").write_bytes(b"PAR1")),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_spoilt_is_found(folder: Path, case: str):
    check, spoil = SPOILT[case]
    spoil(folder)
    outcomes = verify(folder)
    assert check in found(outcomes), as_text(outcomes)
    assert not is_sound(outcomes)


def test_an_earlier_pass_is_refused(folder: Path):
    with pq.ParquetFile(folder / "_sound.parquet") as file:
        own = file.read()
    pq.write_table(own.drop_columns(["rule"]), folder / "_sound.parquet")
    assert "run `rddrs soundness` again" in found(verify(folder))["sound rows"].wanted


def test_without_scales_regions_are_not_checked(folder: Path):
    for path in folder.glob("_scales-*"):
        path.unlink()
    skipped = {one.check for one in verify(folder) if one.skipped is not None}
    assert set(CHECKS[1:]) <= skipped


def printed(folder: Path) -> Path:
    """A table of all sizes, those of the pass and for all images at once among them."""
    summary = tables.summary(simultaneous.add(read_many([folder])))
    path = folder.parent / "table.md"
    path.write_text(tables.to_markdown(summary))
    path.with_suffix(".csv").write_text(summary.to_csv(index=False))
    return path


def test_printed_sizes_of_the_pass_and_for_all_images_at_once_are_checked(whole: Path):
    path = printed(whole)
    assert "Sound proxy radius" in path.read_text()
    assert "all images at once" in path.read_text()
    outcomes = verify(whole, tables=[path, path.with_suffix(".csv")])
    made = [one for one in outcomes if one.check == "table"]
    assert is_sound(outcomes) and len(made) == 2, as_text(outcomes)
    assert not any(one.findings for one in made), as_text(outcomes)


@pytest.mark.parametrize("title", ["Sound proxy radius", "Proxy radius, all images at once"])
@pytest.mark.parametrize("by", [0.001, -0.001])
def test_a_printed_size_of_these_that_is_not_the_floor_is_found(
    whole: Path, title: str, by: float
):
    path = printed(whole)
    shift_cell(path, "ACR", by, title)
    assert "table" in found(verify(whole, tables=[path])), path.read_text()


def test_pairs_that_are_passed_over_are_told(whole: Path):
    without = verify(whole, pairs=0)
    assert is_sound(without)
    assert "raise --pairs" in found(without, Severity.WARNING)["sound pairs"].wanted

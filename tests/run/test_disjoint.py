"""The disjoint pass: its columns, its rules, its files and what it refuses."""

import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from rddrs_dist import data
from rddrs_dist.region import Region
from rddrs_dist.results import disjoint as results
from rddrs_dist.results import files, read, scales
from rddrs_dist.run import disjoint as run
from rddrs_dist.run.disjoint import Disjoint, as_text, block_size, disjoint
from tests.disjoint.problems import METHODS, certify, factor
from tests.verify.tampering import flip

EVENT = (1, 8, 8)
RULES = ("narrow", "order-free", "in-order")


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with stored scales; nobody may change them."""
    return certify(tmp_path_factory.mktemp("certified") / "out")


@pytest.fixture
def options(certified: Path, tmp_path: Path) -> Disjoint:
    """A pass on a copy of the results, in this process."""
    return Disjoint(shutil.copytree(certified, tmp_path / "out"), executor="local")


def with_regions(folder: Path, method: str) -> tuple[pd.DataFrame, Region, Region]:
    """Rows of a method after a pass, and their regions as certified and as they are now."""
    rows = read(folder).query("method == @method and disjoint_radius > 0").reset_index(drop=True)
    indices = rows["index"].tolist()
    centre = torch.from_numpy(data.load("digits", "test").images[indices])
    stored = {"radius": scales.Scales(folder), "disjoint_radius": results.scales(folder)}
    before, after = (
        Region(centre, own.noise(method, indices, EVENT), *rows[[radius, "prediction"]].values.T)
        for radius, own in stored.items()
    )
    return rows, before, after


@pytest.mark.parametrize("rule", RULES)
def test_the_columns_of_a_pass(options: Disjoint, rule: str):
    before = read(options.dir)
    lines = as_text(disjoint(replace(options, rule=rule))).splitlines()
    assert [line.split()[0] for line in lines] == ["method", *sorted(METHODS)]
    after = read(options.dir)
    assert list(after.columns) == [*before.columns, *results.COLUMNS]
    for kind in ("radius", "l2_radius", "proxy_radius"):
        assert (after[f"disjoint_{kind}"] <= after[kind]).all()
    gone = after["prediction"] == -1
    assert gone.any() and (after.loc[gone, "disjoint_proxy_radius"] == 0).all()
    free = after["nearest_conflict"].isna()
    assert (after.loc[free, "disjoint_proxy_radius"] == after.loc[free, "proxy_radius"]).all()
    assert (after.loc[free, "contact_factor"] == 1).all()
    assert (after.loc[~free, "contact_factor"] < 1).all()
    assert ((after["witness"] == "conflict") == ~free).all() and free.any()
    assert set(after["witness"]) == {"ball", "hyperplane", "conflict"}
    if rule != "in-order":
        overlapping = after[~free]
        assert (overlapping["disjoint_proxy_radius"] < overlapping["proxy_radius"]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_regions_are_disjoint_and_some_certified_ones_are_not(
    options: Disjoint, rule: str, method: str
):
    disjoint(replace(options, rule=rule))
    rows, before, after = with_regions(options.dir, method)
    label, pairs = rows["prediction"], combinations(range(len(rows)), 2)
    pairs = [(i, j) for i, j in pairs if label[i] != label[j]]
    least = min(factor(before, before, i, j) for i, j in pairs)
    assert least < 1 < min(factor(after, after, i, j) for i, j in pairs) < 1.05


@pytest.mark.parametrize("method", METHODS)
def test_sizes_are_those_of_the_stored_scale_which_is_inside_the_certified_one(
    options: Disjoint, method: str
):
    disjoint(options)
    rows, before, after = with_regions(options.dir, method)
    outer, inner, stored = before.noise.matrix(), after.noise.matrix(), results.scales(options.dir)
    for k, row in enumerate(rows.to_dict("records")):
        assert stored.packed(method, row["index"]).sha256 == row["disjoint_scale_sha256"]
        axes, radius = torch.linalg.svdvals(inner[k]), row["disjoint_radius"]
        assert row["disjoint_l2_radius"] <= radius * float(axes[-1])
        mean = radius * float(axes.log().mean().exp())
        assert mean * (1 - 1e-9) < row["disjoint_proxy_radius"] <= mean * (1 + 1e-15)
        stretch = float(torch.linalg.matrix_norm(torch.linalg.solve(outer[k], inner[k]), 2))
        assert stretch * radius <= row["radius"] * (1 + 1e-12)
        changed = row["disjoint_scale_sha256"] != row["scale_sha256"]
        assert changed == (row["witness"] == "conflict")
    assert (rows["witness"] == "conflict").sum() > 2


def test_stored_hyperplanes_lie_between_the_regions_that_overlapped(options: Disjoint):
    disjoint(options)
    content = load_file(options.dir / results.HYPERPLANES)
    for method in METHODS:
        first, second, normals = (content[f"{method}/{k}"] for k in ("first", "second", "normal"))
        rows, _, after = with_regions(options.dir, method)
        number = {index: k for k, index in enumerate(rows["index"])}
        overlapping = rows.loc[rows["witness"] == "conflict", "index"]
        assert set(first) | set(second) == set(overlapping) and normals.dtype == np.float32
        for i, j, normal in zip(first, second, normals, strict=True):
            w = torch.from_numpy(normal).view(1, *EVENT)
            own, other = (after[[number[k]]] for k in (i, j))
            gap = float((w.double() * (other.centre.double() - own.centre.double())).sum())
            assert gap > own.support(w)[0] + other.support(w)[0]


def test_blocks_of_pairs_find_what_one_block_finds(
    options: Disjoint, monkeypatch: pytest.MonkeyPatch
):
    whole = disjoint(options)
    before = read(options.dir)
    monkeypatch.setattr(run, "block_size", lambda dimension, dense: 3)
    parts = disjoint(options)
    exact = ("regions", "pairs", "searched", "conflicts", "smaller")
    for one, other in zip(whole, parts, strict=True):
        assert all(one[name] == other[name] for name in exact)
    after, names = read(options.dir), ["nearest_conflict", "witness", "rule", "index", "method"]
    assert after[names].equals(before[names])
    for name in ("contact_factor", "disjoint_proxy_radius"):
        assert after[name].to_numpy() == pytest.approx(before[name].to_numpy(), rel=1e-3)


def test_another_rule_leaves_nothing_of_an_earlier_pass(options: Disjoint):
    disjoint(options)
    assert len(list(options.dir.glob("_disjoint-scales-*"))) == len(METHODS)
    disjoint(replace(options, rule="order-free"))
    assert not list(options.dir.glob("_disjoint-scales-*"))
    frame = read(options.dir)
    own = frame["disjoint_scale_sha256"].notna()
    assert (frame.loc[own, "disjoint_scale_sha256"] == frame.loc[own, "scale_sha256"]).all()
    assert set(frame["rule"]) == {"order-free"} and own.equals(frame["prediction"] >= 0)


def test_a_narrowed_scale_that_was_changed_is_refused(options: Disjoint):
    disjoint(options)
    flip(sorted(options.dir.glob("_disjoint-scales-*"))[1].name, 0.999999)(options.dir)
    indices = read(options.dir).query("method == 'rddrs_tr'")["index"].tolist()
    with pytest.raises(ValueError, match="run `rddrs disjoint` again"):
        results.scales(options.dir).noise("rddrs_tr", indices, EVENT)


@pytest.mark.parametrize(("d", "dense"), [(784, True), (784, False), (3072, True), (40000, True)])
def test_blocks_count_dense_scales_as_well_as_vectors(d: int, dense: bool):
    size = block_size(d, dense)
    taken = [48 * d * m**2 + dense * 24 * m * d**2 for m in (size, size + 1)]
    assert taken[0] <= 2**30 < taken[1] or (size == 1 < taken[0])


def test_a_scale_that_is_not_that_of_its_row_is_refused(options: Disjoint):
    flip("_scales-00000.safetensors", 0.999999)(options.dir)
    with pytest.raises(ValueError, match=r"must have sha256 .* certify again into a fresh --out"):
        disjoint(options)


def test_a_pass_of_other_parts_is_refused(options: Disjoint):
    disjoint(options)
    first, *_ = files.part_paths(options.dir).values()
    files.replace(first, files.encode(files.read_part(first).slice(0, 1)))
    with pytest.raises(ValueError, match="run `rddrs disjoint"):
        read(options.dir)


def test_other_images_are_refused_before_anything_is_removed(
    options: Disjoint, monkeypatch: pytest.MonkeyPatch
):
    disjoint(options)
    images = data.load("digits", "test")
    other = replace(images, images=images.images / 2)
    monkeypatch.setattr(data, "load", lambda *_: other)
    with pytest.raises(ValueError, match="images of digits must be those that were certified"):
        disjoint(options)
    assert (options.dir / results.DISJOINT).exists()


@pytest.mark.ray
def test_ray_finds_what_this_process_finds(options: Disjoint, head):
    disjoint(options)
    here = (options.dir / results.HYPERPLANES).read_bytes(), read(options.dir)
    disjoint(replace(options, executor="ray", address=head.address))
    there = (options.dir / results.HYPERPLANES).read_bytes(), read(options.dir)
    assert here[0] == there[0] and here[1].equals(there[1])

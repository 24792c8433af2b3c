"""The soundness pass on a real run: its columns, its rules and what it refuses."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rddrs_dist import RDDRSTR, cli, data
from rddrs_dist.results import disjoint as sound
from rddrs_dist.results import files as parts
from rddrs_dist.results import read, scales
from rddrs_dist.run import driver
from rddrs_dist.run.disjoint import soundness
from rddrs_dist.run.options import Run, Soundness
from rddrs_dist.run.overlap import block_size
from tests.oracles import contact_factor

pytestmark = pytest.mark.ray

METHODS = ("rs", "ancer", "rddrs_tr")


def ambitious(run: Run) -> Run:
    """The same run with regions that are large enough to overlap."""
    larger = replace(run.settings, rddrs_tr=RDDRSTR(steps=15, compare_samples=500))
    return replace(run, methods=METHODS, settings=larger)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run goes that all tests look at; the first one makes it."""
    return tmp_path_factory.mktemp("sound") / "out"


@pytest.fixture
def done(certified: Path, run: Run) -> Soundness:
    """A run with its scales, on which no pass was made."""
    if not certified.exists():
        wanted = replace(ambitious(run), out=certified, save_scales=True, actors=1)
        assert driver.certify(wanted) == {}
    (certified / sound.SOUND).unlink(missing_ok=True)
    return Soundness(certified, address=run.address)


@pytest.mark.parametrize("rule", ["narrow", "order-free", "in-order"])
def test_the_columns_of_a_pass(done: Soundness, rule: str):
    before = read(done.dir)
    lines = soundness(replace(done, rule=rule))
    assert [line.method for line in lines] == sorted(METHODS)
    after = read(done.dir)
    assert list(after.columns) == [*before.columns, *sound.COLUMNS]
    for kind in ("radius", "l2_radius", "proxy_radius"):
        assert (after[f"sound_{kind}"] <= after[kind]).all()
    gone = after["prediction"] == -1
    assert (after.loc[gone, "sound_proxy_radius"] == 0).all()
    free = after["nearest_conflict"].isna()
    assert (after.loc[free, "sound_proxy_radius"] == after.loc[free, "proxy_radius"]).all()
    assert (after.loc[free, "mu"] == 1).all() and (after.loc[~free, "mu"] < 1).all()
    if rule != "in-order":
        touched = after[~free]
        assert (touched["sound_proxy_radius"] < touched["proxy_radius"]).all()


@pytest.mark.parametrize("rule", ["narrow", "order-free"])
def test_sound_regions_do_not_overlap_and_some_certified_ones_do(done: Soundness, rule: str):
    soundness(replace(done, rule=rule))
    frame = read(done.dir).query("method == 'rddrs_tr' and sound_radius > 0")
    frame = frame.reset_index(drop=True)
    images = data.load("digits", "test")
    stored = {"radius": scales.Scales(done.dir), "sound_radius": sound.scales(done.dir)}
    dense = {
        column: where.noise("rddrs_tr", frame["index"].tolist(), images.event_shape)
        .covariance()
        .numpy()
        for column, where in stored.items()
    }
    points = images.images.reshape(len(images), -1)
    least = {"radius": np.inf, "sound_radius": np.inf}
    for i, j in itertools.combinations(range(len(frame)), 2):
        if frame["prediction"][i] != frame["prediction"][j]:
            v = (points[frame["index"][j]] - points[frame["index"][i]]).astype(float)
            for column, shapes in dense.items():
                r = frame[column]
                factor = contact_factor(shapes[i] * r[i] ** 2, shapes[j] * r[j] ** 2, v)
                least[column] = min(least[column], factor)
    assert least["radius"] < 1 < least["sound_radius"] < 1.05


def test_sizes_are_those_of_the_stored_scale_which_is_inside_the_certified_one(done: Soundness):
    soundness(done)
    frame = read(done.dir).query("sound_radius > 0")
    images, narrower = data.load("digits", "test"), 0
    certified, stored = scales.Scales(done.dir), sound.scales(done.dir)
    for row in frame.to_dict("records"):
        key = (row["method"], [row["index"]], images.event_shape)
        outer, inner = (one.noise(*key).matrix()[0] for one in (certified, stored))
        assert stored.packed(row["method"], row["index"]).sha256 == row["sound_scale_sha256"]
        axes = torch.linalg.svdvals(inner)
        assert row["sound_l2_radius"] <= row["sound_radius"] * float(axes[-1])
        mean = row["sound_radius"] * float(axes.log().mean().exp())
        assert mean * (1 - 1e-9) < row["sound_proxy_radius"] <= mean
        stretch = float(torch.linalg.matrix_norm(torch.linalg.solve(outer, inner), 2))
        assert stretch * row["sound_radius"] <= row["radius"] * (1 + 1e-12)
        changed = row["sound_scale_sha256"] != row["scale_sha256"]
        assert changed == (row["witness"] == "conflict")
        narrower += changed
    assert narrower > 2


def test_another_rule_leaves_nothing_of_an_earlier_pass(done: Soundness):
    soundness(done)
    assert list(done.dir.glob("_sound-scales-*")) and list(done.dir.glob("_sound-planes-*"))
    soundness(replace(done, rule="order-free"))
    assert not list(done.dir.glob("_sound-scales-*"))
    frame = read(done.dir)
    own = frame["sound_scale_sha256"].notna()
    assert (frame.loc[own, "sound_scale_sha256"] == frame.loc[own, "scale_sha256"]).all()
    assert set(frame["rule"]) == {"order-free"} and own.equals(frame["prediction"] >= 0)


def test_a_pass_of_an_earlier_version_is_refused_and_can_be_made_again(done: Soundness):
    soundness(done)
    table = parts.read_table(done.dir / sound.SOUND)
    earlier = table.drop_columns(["rule", "sound_scale_sha256"])
    parts.replace(done.dir / sound.SOUND, parts.encode(earlier))
    with pytest.raises(ValueError, match="earlier version: run `rddrs soundness"):
        read(done.dir)
    soundness(done)
    assert len(read(done.dir)) == len(table)


def test_a_narrowed_scale_that_was_changed_is_refused(done: Soundness):
    soundness(done)
    (path, *_) = sorted(done.dir.glob("_sound-scales-*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    rows = read(done.dir).query("method == 'rddrs_tr' and witness == 'conflict'")
    with pytest.raises(ValueError, match="run `rddrs soundness` again"):
        sound.scales(done.dir).noise("rddrs_tr", rows["index"].tolist(), (1, 8, 8))


def test_sound_scales_want_a_pass(done: Soundness):
    with pytest.raises(FileNotFoundError, match="run `rddrs soundness"):
        sound.scales(done.dir)


@pytest.mark.parametrize(("d", "dense"), [(784, True), (784, False), (3072, True), (40000, True)])
def test_blocks_count_dense_scales_as_well_as_vectors(d: int, dense: bool):
    size = block_size(d, dense)
    taken = [48 * d * m**2 + dense * 24 * m * d**2 for m in (size, size + 1)]
    assert taken[0] <= 2**30 < taken[1] or (size == 1 < taken[0])


def test_the_command_prints_a_line_per_method(done: Soundness, capsys: pytest.CaptureFixture[str]):
    flags = ["soundness", str(done.dir), "--address", str(done.address)]
    assert cli.main(flags) == cli.COMPLETE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["method", "regions", "pairs"]
    assert [line.split()[0] for line in lines[1:4]] == sorted(METHODS)


def test_a_scale_that_is_not_that_of_its_row_is_refused(
    done: Soundness, capsys: pytest.CaptureFixture[str]
):
    stored = scales.Scales(done.dir)
    (shard, _), *_ = parts.part_paths(done.dir).items()
    rows = read(done.dir).query("shard == @shard")
    whole = scales.path(done.dir, shard).read_bytes()
    changed = {key: stored.packed(*key) for key in map(tuple, rows[["method", "index"]].values)}
    first = next(iter(changed))
    values = changed[first].values.copy()
    values[0] = np.nextafter(values[0], np.float32(9))
    changed[first] = replace(changed[first], values=values)
    scales.write(done.dir, shard, changed)
    try:
        assert cli.main(["soundness", str(done.dir), "--address", str(done.address)]) == cli.WRONG
        assert "must have sha256" in capsys.readouterr().err
    finally:
        scales.path(done.dir, shard).write_bytes(whole)


def test_a_pass_of_other_parts_is_refused(done: Soundness):
    soundness(done)
    content = (done.dir / sound.SOUND).read_bytes()
    (first, *_) = parts.part_paths(done.dir).values()
    kept = first.read_bytes()
    table = parts.read_part(first)
    try:
        parts.replace(first, parts.encode(table.slice(0, 1)))
        with pytest.raises(ValueError, match="run `rddrs soundness"):
            read(done.dir)
    finally:
        first.write_bytes(kept)
    assert (done.dir / sound.SOUND).read_bytes() == content


def test_a_run_without_scales_says_how_to_get_them(run: Run, capsys: pytest.CaptureFixture[str]):
    assert driver.certify(replace(run, methods=("rs",), indices="0", actors=1)) == {}
    assert cli.main(["soundness", str(run.out)]) == cli.WRONG
    assert "certify with --save-scales" in capsys.readouterr().err


def test_saved_scales_do_not_change_the_rows(done: Soundness, run: Run):
    assert driver.certify(ambitious(run)) == {}
    own, other = read(run.out), read(done.dir)
    assert (own["count"] == other["count"]).all()
    assert own["scale_sha256"].tolist() == other["scale_sha256"].tolist()
    assert not list(run.out.glob("_scales-*"))

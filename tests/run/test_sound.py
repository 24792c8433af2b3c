"""The soundness pass on a real run: its columns, its rules and what it refuses."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rddrs_dist import RDDRSTR, cli, data
from rddrs_dist.results import parts, read, scales, sound
from rddrs_dist.run import driver
from rddrs_dist.run.config import Run, Soundness
from rddrs_dist.run.sound import soundness
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


def test_shrunk_regions_do_not_overlap_and_some_certified_ones_do(done: Soundness):
    soundness(replace(done, rule="order-free"))
    frame = read(done.dir).query("method == 'rddrs_tr' and prediction >= 0")
    frame = frame.reset_index(drop=True)
    images, stored = data.load("digits", "test"), scales.Scales(done.dir)
    noise = stored.noise("rddrs_tr", frame["index"].tolist(), images.event_shape)
    dense, points = noise.covariance().numpy(), images.images.reshape(len(images), -1)
    least = {"radius": np.inf, "sound_radius": np.inf}
    for i, j in itertools.combinations(range(len(frame)), 2):
        if frame["prediction"][i] != frame["prediction"][j]:
            v = (points[frame["index"][j]] - points[frame["index"][i]]).astype(float)
            for column in least:
                r = frame[column]
                factor = contact_factor(dense[i] * r[i] ** 2, dense[j] * r[j] ** 2, v)
                least[column] = min(least[column], factor)
    assert least["radius"] < 1 < least["sound_radius"] < 1.05


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

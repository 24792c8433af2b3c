"""A sound run passes every check; each way to spoil one is found by the check that is named."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rddrs_dist import cli
from rddrs_dist.results.columns import COLUMNS
from rddrs_dist.stats import clopper_pearson_lower, clopper_pearson_upper
from rddrs_dist.verify import UNSOUND
from rddrs_dist.verify.findings import Finding, Outcome, Severity, as_text, is_sound
from tests.run.runs import one_line
from tests.small_run import RUN, Made, certify_here

from .tampering import (
    Row,
    change,
    change_scales,
    edit,
    edit_json,
    flip,
    found,
    read_rows,
    remetadata,
    rewrite,
    scaled,
    shift_cell,
    skipped,
    unlink,
    update_manifest,
    verified,
)

RECORDED = Path(__file__).parents[1] / "recorded" / "run-0.7.0"
CHECKS = [
    *("config", "parts", "manifest", "rows", "settings", "verdicts", "labels", "checkpoint"),
    *("values", "p_lower", "radius", "sizes", "given noise", "abstentions"),
    *("ddrs ball", "volumes", "scales", "axes", "sight", "data radii"),
    *("named changes", "changed images"),
    *("redrawn", "fresh samples", "blindness", "others inside", "table", "table"),
]


def test_a_sound_run_passes_every_check(original: Made):
    outcomes = verified(
        original.folder, checkpoint=original.checkpoint, resample=100, tables=original.tables
    )
    assert [outcome.check for outcome in outcomes] == CHECKS
    assert not skipped(outcomes)
    assert not found(outcomes) and not found(outcomes, Severity.WARNING)
    assert as_text(outcomes).endswith(
        "sound: 0 errors, 0 warnings, 28 checks made; not checked: nothing\n"
    )


def test_the_run_of_these_tests_has_certificates_abstentions_and_early_ends(original: Made):
    """Those of every method, but RDDRS-TR has a region for every image."""
    rows = read_rows(original.folder)
    for method in RUN.methods:
        answers = [row["prediction"] for row in rows if row["method"] == method]
        assert max(answers) >= 0
        assert -1 in answers or method == "rddrs_tr"
    drawn = {row["n"] for row in rows}
    assert drawn <= {75, 150, 300} and len(drawn) > 1


def _of_one_test(row: Row) -> float:
    """p_lower at all of alpha."""
    return float(clopper_pearson_lower(row["count"], row["n"], row["alpha"]))


def _less(row: Row) -> float:
    """The bound of blindness, where there is one, smaller by less than float64 can well tell."""
    return (row["blindness_upper"] or 0.0) * (1 - 3e-12)


def _renamed(folder: Path) -> None:
    """A part under the name of another shard."""
    (folder / "part-00002.parquet").rename(folder / "part-00007.parquet")
    update_manifest(folder)


# Half of the samples blind, and the bound of that.
BLIND = {"blindness": 0.5, "blindness_upper": float(clopper_pearson_upper(1000, 2000, 0.01))}
# A radius at its limit, and yet too large.
LONGER = dict.fromkeys(("radius", "radius_limit"), lambda row: row["radius"] * 1.5)
SPOILT = {
    "configuration without alpha":
        ("config", edit_json("_config.json", lambda it: it["config"].pop("alpha"))),
    "configuration of an unknown precision":
        ("config", edit_json("_config.json", lambda it: it["config"].update(precision="bf16"))),
    "configuration of another alpha":
        ("config", edit_json("_config.json", lambda it: it["config"].update(alpha=0.05))),
    "no configuration": ("config", unlink("_config.json")),
    "mixed configuration":
        ("parts", remetadata("config", lambda text: text.replace('"alpha":0.01', '"alpha":0.05'))),
    "another run_id in a part": ("parts", remetadata("run_id", lambda text: text[::-1])),
    "earlier schema": ("parts", remetadata("schema_version", lambda _: "3")),
    "part of another shard": ("parts", _renamed),
    "byte of a part flipped": ("parts", flip("part-00001.parquet", 0.9)),
    "last byte of a part flipped": ("parts", flip("part-00001.parquet", 0.9999)),
    "byte flipped, for the manifest": ("manifest", flip("part-00001.parquet", 0.3)),
    "stale hash in the manifest":
        ("manifest", edit_json("_manifest.json", lambda it: it["parts"][0].update(sha256="0"))),
    "no manifest": ("manifest", unlink("_manifest.json")),
    "part missing": ("manifest", unlink("part-00001.parquet")),
    "row twice": ("rows", rewrite(lambda rows: [*rows, rows[0]])),
    "row missing": ("rows", rewrite(lambda rows: rows[1:])),
    "another n in some rows": ("settings", change("ancer", True, n=301)),
    "another alpha in some rows": ("settings", change("rs", False, alpha=0.1)),
    "another seed in some rows": ("settings", change("rs", False, seed=7)),
    "wrong label": ("labels", change("rddrs", True, label=9, correct=lambda row: False)),
    "wrong label of one method": ("verdicts", change("rddrs", True, label=9)),
    "wrong verdict": ("verdicts", change("rs", False, correct=True)),
    "NaN": ("values", change("rs", True, radius=float("nan"))),
    "infinite": ("values", change("rs", True, max_axis=float("inf"))),
    "unknown status": ("values", change("rs", True, fit_status="perfect")),
    "count above n": ("values", change("rs", True, count=301)),
    "count below what p_lower needs":
        ("p_lower", change("rs", True, count=lambda r: r["count"] - 1)),
    "p_lower up by 3e-12": ("p_lower", change("rddrs_tr", True, **scaled("p_lower", 1 + 3e-12))),
    "tests that alpha was not spent on": ("p_lower", change("rs", True, p_lower=_of_one_test)),
    "p_lower of an abstention": ("p_lower", change("rs", False, p_lower=0.49)),
    "radius rounded up to 3 digits":
        ("radius", change("rs", True, radius=lambda row: np.ceil(row["radius"] * 1000) / 1000)),
    "radius up by 3e-12": ("radius", change("ddrs", True, **scaled("radius", 1 + 3e-12))),
    "radius above its limit":
        ("radius", change("rddrs_tr", True, radius_limit=lambda r: r["radius"] * (1 - 1e-15))),
    "limit of zero": ("radius", change("rs", False, radius_limit=0.0)),
    "infinite limit": ("values", change("rs", True, radius_limit=float("inf"))),
    "limit that the count does not support": ("radius", change("rddrs_tr", True, **LONGER)),
    "l2_radius up": ("sizes", change("ancer", True, **scaled("l2_radius", 1 + 1e-15))),
    "proxy_radius up by 1e-9":
        ("sizes", change("rddrs", True, **scaled("proxy_radius", 1 + 1e-9))),
    "axes out of order": ("sizes", change("ancer", True, mean_axis=lambda r: r["max_axis"] * 2)),
    "another noise of rs":
        ("given noise", change("rs", False, min_axis=0.6, mean_axis=0.6, max_axis=0.6)),
    "prediction taken back": ("abstentions", change("rs", True, prediction=-1, correct=False)),
    "prediction made up": ("abstentions", change("rs", False, prediction=3, correct=False)),
    "abstention with a size": ("sizes", change("rddrs", False, l2_radius=0.1)),
    "certified at one half": ("abstentions", change("rs", True, p_lower=0.5)),
    "error in a certified row": ("abstentions", change("rs", True, error="none")),
    "failed without an error": ("abstentions", change("rs", False, fit_status="failed")),
    "aim_scale up by 1e-12":
        ("named changes", change("aim", True, **scaled("aim_scale", 1 + 1e-12))),
    "no aim_scale": ("named changes", change("rs", True, aim_scale=None)),
    "rotation in an empty region": ("named changes", change("rs", False, rotation_deg=1.0)),
    "rotation that goes on": ("changed images", change("rs", True, **scaled("rotation_deg", 1.2))),
    "shift that goes on": ("changed images", change("aim", True, **scaled("shift_px", 1.01))),
    "contrast that goes on":
        ("changed images", change("rddrs_tr", True, **scaled("contrast_pct", 1 + 1e-6))),
    "no ddrs ball": (
        "ddrs ball",
        change("ancer", True, contains_ddrs_ball=lambda row: not row["contains_ddrs_ball"]),
    ),
    "log_volume up": ("volumes", change("rs", True, log_volume=lambda r: r["log_volume"] + 1e-6)),
    "scale replaced": ("scales", change_scales("rddrs", lambda one: one * 2, rehash=False)),
    "scale of another size": ("scales", change_scales("rddrs", lambda one: one[:-1], rehash=True)),
    "torn file of scales": ("scales", flip("_scales-00001.safetensors", 0.0)),
    "file of scales missing": ("scales", unlink("_scales-00001.safetensors")),
    "smaller scale, rehashed":
        ("axes", change_scales("rddrs", lambda one: one * np.float32(1 - 1e-6), rehash=True)),
    "axes up": ("axes", change("rddrs_tr", True, **scaled("max_axis", 1 + 1e-9))),
    "mean axis up": ("axes", change("rddrs", True, **scaled("mean_axis", 1 + 1e-9))),
    "beyond the domain": ("axes", change("rddrs", True, max_axis=1e9)),
    "blindness above one": ("sight", change("rs", True, blindness=1.5)),
    "blindness of no number of samples": ("sight", change("rs", True, blindness=0.00033)),
    "blindness above its bound":
        ("sight", change("rs", True, blindness=1.0)),
    "bound of blindness down by 3e-12":
        ("sight", change("rddrs", True, blindness_upper=_less)),
    "bound of blindness of zero": ("sight", change("rs", True, blindness_upper=0.0)),
    "blindness taken away": ("sight", change("rs", True, blindness=None, blindness_upper=None)),
    "bound taken away": ("sight", change("rs", True, blindness_upper=None)),
    "blindness of an abstention":
        ("sight", change("rs", False, blindness=0.0, blindness_upper=0.0034479)),
    "data radius taken away": ("sight", change("rs", True, data_radius=None)),
    "data radius of an abstention": ("sight", change("rs", False, data_radius_99=0.1)),
    "data radius of a ball up": ("sight", change("rs", True, **scaled("data_radius", 1 + 1e-15))),
    "data radius of a ball down": ("sight", change("ddrs", True, **scaled("data_radius", 0.99))),
    "data radius beyond the widest axis":
        ("sight", change("rddrs", True, data_radius=lambda r: r["radius"] * r["max_axis"] * 1.01)),
    "data radius up by 1e-6":
        ("data radii", change("rddrs", True, **scaled("data_radius", 1 + 1e-6))),
    "data radii exchanged": (
        "data radii",
        change("rddrs_tr", True, data_radius=lambda r: r["data_radius_99"]),
    ),
}  # fmt: skip


def test_counts_on_rounded_pixels_are_drawn_again(original: Made, tmp_path: Path):
    run = replace(RUN, methods=("rs", "rddrs"), indices="0:160:40", quantisation=3)
    certify_here(run, tmp_path / "rounded", original.checkpoint)
    sound = verified(tmp_path / "rounded", checkpoint=original.checkpoint, resample=8)
    assert is_sound(sound) and "redrawn" not in found(sound), as_text(sound)
    (redrawn,) = (one for one in sound if one.check == "redrawn")
    assert redrawn.checked == "8 rows"
    plain, rounded = (
        {(row["method"], row["index"]): row["count"] for row in read_rows(folder)}
        for folder in (original.folder, tmp_path / "rounded")
    )
    assert any(plain[key] != count for key, count in rounded.items())  # so that rounding matters


@pytest.mark.parametrize(("check", "spoil"), SPOILT.values(), ids=SPOILT)
def test_what_is_spoilt_is_found(made: Made, check, spoil):
    spoil(made.folder)
    outcomes = verified(made.folder)
    assert check in found(outcomes), as_text(outcomes)
    assert not is_sound(outcomes)


@pytest.mark.parametrize(
    ("check", "spoil"),
    [
        # The same axes in another order: no size gives it away.
        ("redrawn", change_scales("ancer", lambda one: one[::-1].copy(), rehash=True)),
        ("redrawn", change("rs", True, count=lambda row: row["count"] + 1)),
        ("redrawn", change("rs", True, prediction=lambda r: r["prediction"] ^ 1, correct=False)),
        ("fresh samples", change("rs", True, count=300)),
        ("others inside", change("rddrs_tr", True, others_inside=1)),
        ("blindness", change("rs", True, **BLIND)),
    ],
)
def test_what_only_samples_tell_is_found(made: Made, check, spoil):
    spoil(made.folder)
    outcomes = verified(made.folder, checkpoint=made.checkpoint, resample=100)
    assert check in found(outcomes), as_text(outcomes)


def test_a_small_size_is_a_warning(made: Made):
    small = scaled(("l2_radius", "proxy_radius"), 0.8) | scaled("radius", 0.9)
    small |= scaled(("data_radius", "data_radius_99"), 0.8)
    small |= {"log_volume": lambda row: row["log_volume"] - 20}
    change("rddrs", True, **small)(made.folder)
    outcomes = verified(made.folder)
    assert {"radius", "sizes", "data radii"} <= found(outcomes, Severity.WARNING).keys()
    assert found(outcomes).keys() <= {"ddrs ball", "changed images"}


@pytest.mark.parametrize(
    ("name", "heading", "by"),
    [
        ("table.md", "ACR", 0.001),
        ("table.md", "ACR", -0.001),
        ("table.md", "@0.5", 0.1),
        ("table.md", "abstained", -1),
        ("table.md", "images", 1),
        ("table.csv", "proxy_acr", 1e-9),
        ("table.csv", "l2@0.25", 1 / 6),
        ("table.csv", "sighted", 0.1),
        ("table.csv", "not_sighted", 1),
        ("table.csv", "proxy_median", 0.1),
        ("table.md", "median", 0.01),
    ],
)
def test_a_printed_number_that_is_not_the_floor_is_found(made: Made, name, heading, by):
    (path,) = (path for path in made.tables if path.name == name)
    shift_cell(path, heading, by)
    outcomes = verified(made.folder, tables=[path])
    assert "table" in found(outcomes), path.read_text()


@pytest.mark.parametrize(
    ("bound", "said"),
    [("0.3", "of blindness at most 0.3 ("), ("1", "All rows count, sighted or not")],
)
def test_a_markdown_table_says_what_blindness_it_allows(original, tmp_path, bound, said):
    folder, path = str(original.folder), tmp_path / "figures" / "table.md"
    assert cli.main(["curves", folder, "--out", str(path.parent), "--sighted", bound]) == 0
    assert not found(verified(original.folder, tables=[path]))
    assert said in path.read_text()
    path.write_text(path.read_text().replace(said, "blindness at most 1e-6 (upper bound)"))
    assert "table" in found(verified(original.folder, tables=[path]))


def test_columns_and_lines_that_are_not_of_this_run_are_named(made: Made):
    path = made.tables[1]
    assert path.name == "table.csv"
    header, line, *_ = path.read_text().splitlines()
    other = line.replace("0.5,rs", "0.25,rs")
    path.write_text(f"{header},novel_acr\n{line},1.5\n{other},1.5\n")
    outcomes = verified(made.folder, tables=[path])
    assert "novel_acr: not checked" in found(outcomes, Severity.NOTE)["table"].found
    assert "sigma 0.25" in found(outcomes, Severity.WARNING)["table"].found
    assert is_sound(outcomes)


def test_what_cannot_be_checked_is_listed(made: Made):
    for pattern in ("_scales-*", "_SUCCESS"):
        unlink(pattern)(made.folder)
    outcomes = verified(made.folder, checkpoint=made.checkpoint, resample=5)
    assert skipped(outcomes).keys() == {
        *("manifest", "scales", "axes", "data radii", "redrawn", "fresh samples", "blindness"),
        *("others inside", "changed images", "table"),
    }
    assert "--save-scales" in skipped(outcomes)["scales"]
    assert "not checked: manifest, scales, axes, data radii" in as_text(outcomes)
    assert is_sound(outcomes)  # an unfinished run is a warning
    assert "manifest" in found(outcomes, Severity.WARNING)


def test_a_run_of_failed_images_is_sound(made: Made):
    """The rows of an image of which nothing could be computed, as the driver writes them."""
    nothing = {one.name: one.blank for one in COLUMNS if one.value and one.name != "n"}
    nothing |= {"correct": False, "error": "actor lost"}
    edit(lambda row: row["index"] == 40, **nothing)(made.folder)
    unlink("_scales-00000*")(made.folder)
    errors = found(verified(made.folder))
    assert errors.keys() == {"scales"}  # of the other image of that file


def test_the_command_line(made: Made, capsys):
    folder = str(made.folder)
    assert cli.main(["verify", folder, "--tables", *map(str, made.tables)]) == cli.COMPLETE
    printed = capsys.readouterr().out
    assert "p_lower: 42 rows: ok\n" in printed
    assert "redrawn: not checked: no --resample given\n" in printed
    assert printed.splitlines()[-1].startswith("sound: 0 errors, 0 warnings")
    change("rs", True, **scaled("radius", 1.1))(made.folder)
    assert cli.main(["verify", folder]) == UNSOUND == 1
    lines = capsys.readouterr().out.splitlines()
    rs = [
        row["index"] for row in read_rows(made.folder) if row["method"] == "rs" and row["radius"]
    ]
    start = f"error: radius: image {rs[0]}, rs: wanted radius of"
    assert any(line.startswith(start) for line in lines)
    assert lines[-1].startswith("UNSOUND: ")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["nowhere"], "nowhere must be the folder of a run, got no such folder"),
        (["{folder}/_config.json"], "must be the folder of a run, got a file"),
        (["{folder}", "--resample", "3"], "give --checkpoint"),
        (["{folder}", "--resample", "-1"], "--resample must not be negative"),
        (["{folder}", "--pairs", "-1"], "--pairs must not be negative"),
        (["{folder}", "--checkpoint", "nothing"], "no checkpoint file"),
        (["{folder}", "--tables", "{folder}/_config.json"], "must be a table.csv or table.md"),
        (["{folder}", "--tables", "nothing.csv"], "no file nothing.csv: give a table.md"),
    ],
)
def test_wrong_usage(original: Made, capsys, flags, text):
    arguments = [flag.format(folder=original.folder) for flag in flags]
    assert cli.main(["verify", *arguments]) == cli.WRONG
    assert text in one_line(capsys)


def test_another_network_is_found(made: Made, tmp_path: Path):
    other = Path(shutil.copy(made.checkpoint, tmp_path / "other.safetensors"))
    flip(other.name, 0.999999)(tmp_path)
    outcomes = verified(made.folder, checkpoint=other, resample=3)
    assert found(outcomes).keys() == {"checkpoint"}
    assert skipped(outcomes)["redrawn"] == "the checkpoint is another"


def test_twenty_findings_are_shown_and_the_rest_counted():
    every = [Finding(f"image {k}, rs", "1", "2") for k in range(30)]
    radius, axes = Outcome("radius", "30 rows", tuple(every)), Outcome("axes", "", (every[7],))
    text = as_text([radius, axes])
    assert text.count("error: radius") == 19 and text.count("error: axes") == 1
    assert "and 11 more of 31 findings" in text


def test_a_run_of_the_version_before_is_read():
    outcomes = verified(RECORDED)
    assert is_sound(outcomes) and not found(outcomes, Severity.WARNING), as_text(outcomes)
    left = skipped(outcomes)
    assert left["disjoint rows"] == "of version 0.7.0; run `rddrs disjoint`"
    assert not {"p_lower", "settings", "volumes", "sight"} & left.keys()


def test_sight_that_was_not_measured_is_null(made: Made, tmp_path: Path):
    out = tmp_path / "unmeasured"
    run = replace(RUN, methods=("rs",), sight_samples=0)
    certify_here(run, out, made.checkpoint)
    outcomes = verified(out, checkpoint=made.checkpoint, resample=6)
    assert is_sound(outcomes), as_text(outcomes)
    assert skipped(outcomes).keys() >= {"data radii", "blindness"}
    change("rs", True, data_radius=lambda row: row["l2_radius"])(out)
    assert "sight" in found(verified(out))


def test_a_configuration_of_another_version_is_refused(made: Made, capsys):
    spoil = edit_json("_config.json", lambda it: it["config"].update(code_version="9.9", alpha=[]))
    spoil(made.folder)
    assert cli.main(["verify", str(made.folder)]) == cli.WRONG
    error = capsys.readouterr().err
    assert "was written by rddrs_dist 9.9" in error and error.count("\n") == 1

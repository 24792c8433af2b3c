"""Certificates in words."""

import pytest

from rddrs_dist import cli
from rddrs_dist.results import read
from tests.small_run import Made


def test_it_says_what_the_row_says(original: Made, capsys: pytest.CaptureFixture[str]):
    rows = read(original.folder).query("method == 'aim' and prediction >= 0")
    row = rows.iloc[0]
    command = ["explain", str(original.folder), str(row["index"]), "--method", "aim"]
    assert cli.main(command) == cli.COMPLETE
    text = capsys.readouterr().out
    assert text.startswith(f"Aimed, test image {row['index']} of digits, sigma 0.5\n")
    assert f"Class {row['prediction']}, " in text
    assert "a probability of 1 % at most" in text and "mixtures" in text
    told = float(text.split("Rotation of up to ")[1].split()[0])
    assert row["rotation_deg"] - 1e-4 <= told <= row["rotation_deg"]
    assert f"{row['blindness']:.2%}".removesuffix("%") in text


def test_an_abstention_holds_nothing(original: Made, capsys: pytest.CaptureFixture[str]):
    row = read(original.folder).query("method == 'rs' and prediction == -1").iloc[0]
    assert cli.main(["explain", str(original.folder), str(row["index"])]) == cli.COMPLETE
    blocks = capsys.readouterr().out.split("\n\n")
    assert len(blocks) == 7
    (rs,) = (one for one in blocks if one.startswith("RS"))
    assert "Nothing is certified" in rs and "Rotation" not in rs


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["7"], "image 7 must be one of the 6 images of the run"),
        (["0", "--method", "best"], "--method must be one of rs, ddrs"),
    ],
)
def test_what_is_not_there_is_refused(flags, complaint, original: Made, capsys):
    assert cli.main(["explain", str(original.folder), *flags]) == cli.WRONG
    assert complaint in capsys.readouterr().err

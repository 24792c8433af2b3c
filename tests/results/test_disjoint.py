"""Files of a disjoint pass beside the rows of a run, without a pass."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from rddrs_dist.results import disjoint as results
from rddrs_dist.results import files, read
from rddrs_dist.results.store import Store

from .rows import row


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two images."""
    with Store.open(tmp_path, run_id="a", config={}, metadata={}) as store:
        store.write(0, [row(0), row(1)])
    return tmp_path


def write(folder: Path) -> None:
    """Writes a pass in which the two regions overlapped."""
    sizes = {f"disjoint_{kind}radius": 0.5 for kind in ("", "l2_", "proxy_")}
    rows = pd.DataFrame({"index": [0, 1], "method": "rs", **sizes})
    rows = rows.assign(disjoint_scale_sha256="0" * 64, contact_factor=0.5, witness="conflict")
    rows = rows.assign(nearest_conflict=[1, 0], rule="narrow")
    pairs = {"first": np.array([0]), "second": np.array([1])}
    normal = np.arange(6, dtype=np.float32).reshape(3, 2).T[:1]
    results.write(folder, rows, {"rs": pairs | {"normal": normal}}, {"rule": "narrow"})


def test_what_is_written_is_read_beside_the_rows(folder: Path):
    write(folder)
    frame = read(folder)
    assert frame["nearest_conflict"].tolist() == [1, 0] and (frame["disjoint_radius"] == 0.5).all()
    assert list(frame.columns[-len(results.COLUMNS) :]) == list(results.COLUMNS)
    assert results.facts(folder) == {"rule": "narrow"}
    content = load_file(folder / results.HYPERPLANES)
    assert content["rs/normal"].tolist() == [[0.0, 2.0, 4.0]]
    assert [content[f"rs/{name}"].tolist() for name in ("first", "second")] == [[0], [1]]
    results.clear(folder)
    assert "rule" not in read(folder) and not list(folder.glob("_disjoint*"))


def test_a_file_that_cannot_be_written_says_what_to_do(folder: Path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="run `rddrs disjoint` again"):
        write(folder)
    assert not list(folder.glob("_disjoint*")) and results.facts(folder) is None


def test_a_table_of_other_columns_is_refused(folder: Path):
    write(folder)
    table = files.read_table(folder / results.DISJOINT)
    files.replace(folder / results.DISJOINT, files.encode(table.drop_columns(["rule"])))
    with pytest.raises(ValueError, match="another version; run `rddrs disjoint"):
        read(folder)


def test_scales_want_a_pass(folder: Path):
    with pytest.raises(FileNotFoundError, match="run `rddrs disjoint"):
        results.scales(folder)

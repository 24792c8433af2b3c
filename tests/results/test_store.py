"""The run's folder: whole parts or none, one driver, one run, resumable."""

import errno
import hashlib
import json
import os
from pathlib import Path
from unittest import mock

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from rddrs_dist.results import read
from rddrs_dist.results.store import Store

from .rows import row

CONFIG = {"dataset": "digits", "sigma": 0.5, "rddrs": {"step": 0.5, "steps": 100}}


def opened(out: Path, *, run_id: str = "one", config: dict | None = None, resume: bool = False):
    return Store.open(
        out,
        run_id=run_id,
        config=config or CONFIG,
        metadata={"weights_sha256": "w", "data_sha256": "d"},
        resume=resume,
    )


def filled(out: Path, shards: int = 2, **names) -> Path:
    with opened(out, **names) as store:
        for shard in range(shards):
            store.write(shard, [row(shard, shard=shard)])
    return out


def test_parts_hold_rows_and_metadata_and_the_folder_reads_with_plain_pyarrow(tmp_path):
    out = tmp_path / "new" / "sigma=0.5"
    with opened(out) as store:
        path = store.write(3, [row(9, shard=3), row(10, shard=3)])
        store.complete({"rows": 2})
    assert path.name == "part-00003.parquet"
    assert pq.read_table(out)["index"].to_pylist() == [9, 10]
    assert pyarrow.dataset.dataset(out, format="parquet").count_rows() == 2
    stored = pq.read_schema(path).metadata
    assert stored[b"rddrs_dist.run_id"] == b"one"
    assert stored[b"rddrs_dist.weights_sha256"] == b"w"
    assert json.loads(stored[b"rddrs_dist.config"]) == CONFIG


def test_config_comes_first_and_success_last_with_a_true_manifest(tmp_path):
    with opened(tmp_path) as store:
        assert json.loads((tmp_path / "_config.json").read_text())["config"] == CONFIG
        path = store.write(0, [row()])
        assert not read(tmp_path).attrs["complete"]
        store.complete({"failed": 0})
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    assert manifest["parts"] == [{"name": path.name, "rows": 1, "bytes": size, "sha256": digest}]
    assert (manifest["run_id"], manifest["summary"]) == ("one", {"failed": 0})
    assert read(tmp_path).attrs["complete"]


def test_only_a_used_folder_needs_resume_and_then_keeps_its_parts(tmp_path):
    with opened(tmp_path / "absent", resume=True) as store:
        assert store.finished() == frozenset()
    tmp_path = filled(tmp_path / "used")
    with pytest.raises(ValueError, match="pass --resume to continue it or another --out"):
        opened(tmp_path)
    with opened(tmp_path, resume=True) as store:
        assert store.finished() == {0, 1}


def test_parts_without_their_config_file_are_left_alone(tmp_path):
    (filled(tmp_path) / "_config.json").unlink()
    with pytest.raises(ValueError, match=r"a run with its _config.json, got 2 other entries"):
        opened(tmp_path, resume=True)


def test_another_run_is_refused_and_the_differing_fields_are_named(tmp_path):
    filled(tmp_path)
    other = {"dataset": "digits", "sigma": 1.0, "rddrs": {"step": 1.25, "steps": 100}}
    with pytest.raises(ValueError, match="holds run one, not run two") as caught:
        opened(tmp_path, run_id="two", config=other, resume=True)
    message = str(caught.value)
    assert "\n" not in message
    assert "sigma: 0.5 -> 1.0" in message and "rddrs.step: 0.5 -> 1.25" in message
    assert "steps" not in message and "dataset" not in message


def test_a_second_driver_is_refused_and_the_first_goes_on(tmp_path):
    with opened(tmp_path) as store:
        with pytest.raises(ValueError, match="in use by another driver"):
            opened(tmp_path, resume=True)
        store.write(0, [row()])
    with opened(tmp_path, resume=True) as store:
        assert store.finished() == {0}


def test_a_refused_opening_gives_the_lock_back(tmp_path):
    filled(tmp_path)
    with pytest.raises(ValueError, match="--resume") as caught:
        opened(tmp_path)
    with opened(tmp_path, resume=True):
        pass
    assert caught.tb  # which has kept the lock object alive until here


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"hold a run .*, got 1 other entries.*thesis.tex"):
        opened(tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="must be a folder, got a file"):
        opened(tmp_path / "file")
    with pytest.raises(ValueError, match=r"cannot be written.*Not a directory; pass another"):
        opened(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("filelock.FileLock.acquire", OSError(errno.EROFS, "Read-only file system")),
        ("os.fsync", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch, call, error):
    monkeypatch.setattr(call, mock.Mock(side_effect=error))
    with pytest.raises(ValueError, match=f"cannot be written: .*{error.strerror}") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    with opened(tmp_path):
        pass  # nothing was left that would need --resume


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_no_partial_part_and_the_earlier_ones_readable(
    tmp_path, monkeypatch, call
):
    with opened(tmp_path) as store:
        store.write(0, [row(0)])
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(os, call, mock.Mock(side_effect=full))
        with pytest.raises(OSError, match=r"part-00001.*No space left on device") as caught:
            store.write(1, [row(1, shard=1)])
        monkeypatch.undo()
        assert caught.value.errno == errno.ENOSPC and "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["part-00000.parquet"]
        assert list(read(tmp_path)["index"]) == [0]
        store.write(1, [row(1, shard=1)])
    assert list(read(tmp_path)["index"]) == [0, 1]


def test_an_interrupt_while_writing_leaves_no_temporary_file(tmp_path, monkeypatch):
    with opened(tmp_path) as store:
        monkeypatch.setattr(os, "replace", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.write(0, [row(0)])
        assert not list(tmp_path.glob("*part*"))


def test_a_torn_temporary_file_is_removed_and_never_read(tmp_path):
    filled(tmp_path)
    torn = tmp_path / "_tmp-part-00002.parquet"
    torn.write_bytes((tmp_path / "part-00000.parquet").read_bytes()[:100])
    assert len(read(tmp_path)) == 2
    with opened(tmp_path, resume=True) as store:
        assert store.finished() == {0, 1}
    assert not torn.exists()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    last = start + column.total_compressed_size - 1  # of a page's values, which have a checksum
    flipped = content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :]
    path.write_bytes({"truncated": content[:-30], "empty": b"", "flipped": flipped}[how])


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
def test_a_damaged_part_is_set_aside_and_its_shard_redone(tmp_path, caplog, how):
    with opened(tmp_path) as store:
        for shard in range(2):
            store.write(shard, [row(index, shard=shard) for index in range(50)])
        store.complete({})
    damage(tmp_path / "part-00001.parquet", how)
    with pytest.raises(ValueError, match=r"part-00001.* whole Parquet file"):
        read(tmp_path)
    with opened(tmp_path, resume=True) as store:
        assert store.finished() == {0}
        assert (tmp_path / "_corrupt-part-00001.parquet").exists()
        assert "part-00001.parquet" in caplog.text
        assert not read(tmp_path).attrs["complete"]
        store.write(1, [row(60, shard=1)])
    assert len(read(tmp_path)) == 51


def test_a_part_of_another_run_is_refused_by_read_and_set_aside_on_resume(tmp_path, caplog):
    here = filled(tmp_path / "here")
    there = filled(tmp_path / "there", run_id="two")
    (here / "part-00001.parquet").write_bytes((there / "part-00001.parquet").read_bytes())
    with pytest.raises(ValueError, match="of one run, got runs one, two"):
        read(here)
    with opened(here, resume=True) as store:
        assert store.finished() == {0}
    assert "it is of run two, not of run one" in caplog.text
    assert len(read(here)) == 1


def test_a_part_under_the_name_of_another_shard_is_set_aside(tmp_path):
    filled(tmp_path, shards=1)
    (tmp_path / "part-00000.parquet").rename(tmp_path / "part-00004.parquet")
    with opened(tmp_path, resume=True) as store:
        assert store.finished() == frozenset()


def test_rows_of_another_shard_are_refused(tmp_path):
    with opened(tmp_path) as store:
        with pytest.raises(ValueError, match=r"must all have shard 1, got \[0\]"):
            store.write(1, [row(0, shard=0)])
        assert not list(tmp_path.glob("*.parquet"))

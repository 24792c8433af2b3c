"""The classifier's files: bit for bit, whole or not at all, and refused where not the same."""

import json
from dataclasses import replace

import pytest
import torch

from rddrs_dist import DDRS, RS, Neighbours, SmoothedClassifier
from rddrs_dist.disjoint import saved
from rddrs_dist.noise import FullNoise, IsotropicNoise
from tests.disjoint.problems import BUDGET, Islands, classifier, images_of, same


@pytest.fixture
def kept(tmp_path):
    """A classifier of a method that can be loaded, and its folder."""
    method = DDRS(steps=20, candidate_every=10, learning_rate=1e-2, compare_samples=200)
    own = SmoothedClassifier(
        Islands(4), method, sigma=0.15, seed=0, event_shape=(1, 1, 4), budget=BUDGET
    )
    own.predict_many(images_of(30, 4))
    own.save(tmp_path / "classifier")
    return own, tmp_path / "classifier"


def test_a_saved_classifier_goes_on_bit_for_bit(kept):
    own, folder = kept
    again = SmoothedClassifier.load(folder, Islands(4))
    assert len(again.memory) == len(own.memory) > 4 and again.queries == own.queries
    assert {type(entry.region.noise) for entry in own.memory} == {IsotropicNoise, FullNoise}
    for one, other in zip(own.memory, again.memory, strict=True):
        assert torch.equal(one.region.noise.scale, other.region.noise.scale)
        assert torch.equal(one.region.centre, other.region.centre)
        assert torch.equal(one.narrow, other.narrow)
        assert (one.radius, one.certain, one.reach) == (other.radius, other.certain, other.reach)
    more = torch.cat([images_of(16, 4), images_of(8, 4, seed=7)])
    assert same(own.predict_many(more), again.predict_many(more))


def test_saving_again_writes_new_regions_alone_and_leaves_no_old_ones(kept):
    own, folder = kept
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("region-*")}
    own.predict_many(images_of(48, 4, seed=7)[30:])
    own.save(folder)
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("region-*")}
    assert before.items() < after.items() and len(after) == len(own.memory)
    fresh = SmoothedClassifier(
        own.model, RS(), sigma=0.1, seed=0, event_shape=(1, 1, 4), budget=BUDGET
    )
    fresh.save(folder)
    assert not list(folder.glob("region-*"))
    assert len(SmoothedClassifier.load(folder, own.model).memory) == 0


def test_a_save_that_fails_leaves_the_earlier_state(kept, monkeypatch):
    own, folder = kept
    known = len(own.memory)
    own.predict_many(images_of(48, 4, seed=7)[30:])
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match=r"was not written: No space left; make room") as caught:
        own.save(folder)
    assert "\n" not in str(caught.value)
    assert len(SmoothedClassifier.load(folder, own.model).memory) == known < len(own.memory)


def refused(folder, model=None, neighbours=None) -> str:
    """The one line that a folder is refused with."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        SmoothedClassifier.load(folder, model or Islands(4), neighbours)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_network_or_a_damaged_file_is_refused(kept, tmp_path):
    _, folder = kept
    assert "network of sha256" in refused(folder, Islands(4, seed=1))
    assert "no classifier in" in refused(tmp_path / "nowhere")
    region = sorted(folder.glob("region-*"))[1]
    content = region.read_bytes()
    region.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{region.name} must be as save() wrote it" in refused(folder)
    region.unlink()
    assert "No such file" in refused(folder)
    region.write_bytes(content)
    file = folder / "classifier.json"
    text = file.read_text()
    for broken in (text[:100], text.replace('"prediction": 1', '"prediction": 2'), "[]", "{}"):
        file.write_text(broken)
        assert "classifier.json must be as save() wrote it" in refused(folder)
    content = json.loads(text)
    del content["sha256"]
    content["method"]["unknown"] = 1
    file.write_text(json.dumps(content | {"sha256": saved._sha256(content)}))
    assert "got fields that do not fit" in refused(folder)
    file.write_text(json.dumps(json.loads(text) | {"schema_version": 99}))
    assert "must have schema version 2, got 99" in refused(folder)


def test_other_training_images_are_refused(tmp_path):
    known = Neighbours(images_of(4, 3), torch.arange(4))
    own = SmoothedClassifier(
        Islands(3), RS(), sigma=0.1, seed=0, event_shape=(1, 1, 3), neighbours=known
    )
    own.save(tmp_path)
    assert "neighbours of sha256" in refused(tmp_path, Islands(3))
    assert "neighbours of sha256" in refused(
        tmp_path, Islands(3), neighbours=replace(known, labels=1 - known.labels)
    )
    assert SmoothedClassifier.load(tmp_path, Islands(3), known).neighbours is known


def test_a_method_that_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="to be saved, got Wild: add it to METHODS"):
        classifier().save(tmp_path)

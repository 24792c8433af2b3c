"""The deployed classifier: constant, reproducible, abstaining, refusing; and its files."""

import json
from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from rddrs_dist import ABSTAIN, DDRS, RDDRSTR, RS, Ancer, Method, Neighbours, SmoothedClassifier
from rddrs_dist.disjoint import saved
from rddrs_dist.disjoint.classifier import CERTIFICATE, MEMORY
from rddrs_dist.disjoint.memory import Entry
from rddrs_dist.noise import FullNoise, IsotropicNoise
from tests.disjoint.problems import (
    BUDGET,
    KINDS,
    Islands,
    classifier,
    exact,
    filled,
    images_of,
    same,
)
from tests.oracles import Linear


def inner_points(entry: Entry, count: int, seed: int) -> Tensor:
    """Points (count, d) float32 of a region: half at random, half just inside along axes."""
    generator = torch.Generator().manual_seed(seed)
    scale = entry.region.noise.matrix()[0]
    d = len(scale)
    u = nn.functional.normalize(torch.randn(count, d, generator=generator).double())
    frame = torch.linalg.svd(scale).Vh.flip(0)  # narrowest axis first
    u[: count // 2] = torch.cat([frame[:2], -frame[:2]]).repeat(count // 8, 1)
    length = 1 - torch.rand(count, 1, generator=generator).double() ** 4
    length[: count // 2] = 1 - 1e-6
    return (entry.point + entry.certain * length * u @ scale.T).float()


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_same_everywhere_in_a_remembered_region(kind: str):
    own = filled(kind=kind)
    tried = 0
    for number, entry in enumerate(own.memory):
        for point in inner_points(entry, 16, number):
            if exact(entry, point) >= entry.certain * (1 - 1e-9):
                continue  # rounded to single precision it is outside
            answer = own.predict(point.view(1, 1, -1))
            assert (answer.prediction, answer.source) == (entry.prediction, MEMORY)
            assert answer.entry <= number and answer.certificate is None
            tried += 1
    assert len(own.memory) > 15 and tried > 12 * len(own.memory)
    assert len({entry.prediction for entry in own.memory}) == 3


def test_earlier_regions_never_change():
    own, known = classifier(), []
    for image in images_of(40, 4):
        own.predict(image)
        entries = list(own.memory)
        for (entry, scale, radius), now in zip(known, entries, strict=False):
            assert now is entry and now.radius == radius
            assert torch.equal(now.region.noise.scale, scale)
        known = [(entry, entry.region.noise.scale.clone(), entry.radius) for entry in entries]
    assert len(known) > 15


def test_answers_depend_on_seed_and_order_alone():
    images = images_of(20, 4)
    first, again = classifier(), classifier()
    one_by_one = [first.predict(image[None]) for image in images]
    assert same(one_by_one, again.predict_many(images))
    assert not same(one_by_one, classifier(seed=4).predict_many(images))
    assert not same(one_by_one, classifier().predict_many(images.flip(0))[::-1])
    assert [a.query for a in one_by_one] == list(range(20))


def test_a_changed_image_is_not_the_remembered_one():
    own, image = classifier(size=0.1), images_of(1, 4)[0]
    assert own.predict(image).entry == 0
    centre = own.memory[0].region.centre.clone()
    image += 1
    assert torch.equal(own.memory[0].region.centre, centre)


@pytest.mark.parametrize("margin", [0.0, 0.002, 0.005, 0.5])
def test_it_abstains_where_the_count_does_not_tell_and_remembers_nothing(margin: float):
    model = Linear(torch.tensor([1.0, 0.0]))
    own = SmoothedClassifier(model, RS(), sigma=0.1, seed=0, event_shape=(2,), budget=BUDGET)
    for k in range(6):
        known = len(own.memory)
        answer = own.predict(torch.tensor([margin, float(k)]))
        count = int(answer.certificate.count[0])
        told = binomtest(count, BUDGET.n, 0.5, alternative="greater").pvalue <= BUDGET.alpha
        assert told == (answer.prediction != ABSTAIN) and answer.source == CERTIFICATE
        assert told == (len(own.memory) == known + 1) and told == (answer.radius > 0)
        assert told or margin < 0.5


@pytest.mark.parametrize(
    "method",
    [
        RS(),
        DDRS(steps=50, candidate_every=25),
        Ancer(steps=5, compare_samples=200),
        RDDRSTR(blindness=1.0, steps=8),
    ],
    ids=lambda m: m.name,
)
def test_every_method_stays_on_its_side_of_a_hyperplane(method: Method, tmp_path):
    """A linear classifier: no region may cross the boundary w.x = 0.2, and all is saved."""
    w = torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    model = Linear(w, b=0.6)
    own = SmoothedClassifier(
        model, method, sigma=0.1, seed=0, event_shape=(1, 2, 3), budget=BUDGET,
        start=DDRS(steps=20, candidate_every=10),
    )  # fmt: skip
    images = images_of(6, 6).view(6, 1, 2, 3)
    own.predict_many(images)
    assert len(own.memory) > 1
    for entry in own.memory:
        margin = float(model.margin(entry.region.centre))
        assert entry.region.support(w.view(1, 1, 2, 3))[0] <= abs(margin)
        assert entry.prediction == int(margin < 0)
    own.save(tmp_path)
    again = SmoothedClassifier.load(tmp_path, model)
    assert (again.method, again.start, again.budget) == (own.method, own.start, own.budget)
    more = images_of(2, 6, seed=5).view(2, 1, 2, 3)
    assert same(own.predict_many(more), again.predict_many(more))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, 1, 4), torch.nan), "and finite, got NaN or infinity"),
        (torch.zeros(1, 1, 5), r"of shape \(1, 1, 4\), got shape \(1, 1, 5\)"),
        (torch.zeros(2, 1, 1, 4), "pass one image at a time"),
        (torch.zeros(1, 1, 4).double(), "got torch.float64: pass image.float()"),
    ],
)
def test_a_query_that_is_no_image_is_refused_and_not_counted(image: Tensor, message: str):
    own = classifier()
    with pytest.raises(ValueError, match=message) as caught:
        own.predict(image)
    assert "\n" not in str(caught.value) and own.queries == 0


def test_a_wrong_sigma_or_seed_is_refused_at_once():
    with pytest.raises(ValueError, match="sigma must be positive"):
        classifier(sigma=-1.0)
    with pytest.raises(ValueError, match="seed and indices must be non-negative"):
        classifier(seed=-1)


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

"""Answers of the deployed classifier: constant, reproducible, abstaining, refusing."""

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from rddrs_dist import ABSTAIN, DDRS, RDDRSTR, RS, Ancer, Method, SmoothedClassifier
from rddrs_dist.disjoint.classifier import CERTIFICATE, MEMORY
from rddrs_dist.disjoint.memory import Entry
from tests.disjoint.problems import (
    BUDGET,
    KINDS,
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
        RDDRSTR(steps=8),
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

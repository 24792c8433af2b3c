"""URS: one noise for all images, on the digits and on a linear classifier."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rddrs_dist import checkpoints, data
from rddrs_dist.methods import URS, Context
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise
from rddrs_dist.sight import measured
from rddrs_dist.smoothing import Streams
from tests.oracles import Linear

SIGMA = 0.25
METHOD = URS(samples=600, drop=0.03, steps=20)
DIAGONAL = replace(METHOD, structure="diagonal")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    network = Path(__file__).parents[1] / "recorded" / "digits-lenet-0.25.safetensors"
    return checkpoints.load(network).model


@pytest.fixture(scope="module")
def known() -> Neighbours:
    images = data.load("digits", "train")
    return Neighbours(torch.from_numpy(images.images), torch.from_numpy(images.labels))


def context(known: Neighbours | None, seed: int = 0, sigma: float = SIGMA) -> Context:
    return Context(sigma, Streams.of(seed, [0]), neighbours=known)


@pytest.fixture(scope="module")
def fitted(model, known) -> Noise:
    return METHOD.prepare(model, context(known))


@pytest.fixture(scope="module")
def diagonal(model, known) -> Noise:
    return DIAGONAL.prepare(model, context(known))


@torch.no_grad()
def probability(model: nn.Module, noise: Noise, known: Neighbours, times: int = 8) -> float:
    """Share of the MEASURED images that keep their label, over fresh samples."""
    half = measured(len(known.labels))
    images, labels = known.images[half], known.labels[half]
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(times, *images.shape, generator=generator)
    answers = [model(images + noise.colour(one.unsqueeze(0))[0]).argmax(1) for one in z]
    return float((torch.stack(answers) == labels).double().mean())


@pytest.mark.parametrize("which", ["fitted", "diagonal"])
def test_the_noise_is_larger_and_costs_what_it_may(which, model, known, request):
    """Images that no fit has seen keep their label nearly as often as under sigma."""
    noise = request.getfixturevalue(which)
    start = IsotropicNoise.constant(SIGMA, known.images[:1])
    given_up = probability(model, start, known) - probability(model, noise, known)
    assert given_up < METHOD.drop + 0.015
    assert float(noise.mean_axis) > SIGMA * (1.3 if which == "fitted" else 1.05)
    assert isinstance(noise, FullNoise if which == "fitted" else DiagonalNoise)
    assert len(noise) == 1 and noise.is_lower


def test_a_full_scale_has_more_volume_than_a_diagonal_one(fitted, diagonal):
    assert float(fitted.mean_axis) > 1.1 * float(diagonal.mean_axis)


@pytest.mark.parametrize("floor", [0.8, 1.2])
def test_no_axis_is_below_the_floor_or_above_the_cap(floor, model, known):
    for structure in ("full", "diagonal"):
        changes = {"structure": structure, "floor": floor, "cap": 0.08, "drop": 0.3}
        method = replace(METHOD, **changes, samples=200, start_samples=2000)
        axes = method.prepare(model, context(known)).axes
        assert float(axes.min()) >= floor * SIGMA * (1 - 1e-5)
        assert float(axes.max()) <= 0.08 * 8 * (1 + 1e-5)
        assert float(axes.max()) > 0.08 * 8 * 0.7  # so that the cap was felt


def test_more_may_be_given_up_for_more_volume(fitted, model, known):
    more = replace(METHOD, drop=0.1).prepare(model, context(known))
    assert float(more.mean_axis) > 1.1 * float(fitted.mean_axis)


def test_the_fit_repeats_itself_and_depends_on_the_seed(model, known):
    quick = replace(METHOD, samples=200, steps=4, start_samples=500)
    first, second, other = (quick.prepare(model, context(known, seed)) for seed in (0, 0, 1))
    assert torch.equal(first.scale, second.scale) and not torch.equal(first.scale, other.scale)


def test_images_that_measure_are_not_looked_at(model, known):
    quick = replace(METHOD, samples=200, steps=4, start_samples=500)
    images, labels = known.images.clone(), known.labels.clone()
    half = measured(len(labels))
    images[half], labels[half] = torch.nan, 0
    found = quick.prepare(model, context(Neighbours(images, labels)))
    assert torch.equal(found.scale, quick.prepare(model, context(known)).scale)


def test_a_class_may_be_absent_from_the_training_images(model, known):
    chosen = (known.labels != 3).nonzero()[:, 0]
    part = Neighbours(known.images[chosen], known.labels[chosen])
    assert float(METHOD.prepare(model, context(part)).mean_axis) > 1.2 * SIGMA


def test_only_the_normal_of_a_boundary_is_narrow():
    """A linear classifier: all else grows to the cap, and the scale stays at the floor along w."""
    images = torch.rand(400, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    classifier = Linear(torch.tensor([3.0, 0, 0, 0, 0, 0]), b=1.5, temperature=0.05)
    labels = classifier(images).argmax(1)
    noise = URS(samples=1000, steps=40).prepare(
        classifier, context(Neighbours(images, labels), sigma=0.1)
    )
    axes, frame = torch.linalg.eigh(noise.covariance()[0])
    assert abs(float(frame[0, 0])) > 0.99
    assert float(axes[0].sqrt()) < 0.15 < 1.5 < float(axes[1].sqrt())


def test_all_images_get_that_noise_with_what_is_known_of_it(fitted, model, known):
    given = replace(context(known), universal=fitted, streams=Streams.of(0, range(3)))
    fit = METHOD.fit(model, known.images[:3], given)
    assert fit.noise.scale.shape == (3, 64, 64)
    assert all(torch.equal(one, fitted.scale[0]) for one in fit.noise.scale)
    torch.testing.assert_close(fit.noise.min_axis, FullNoise(fit.noise.scale, (1, 8, 8)).min_axis)
    assert {one.sha256 for one in fit.noise.pack()} == {fitted.pack()[0].sha256}


def test_a_fit_without_the_noise_or_images_is_refused(model, known):
    with pytest.raises(ValueError, match="urs has one noise for all images and the context has"):
        METHOD.fit(model, known.images[:1], context(known))
    with pytest.raises(ValueError, match="urs fits its noise to training images, and the context"):
        METHOD.prepare(model, context(None))


def test_a_stored_noise_is_taken_unless_another_is_wanted(fitted, diagonal):
    assert METHOD.taken(None) is None and METHOD.taken(fitted) is fitted
    assert replace(METHOD, refit=True).taken(fitted) is None
    assert DIAGONAL.taken(diagonal) is diagonal
    with pytest.raises(ValueError, match="holds a full noise .* urs.structure is diagonal"):
        DIAGONAL.taken(fitted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"structure": "round"}, "urs.structure must be full or diagonal, got round"),
        ({"drop": 0.0}, "urs.drop must be between 0 and 1"),
        ({"floor": -1.0}, "urs.floor must be positive"),
        ({"growth": 0.5}, r"urs.growth must be between 0 and 0\.4"),
        ({"steps": 0}, "urs.steps must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        URS(**changes)

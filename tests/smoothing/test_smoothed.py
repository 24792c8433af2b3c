"""A network on rounded pixels: counts are those of exact arithmetic."""

from fractions import Fraction

import pytest
import torch

from rddrs_dist import ABSTAIN, Budget, Certificate, Fit, IsotropicNoise, Noise, certify
from rddrs_dist.smoothing import Smoothed, Stage, Streams
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.smoothing.smoothed import Quantised
from tests.oracles import Linear, noises

EVENT = (1, 2, 3)
IMAGES = torch.rand(2, *EVENT, generator=torch.Generator().manual_seed(0))
NOISES = noises(IMAGES)
STREAMS = Streams.of(3, range(2))
ONES = Linear(torch.ones(6))


def certified(
    model: Linear, images: torch.Tensor, noise: Noise, n: int, levels: int
) -> Certificate:
    """On pixels rounded to multiples of 1 / levels."""
    smoothed, streams = Smoothed(model, levels), Streams.of(3, range(len(images)))
    return certify(smoothed, images, Fit.of(noise), Budget(n=n), streams)


def exact_levels(image, scale, z, levels: int) -> list[int]:
    """round(levels (x + S z)) in rational arithmetic."""
    found = []
    for pixel, row in zip(image.tolist(), scale.tolist(), strict=True):
        terms = (Fraction(s) * Fraction(value) for s, value in zip(row, z.tolist(), strict=True))
        found.append(round(levels * (Fraction(pixel) + sum(terms))))
    return found


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_counts_are_those_of_exact_arithmetic(noise):
    model, levels, n = Linear(torch.tensor([1.0, -2, 0.5, 1, 0, 0.7]), b=0.2), 255, 60
    wrapped = Quantised(model, levels, IMAGES, noise)
    drawn = class_counts(wrapped, IMAGES.double(), noise.double(), n, STREAMS, Stage.ESTIMATE)
    z = STREAMS.normal(Stage.ESTIMATE, 0, 0, n, IMAGES)
    scale = noise.matrix().float()
    for image, own, samples, counts in zip(IMAGES, scale, z, drawn, strict=True):
        rounded = [exact_levels(image.flatten(), own, one.flatten(), levels) for one in samples]
        inputs = (torch.tensor(rounded, dtype=torch.float64) / levels).float()
        answers = model(inputs.view(n, *EVENT)).argmax(1)
        assert counts.tolist() == [int((answers == 0).sum()), int((answers == 1).sum())]


def test_a_sample_in_the_middle_of_two_levels_counts_for_no_class():
    image = torch.full((1, *EVENT), 0.25)  # in the middle of 0 and 1/2, but not of 0 and 1/3
    noise = IsotropicNoise(torch.tensor([1e-20]), EVENT)
    two, three = (certified(ONES, image, noise, 100, levels) for levels in (2, 3))
    assert [two.count.tolist(), three.count.tolist()] == [[0], [100]]
    assert [one.region.prediction.tolist() for one in (two, three)] == [[ABSTAIN], [0]]


def test_the_bound_grows_with_the_noise_until_nothing_can_be_told():
    noises = [IsotropicNoise(torch.full((2,), sigma), EVENT) for sigma in (0.1, 1.0, 1e20)]
    errors = [Quantised(ONES, 255, IMAGES, noise).error for noise in noises]
    assert 0 < errors[0] < errors[1] < 1e-10 and errors[2] > 1
    assert certified(ONES, IMAGES, noises[2], 100, 255).count.tolist() == [0, 0]


def test_the_radius_is_that_of_the_rounded_boundary():
    """The line x > 0.3 becomes x > 0.375 where pixels are multiples of 1/4."""
    points, sigma = torch.tensor([0.45, 0.6, 0.9]).view(-1, 1, 1, 1), 0.25
    noise = IsotropicNoise.constant(sigma, points)
    found = certified(Linear(torch.ones(1), b=0.3), points, noise, 20_000, 4).region
    exact = (points.flatten().double().numpy() - 0.375) / sigma
    assert (found.prediction == 0).all() and (found.radius < exact).all()
    assert (found.radius > exact - 0.1).all()
    # The region is that of the images and the noise as they were given.
    assert found.noise is noise and found.centre is points


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"quantisation": 0}, "quantisation must be at least 1, got 0; 255 is that of images"),
        ({"precision": "bf16"}, "precision must be one of float32, tf32, got 'bf16'"),
    ],
)
def test_impossible_classifiers_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        Smoothed(ONES, **wrong)

"""What a fit holds, the better of several fits, and several methods in a row."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from rddrs_dist import (
    RS,
    Ancer,
    Context,
    DiagonalNoise,
    Fit,
    IsotropicNoise,
    Method,
    Status,
    Streams,
    fit_all,
)
from rddrs_dist.methods.base import best_of
from tests.oracles import Linear

EVENT = (1, 1, 3)
MODEL = Linear(torch.tensor([1.0, 0.0, 0.0]), temperature=0.1)
IMAGES = torch.tensor([[0.5, 0.2, 0.1], [0.9, 0.3, 0.3]]).view(2, *EVENT)
NOISE = IsotropicNoise(torch.tensor([0.3, 0.4]), EVENT)
CONTEXT = Context(0.2, Streams.of(0, [0, 1]))


def test_a_noise_alone_is_a_fit_without_limits():
    fit = Fit.of(NOISE)
    assert fit.noise is NOISE and fit.status == [Status.CLOSED_FORM] * 2
    assert fit.limit.tolist() == [np.inf] * 2 and fit.steps.tolist() == [0, 0]
    assert np.isnan(fit.objective).all()


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (None, "limit of a fit must be an array of 2 radii, got None: inf stands for no limit"),
        (1.0, "limit of a fit must be an array of 2 radii, got 1.0"),
        ([1.0], "must be of its 2 images each, got 2, 2, 2, 1"),
        ([1.0, 1.0, 1.0], "must be of its 2 images each, got 2, 2, 2, 3"),
        ([1.0, 0.0], "limits of a fit must be positive, got"),
        ([-1.0, 1.0], "limits of a fit must be positive, got"),
        ([1.0, np.nan], "limits of a fit must be positive, got"),
    ],
)
def test_a_limit_is_one_positive_number_per_image(limit, text):
    limit = np.array(limit) if isinstance(limit, list) else limit
    with pytest.raises(ValueError, match=text) as caught:
        replace(Fit.of(NOISE), limit=limit)
    assert "\n" not in str(caught.value)


def test_all_of_a_fit_is_of_the_same_images():
    for part in ({"status": [Status.DEADLINE]}, {"steps": np.zeros(1)}, {"noise": NOISE[:1]}):
        with pytest.raises(ValueError, match="must be of its [12] images each"):
            replace(Fit.of(NOISE), **part)


def test_the_better_candidate_is_kept_for_each_image():
    def fit(sigmas: list[float], steps: int) -> Fit:
        noise = DiagonalNoise(torch.tensor(sigmas).view(2, 1, 1, 1).expand(2, *EVENT), EVENT)
        limit = np.full(2, 9.0 - steps)
        return replace(Fit.of(noise), steps=np.full(2, steps), limit=limit)

    wide, narrow = fit([50.0, 0.5], 1), fit([0.3, 0.001], 2)
    best = best_of(MODEL, IMAGES, [wide, narrow], CONTEXT, 2000)
    assert best.noise.scale[:, 0, 0, 0].tolist() == pytest.approx([0.3, 0.5])
    assert best.steps.tolist() == [2, 1] and best.limit.tolist() == [7.0, 8.0]


@dataclass(frozen=True)
class Noted(Method):
    """Notes what it is given."""

    name: str = "noted"
    from_sigma_star: bool = False
    calls: list[tuple[str, Context]] = field(default_factory=list)

    def _samples(self) -> int:
        return 1

    def _fit(self, model, images, context):
        self.calls.append((self.name, context))
        return Fit.of(NOISE)


@pytest.mark.parametrize(
    ("asked", "fitted"),
    [
        ("rs", "rs"),  # nobody wants the start
        ("ddrs", "ddrs"),
        ("rs ddrs", "ddrs rs"),
        ("rs from", "ddrs rs from"),
        ("from rs also ddrs", "ddrs from rs also"),
    ],
)
def test_the_start_is_fitted_once_and_in_front_of_those_that_want_it(asked, fitted):
    calls: list[tuple[str, Context]] = []

    def method(name: str) -> Noted:
        return Noted(name, name in ("from", "also"), calls)

    methods = [method(name) for name in asked.split()]
    found = list(fit_all(methods, MODEL, IMAGES, CONTEXT, start=method("ddrs"), seconds=100))
    assert " ".join(one.name for one, _ in found) == fitted
    assert " ".join(name for name, _ in calls) == fitted
    for position, (_, context) in enumerate(calls):
        assert (context.sigma_star is None) == (position == 0)
        assert 0 < context.deadline - time.monotonic() <= 200


def test_a_method_is_fitted_when_it_is_asked_for():
    one = Noted()
    found = fit_all([one, Ancer(steps=1), RS()], MODEL, IMAGES, CONTEXT, start=Noted("ddrs"))
    assert next(found)[0].name == "ddrs" and not one.calls
    assert next(found)[0] is one and len(one.calls) == 1

"""How fits end: deadlines, steps that are not finite, candidates, wrong arguments."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    Ancer,
    Context,
    DiagonalNoise,
    IsotropicNoise,
    Status,
    Streams,
)
from rddrs_dist.methods.base import Fit, best_of
from tests.oracles import Linear

EVENT = (1, 1, 3)
MODEL = Linear(torch.tensor([1.0, 0.0, 0.0]), temperature=0.1)
IMAGES = torch.tensor([[0.5, 0.2, 0.1], [0.9, 0.3, 0.3]]).view(2, *EVENT)
CONTEXT = Context(
    0.2, Streams.of(0, [0, 1]), sigma_star=IsotropicNoise(torch.tensor([0.3, 0.4]), EVENT)
)
ITERATIVE = [
    DDRS(steps=4, candidate_every=2),
    Ancer(steps=4),
    RDDRS(steps=4, gradient_samples=100),
    RDDRSTR(steps=4, patience=9, samples=100),
]
ids = [method.name for method in ITERATIVE]


class PoisonedGradient(nn.Module):
    """Finite logits whose gradient is NaN everywhere."""

    def forward(self, images):
        zero = torch.zeros_like(images[:, 0, 0, 0])
        return (
            MODEL(images)
            + (images.sum((1, 2, 3)) * 0 + zero).abs().sqrt()[:, None] * torch.eye(2)[0]
        )


@pytest.mark.parametrize("method", ITERATIVE, ids=ids)
def test_gradients_that_are_not_finite_end_with_the_last_finite_noise(method):
    fit = method.fit(PoisonedGradient(), IMAGES, CONTEXT)
    assert fit.status == [Status.NONFINITE] * 2
    assert fit.steps.tolist() == [0, 0]
    axes = fit.noise.axes.float()
    if method.name == "rddrs_tr":  # starts from a scale of its own, and sizes it at the end
        torch.testing.assert_close(axes[:, 0], axes[:, -1])
        return
    start = CONTEXT.sigma if method.name == "ddrs" else CONTEXT.start().scale
    torch.testing.assert_close(axes[:, 0], torch.as_tensor(start).expand(2))


@pytest.mark.parametrize("method", ITERATIVE, ids=ids)
def test_a_deadline_keeps_what_there_is(method):
    fit = method.fit(MODEL, IMAGES, replace(CONTEXT, deadline=time.monotonic()))
    assert fit.status == [Status.DEADLINE] * 2
    assert fit.steps.tolist() == [0, 0]
    assert bool(torch.isfinite(fit.noise.scale).all())


@pytest.mark.parametrize("method", ITERATIVE, ids=ids)
def test_all_steps_are_taken(method):
    fit = method.fit(MODEL, IMAGES, CONTEXT)
    assert fit.status == [Status.MAX_STEPS] * 2
    assert set(fit.steps.tolist()) <= {2, 4}


def test_a_step_that_overflows_ends_with_the_last_finite_scale():
    fit = RDDRS(steps=4, gradient_samples=100, step_lengths=(1e6,)).fit(MODEL, IMAGES, CONTEXT)
    assert fit.status == [Status.NONFINITE] * 2
    assert bool(torch.isfinite(fit.noise.scale).all())


def test_the_better_candidate_is_kept_for_each_image():
    def fit(sigmas: list[float], steps: int) -> Fit:
        noise = DiagonalNoise(torch.tensor(sigmas).view(2, 1, 1, 1).expand(2, *EVENT), EVENT)
        return Fit(
            noise, [Status.MAX_STEPS] * 2, np.full(2, steps), np.zeros(2), np.full(2, 9.0 - steps)
        )

    wide, narrow = fit([50.0, 0.5], 1), fit([0.3, 0.001], 2)
    best = best_of(MODEL, IMAGES, [wide, narrow], CONTEXT, 2000)
    assert best.noise.scale[:, 0, 0, 0].tolist() == pytest.approx([0.3, 0.5])
    assert best.steps.tolist() == [2, 1] and best.limit.tolist() == [7.0, 8.0]


def test_ancer_never_falls_below_sigma_star():
    fit = Ancer(steps=10).fit(MODEL, IMAGES, CONTEXT)
    assert bool((fit.noise.scale >= CONTEXT.start().scale.view(2, 1, 1, 1)).all())


@pytest.mark.parametrize("options", [{"exp_map": "geomstats"}, {"metric": "affine-invariant"}])
def test_geomstats_takes_the_same_steps(options):
    method = RDDRS(steps=4, gradient_samples=100, kappa=0.1)
    ours = method.fit(MODEL, IMAGES, CONTEXT)
    theirs = replace(method, **options).fit(MODEL, IMAGES, CONTEXT)
    torch.testing.assert_close(theirs.noise.scale, ours.noise.scale, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", ["log-euclidean", "bures-wasserstein"])
def test_other_metrics_climb_too(metric):
    method = RDDRS(steps=10, gradient_samples=500, step_lengths=(0.2,), metric=metric)
    fit = method.fit(MODEL, IMAGES, CONTEXT)
    assert fit.status == [Status.MAX_STEPS] * 2
    assert bool((fit.noise.mean_axis > CONTEXT.start().mean_axis).all())


@pytest.mark.parametrize("method", [Ancer(), RDDRS()], ids=["ancer", "rddrs"])
def test_methods_that_start_from_ddrs_say_so(method):
    with pytest.raises(ValueError, match=r"starts from the DDRS noise: fit DDRS\(\) first"):
        method.fit(MODEL, IMAGES, replace(CONTEXT, sigma_star=None))


@pytest.mark.parametrize(
    ("method", "wrong", "text"),
    [
        (DDRS, {"steps": 0}, "ddrs.steps must be at least 1, got 0"),
        (DDRS, {"clamp": 0.6}, "ddrs.clamp must be between 0 and 1/2"),
        (Ancer, {"learning_rates": ()}, "ancer.learning_rates must be positive"),
        (Ancer, {"kappa": -1.0}, "ancer.kappa must be positive"),
        (RDDRS, {"step_lengths": (0.5, float("nan"))}, "rddrs.step_lengths must be positive"),
        (RDDRS, {"metric": "flat"}, "rddrs.metric must be one of"),
        (RDDRS, {"exp_map": "slow"}, "rddrs.exp_map must be one of"),
        (RDDRSTR, {"target": 0.5}, "rddrs_tr.target must be between 0.5 and 1, got 0.5"),
        (RDDRSTR, {"growth": 0.4}, "rddrs_tr.growth must be between 0 and 0.4, got 0.4"),
        (RDDRSTR, {"memory": 1.0}, "rddrs_tr.memory must be between 0 and 1, got 1.0"),
        (RDDRSTR, {"patience": 0}, "rddrs_tr.patience must be at least 1, got 0"),
        (RDDRSTR, {"guard": 0.0}, "rddrs_tr.guard must be positive and finite, got 0.0"),
    ],
)
def test_wrong_settings_are_refused(method, wrong, text):
    with pytest.raises(ValueError, match=text):
        method(**wrong)


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="sigma must be positive and finite, got 0"):
        Context(0.0, Streams.of(0, [0]))

"""How fits end: deadlines, steps that are not finite, wrong arguments."""

import time
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    Ancer,
    Context,
    IsotropicNoise,
    Status,
    Streams,
)
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
    assert method.from_sigma_star
    with pytest.raises(ValueError, match=r"starts from the DDRS noise .* use fit_all"):
        method.fit(MODEL, IMAGES, replace(CONTEXT, sigma_star=None))


POSITIVE = "must be positive and finite, got "
WRONG = [
    (DDRS, "steps", 0, "must be at least 1, got 0"),
    (DDRS, "clamp", 0.6, "must be between 0 and 0.5"),
    (Ancer, "learning_rates", (), POSITIVE),
    (Ancer, "kappa", -1.0, POSITIVE),
    (RDDRS, "step_lengths", (0.5, float("nan")), POSITIVE),
    (RDDRS, "metric", "flat", "must be one of"),
    (RDDRS, "exp_map", "slow", "must be one of"),
]
COUNTS = (
    "rank", "samples", "steps", "patience", "start_samples", "compare_samples", "coarse_share",
)  # fmt: skip
SIZES = ("shrinkage", "damping", "temperature", "cap_factor", "neighbour_margin")
WRONG_TR = [
    *((name, 0, "must be at least 1, got 0") for name in COUNTS),
    *((name, 0.0, POSITIVE + "0.0") for name in (*SIZES, "growth", "neighbour_reach")),
    ("target", 0.5, "must be between 0.5 and 1, got 0.5"),
    ("target", float("nan"), "must be between 0.5 and 1, got nan"),
    ("growth", 0.4, "must be between 0 and 0.4, got 0.4"),
    ("shrinkage", 1.0, "must be between 0 and 1, got 1.0"),
    ("decay", 1.0, "must be between 0 and 1, got 1.0"),
    ("decay", -0.1, "must be between 0 and 1, got -0.1"),
    *(
        (name, 0.0, "must be between 0 and 1, got 0")
        for name in ("boundary_share", "domain_share")
    ),
    *(
        (name, 1.1, "must be between 0 and 1, got 1")
        for name in ("boundary_share", "domain_share")
    ),
    *(("compare_alpha", wrong, "must be between 0 and 0.5, got") for wrong in (0.0, 0.5)),
    *((name, (), "") for name in ("start_multiples", "coarse_multiples", "fine_multiples")),
    *((name, (1.0, -1.0), POSITIVE) for name in ("coarse_multiples", "fine_multiples")),
    ("start_multiples", (0.5, 2.0), "must have 1, the network's own sigma, among them"),
    ("coarse_multiples", (1.0, 0.5), "must ascend"),
    ("coarse_multiples", (1.0, 1.0), "must ascend"),
]


def test_all_fields_of_rddrs_tr_are_checked():
    assert {name for name, _, _ in WRONG_TR} == {field.name for field in fields(RDDRSTR)}


@pytest.mark.parametrize(
    ("method", "name", "value", "text"), [*WRONG, *((RDDRSTR, *wrong) for wrong in WRONG_TR)]
)
def test_wrong_settings_are_refused(method, name, value, text):
    with pytest.raises(ValueError, match=f"{method.name}.{name} {text}") as caught:
        method(**{name: value})
    assert "\n" not in str(caught.value)


def test_ends_that_mean_something_are_allowed():
    RDDRSTR(decay=0.0, boundary_share=1.0, domain_share=1.0)


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="sigma must be positive and finite, got 0"):
        Context(0.0, Streams.of(0, [0]))

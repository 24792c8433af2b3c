"""What a fit holds, how fits end, several in a row, and wrong arguments."""

import time
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from rddrs_dist.methods import (
    DDRS,
    RDDRS,
    RDDRSTR,
    RS,
    Ancer,
    Context,
    Fit,
    Method,
    Status,
    fit_all,
)
from rddrs_dist.methods.base import best_of
from rddrs_dist.noise import DiagonalNoise, IsotropicNoise
from rddrs_dist.smoothing import Streams
from tests.oracles import Linear

EVENT = (1, 1, 3)
MODEL = Linear(torch.tensor([1.0, 0.0, 0.0]), temperature=0.1)
IMAGES = torch.tensor([[0.5, 0.2, 0.1], [0.9, 0.3, 0.3]]).view(2, *EVENT)
NOISE = IsotropicNoise(torch.tensor([0.3, 0.4]), EVENT)
CONTEXT = Context(0.2, Streams.of(0, [0, 1]), sigma_star=NOISE)
UNSTARTED = replace(CONTEXT, sigma_star=None)
ITERATIVE = [
    DDRS(steps=4, candidate_every=2),
    Ancer(steps=4),
    RDDRS(steps=4, gradient_samples=100),
    RDDRSTR(blindness=1.0, steps=4, patience=9, samples=100),
    RDDRSTR(sighted_steps=4, samples=100),
]
ids = [method.name for method in ITERATIVE]


class PoisonedGradient(nn.Module):
    """Finite logits whose gradient is NaN everywhere."""

    def forward(self, images):
        root = (images.sum((1, 2, 3)) * 0).abs().sqrt()  # 0, with the slope of a root there
        return MODEL(images) + root[:, None] * torch.eye(2)[0]


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
def test_all_steps_are_taken_and_a_deadline_keeps_what_there_is(method):
    fit = method.fit(MODEL, IMAGES, CONTEXT)
    assert fit.status == [Status.MAX_STEPS] * 2 and set(fit.steps.tolist()) <= {2, 4}
    fit = method.fit(MODEL, IMAGES, replace(CONTEXT, deadline=time.monotonic()))
    assert fit.status == [Status.DEADLINE] * 2 and fit.steps.tolist() == [0, 0]
    assert bool(torch.isfinite(fit.noise.scale).all())


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
        method.fit(MODEL, IMAGES, UNSTARTED)


COUNT, POSITIVE = "must be at least 1, got 0", "must be positive and finite, got "
WRONG = [
    (DDRS, "steps", 0, COUNT),
    (DDRS, "clamp", 0.6, "must be between 0 and 0.5"),
    (Ancer, "learning_rates", (), POSITIVE),
    (Ancer, "kappa", -1.0, POSITIVE),
    (RDDRS, "step_lengths", (0.5, float("nan")), POSITIVE),
    (RDDRS, "metric", "flat", "must be one of"),
    (RDDRS, "exp_map", "slow", "must be one of"),
]
# The fields of RDDRS-TR by what is said of a wrong value.
WRONG_TR = [
    (name, value, text)
    for names, value, text in (
        ("rank samples steps patience start_samples compare_samples coarse_share", 0, COUNT),
        ("shrinkage damping temperature cap_factor neighbour_margin", 0.0, POSITIVE),
        ("growth neighbour_reach", 0.0, POSITIVE),
        ("start_multiples coarse_multiples fine_multiples", (), POSITIVE),
        ("coarse_multiples fine_multiples", (1.0, -1.0), POSITIVE),
        ("sighted_steps sighted_rank floor_every", 0, COUNT),
        ("floor sighted_damping sighted_temperature", 0.0, POSITIVE),
        ("round_multiples sized_multiples", (), POSITIVE),
        ("sighted_target growth_target", 1.0, "must be between 0.5 and 1, got 1.0"),
        ("blindness aimed_share", 0.0, "must be between 0 and 1, got 0"),
        ("blindness aimed_share", 1.1, "must be between 0 and 1, got 1"),
        ("settling", -0.1, "must be between 0 and 1, got -0.1"),
        ("priority", -1.0, "must be between 0 and 1000, got -1.0"),
        ("sized_alpha", 0.5, "must be between 0 and 0.5, got"),
        ("target", 0.5, "must be between 0.5 and 1, got 0.5"),
        ("target", float("nan"), "must be between 0.5 and 1, got nan"),
        ("growth", 0.4, "must be between 0 and 0.4, got 0.4"),
        ("shrinkage decay", 1.0, "must be between 0 and 1, got 1.0"),
        ("decay", -0.1, "must be between 0 and 1, got -0.1"),
        ("boundary_share domain_share", 0.0, "must be between 0 and 1, got 0"),
        ("boundary_share domain_share", 1.1, "must be between 0 and 1, got 1"),
        ("compare_alpha", 0.0, "must be between 0 and 0.5, got"),
        ("compare_alpha", 0.5, "must be between 0 and 0.5, got"),
        ("start_multiples", (0.5, 2.0), "must have 1, the network's own sigma, among them"),
        ("coarse_multiples", (1.0, 0.5), "must ascend"),
        ("coarse_multiples", (1.0, 1.0), "must ascend"),
    )
    for name in names.split()
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


def test_sigma_must_be_positive_and_ends_that_mean_something_are_allowed():
    RDDRSTR(decay=0.0, boundary_share=1.0, domain_share=1.0)
    with pytest.raises(ValueError, match="sigma must be positive and finite, got 0"):
        Context(0.0, Streams.of(0, [0]))


def test_a_noise_alone_is_a_fit_without_limits():
    fit = Fit.of(NOISE)
    assert fit.noise is NOISE and fit.status == [Status.CLOSED_FORM] * 2
    assert fit.limit.tolist() == [np.inf] * 2 and fit.steps.tolist() == [0, 0]
    assert np.isnan(fit.objective).all()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("limit", None, "limit of a fit must be an array of 2 radii, got None: inf stands for no"),
        ("limit", np.ones(1), "must be of its 2 images each, got 2, 2, 2, 1"),
        ("limit", np.array([1.0, 0.0]), "limits of a fit must be positive, got"),
        ("limit", np.array([1.0, np.nan]), "limits of a fit must be positive, got"),
        ("status", [Status.DEADLINE], "must be of its 2 images each"),
        ("steps", np.zeros(1), "must be of its 2 images each"),
        ("noise", NOISE[:1], "must be of its 1 images each"),
    ],
)
def test_all_of_a_fit_is_of_the_same_images_and_limits_are_positive(name, value, text):
    with pytest.raises(ValueError, match=text) as caught:
        replace(Fit.of(NOISE), **{name: value})
    assert "\n" not in str(caught.value)


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
    found = list(fit_all(methods, MODEL, IMAGES, UNSTARTED, start=method("ddrs"), seconds=100))
    assert " ".join(one.name for one, _ in found) == fitted
    assert " ".join(name for name, _ in calls) == fitted
    for position, (_, context) in enumerate(calls):
        assert (context.sigma_star is None) == (position == 0)
        assert 0 < context.deadline - time.monotonic() <= 200


def test_a_method_is_fitted_when_it_is_asked_for():
    one = Noted()
    found = fit_all([one, Ancer(steps=1), RS()], MODEL, IMAGES, UNSTARTED, start=Noted("ddrs"))
    assert next(found)[0].name == "ddrs" and not one.calls
    assert next(found)[0] is one and len(one.calls) == 1

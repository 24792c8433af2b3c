"""Counted work against numbers known beforehand; the parts of a method against the whole."""

from dataclasses import astuple, replace

import pytest
import torch
from torch import linalg, nn

from benchmarks.counts import work
from rddrs_dist.methods import DDRS, RDDRS, RDDRSTR, RS, Ancer, Context, Method, rddrs_tr
from rddrs_dist.noise import IsotropicNoise
from rddrs_dist.run.costs import Cost
from rddrs_dist.run.counting import Counter, shortened
from rddrs_dist.smoothing import Streams

D = 16


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A linear network for images of 4x4 pixels, whose own products must not be counted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(D, 10)).eval().requires_grad_(False)
    model[1].weight *= 8
    return model


def counted(model: nn.Module, method: Method) -> tuple[Cost, int]:
    """The work of a fit of one image, and its steps."""
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    start = IsotropicNoise.constant(0.25, image)
    context = Context(0.25, Streams.of(0, [0]), sigma_star=start)
    with Counter(model, D) as counter:
        fit = method.fit(model, image, context)
    return counter.cost, int(fit.steps[0])


@pytest.mark.parametrize(
    "method",
    [
        RS(),
        DDRS(steps=20, candidate_every=5, samples=7, compare_samples=30),
        Ancer(steps=6, samples=9, compare_samples=30),
        RDDRS(steps=3, gradient_samples=50, margin_samples=11, compare_samples=30),
        RDDRSTR(steps=4, samples=40, start_samples=20, compare_samples=60),
    ],
)
def test_samples_are_those_of_the_settings(model: nn.Module, method: Method):
    cost, steps = counted(model, method)
    # DDRS and ANCER keep one of several candidates: all of them were computed.
    expected = work(method, getattr(method, "steps", 0) if method.name != "rddrs_tr" else steps)
    assert (cost.forward, cost.both) == tuple(expected)
    assert cost.elements == D * expected.passes


@pytest.mark.parametrize("method", [RS(), DDRS(steps=4, candidate_every=2), Ancer(steps=3)])
def test_methods_without_matrices_make_no_products(model: nn.Module, method: Method):
    cost, _ = counted(model, method)
    network = {"forward": 0, "both": 0, "forward_calls": 0, "both_calls": 0, "elements": 0}
    assert not any(astuple(replace(cost, **network)))


def test_a_step_of_rddrs_tr_has_two_square_products(model: nn.Module, monkeypatch):
    """Where axes are not all far below the cap; where they are it has none."""
    settings = {"samples": 30, "start_samples": 20, "compare_samples": 60, "patience": 50}

    def squares() -> tuple[Cost, Cost]:
        few, many = (counted(model, RDDRSTR(steps=k, rank=8, **settings))[0] for k in (2, 5))
        return few, many

    few, many = squares()
    assert many.squares == few.squares == 0
    monkeypatch.setattr(rddrs_tr, "_SMALL", 0.0)
    few, many = squares()
    assert many.squares - few.squares == 3 * 2 * 2 * D**3
    assert (many.squares64, many.singular) == (few.squares64, 0)
    # Beside the basis: S z of 15 pairs and S^T of the gradients of the 12 samples nearest.
    assert many.products - few.products > 3 * 2 * (15 + 12) * D**2


def test_products_and_decompositions_are_counted_by_shape_and_precision(model: nn.Module):
    square, flat = torch.eye(D), torch.ones(3, D)
    double = square.double()
    with Counter(model, D) as counter:
        _ = flat @ square  # 2 * 3 * D^2
        _ = square @ square[:, 0]  # 2 * D^2
        _ = torch.ones(2, 5, D) @ square  # 2 * 10 * D^2
        _ = flat.double() @ double
        _ = square @ square
        _ = double @ double
        linalg.eigh(double)
        linalg.svdvals(double)
        linalg.qr(double[:, :4])
    assert counter.cost == Cost(
        products=2 * (3 + 1 + 10) * D**2,
        products64=2 * 3 * D**2,
        squares=2 * D**3,
        squares64=2 * D**3,
        factors=D**3 + 0.2 * D * 4 * 4,
        singular=D**3,
    )


def test_the_network_is_samples_and_nothing_else(model: nn.Module):
    images = torch.rand(5, 1, 4, 4)
    with Counter(model, D) as counter:
        model(images)
        leaf = images.clone().requires_grad_()
        model(leaf).sum().backward()
    model(images)  # outside: not counted
    assert counter.cost == Cost(5, 5, 1, 1, elements=2 * 5 * D)


@pytest.mark.parametrize(
    "method",
    [
        DDRS(steps=20, candidate_every=5, samples=7, compare_samples=30),
        Ancer(steps=6, samples=9, compare_samples=30),
        Ancer(steps=6, samples=9, compare_samples=30, learning_rates=(0.04,)),
        RDDRS(steps=3, gradient_samples=50, compare_samples=30),
        RDDRSTR(steps=4, samples=40, start_samples=20, compare_samples=60),
    ],
)
@pytest.mark.parametrize("samples", [1, 30, 10_000])
def test_the_parts_make_the_whole(model: nn.Module, method: Method, samples: int):
    short = shortened(method, samples)
    part, whole = counted(model, short.method)[0], counted(model, method)[0]
    assert part.both * short.factor == pytest.approx(whole.both)
    assert part.forward * short.factor + short.compared == pytest.approx(whole.forward)
    assert short.method.name != "ddrs" or part.both <= max(samples, 7)


def test_published_settings_are_cut_down():
    assert shortened(DDRS(), 2000).factor == 75
    assert shortened(Ancer(), 2000).factor == 10
    assert shortened(RDDRS(), 2000).factor == 200
    assert shortened(RDDRSTR(), 2000).method == RDDRSTR()

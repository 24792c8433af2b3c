"""Steps never ask their device for a value, which on a GPU would stall every launch after it."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rddrs_dist import DDRS, RDDRSTR, Context, IsotropicNoise, Method, Streams
from rddrs_dist.methods import ascent, rddrs_tr

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
CONTEXT = Context(
    0.5, Streams.of(0, [0, 1]), sigma_star=IsotropicNoise(torch.tensor([0.3, 0.4]), (1, 4, 4))
)
# What makes a host wait: values, sizes that depend on values, and decompositions that iterate.
WAITS = ("_local_scalar_dense", "nonzero", "eigh", "svd", "equal", "unique", "masked_select")


class Waits(TorchDispatchMode):
    """Counts the calls for which a host waits for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.seen += [name] * any(wait in name for wait in WAITS)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 10)).eval().requires_grad_(False)


def waits(method: Method, model: nn.Module, steps: int) -> list[str]:
    """What a fit of so many steps waits for."""
    with Waits() as found:
        replace(method, steps=steps).fit(model, IMAGES, CONTEXT)
    return sorted(found.seen)


@pytest.fixture
def asks_nothing(monkeypatch):
    """The host asks for no value, as on a GPU."""
    for module in (ascent, rddrs_tr):
        monkeypatch.setattr(module, "asks", lambda tensor: False)


QUICK = RDDRSTR(blindness=1.0, samples=40, start_samples=20, compare_samples=60, patience=99)


@pytest.mark.parametrize(
    "method",
    [DDRS(candidate_every=9, samples=20, compare_samples=20), QUICK],
    ids=lambda method: method.name,
)
@pytest.mark.parametrize("small", [0.0, 0.3])
def test_waits_do_not_grow_with_the_steps(model, method, small, monkeypatch, asks_nothing):
    """What is left is before and after all steps, and every `_POLL` of them.

    Not of ANCER: torch's Adam reads a step number, which it keeps on the host.
    """
    monkeypatch.setattr(ascent, "_POLL", 1000)
    monkeypatch.setattr(rddrs_tr, "_SMALL", small)
    assert waits(method, model, 2) == waits(method, model, 8)


def test_a_host_that_may_ask_does(model):
    """The count sees what it is meant to see."""
    assert len(waits(QUICK, model, 6)) >= len(waits(QUICK, model, 3)) + 3


@pytest.mark.parametrize("poll", [1, 5, 7])
def test_how_often_the_host_looks_changes_no_result(model, poll, monkeypatch, request):
    method = replace(QUICK, patience=2)
    expected = method.fit(model, IMAGES, CONTEXT)
    request.getfixturevalue("asks_nothing")
    monkeypatch.setattr(ascent, "_POLL", poll)
    found = method.fit(model, IMAGES, CONTEXT)
    assert torch.equal(found.noise.scale, expected.noise.scale)
    assert found.status == expected.status and found.steps.tolist() == expected.steps.tolist()

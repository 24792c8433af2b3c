"""Which precision is set where, and that it is put back."""

import sys
from contextlib import contextmanager

import pytest
import torch

from rddrs_dist import RS, Budget, Context, Smoothed, Streams, certify
from rddrs_dist.smoothing.precision import multiplying, rounded
from tests.oracles import Linear

GPU, CPU = torch.device("cuda"), torch.device("cpu")
IMAGES = torch.zeros(1, 1, 2, 3)


def flags() -> tuple[bool, bool]:
    """Whether matrices and convolutions may use TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "inside"), [("float32", False), ("tf32", True)])
def test_flags_are_set_for_a_gpu_and_put_back_even_after_an_error(precision, inside):
    before = flags()
    with multiplying(precision, GPU):
        assert flags() == (False, inside)
        with multiplying("tf32", GPU):
            assert flags() == (False, True)
        assert flags() == (False, inside)
    assert flags() == before
    with pytest.raises(ZeroDivisionError), multiplying(precision, GPU):
        _ = 1 / 0
    assert flags() == before
    with multiplying("tf32", CPU):  # a CPU is left alone
        assert flags() == before


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has none yet")
def test_the_newer_flags_are_in_the_way():
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    try:
        with pytest.raises(ValueError, match="flags are set"), multiplying("tf32", GPU):
            pass
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    with multiplying("tf32", GPU):
        assert flags() == (False, True)


def test_fits_use_tf32_and_certificates_what_is_asked_for(monkeypatch):
    asked: list[str] = []

    @contextmanager
    def noted(precision, device):
        asked.append(precision)
        yield

    monkeypatch.setattr(sys.modules["rddrs_dist.certify"], "multiplying", noted)
    monkeypatch.setattr("rddrs_dist.methods.base.multiplying", noted)
    model, streams = Linear(torch.ones(6)), Streams.of(0, [0])
    fit = RS().fit(model, IMAGES, Context(0.5, streams))
    for base in (model, Smoothed(model, precision="tf32")):
        certify(base, IMAGES, fit, Budget(n=50), streams)
    assert asked == ["tf32", "float32", "tf32"]


def test_rounded_numbers_have_eleven_bits_and_are_the_nearest_of_these():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(10_000, generator=generator) * torch.logspace(-20, 20, 10_000)
    found = rounded(numbers)
    mantissas, exponents = torch.frexp(found.double())
    assert torch.equal((mantissas * 2**11).round() / 2**11, mantissas)
    last = torch.exp2(exponents.double() - 11)
    assert ((found.double() - numbers.double()).abs() <= last / 2).all()
    assert not torch.equal(found, numbers)
    assert rounded(torch.tensor([0.0, -0.0, 1.0, -1.5])).tolist() == [0.0, 0.0, 1.0, -1.5]

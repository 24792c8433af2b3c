"""The fused kernel against torch's convolution, pooling and ReLU in double precision."""

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rddrs_dist.networks import LeNet, PooledConvolution
from rddrs_dist.smoothing.precision import multiplying

# Channels in and out, side of the filters, padding, height and width: those of LeNet, of
# LeNetCaffe, and one with other filters and a row and a column that pooling leaves over.
SHAPES = [
    (1, 16, 5, 2, 28, 28),
    (16, 32, 5, 2, 14, 14),
    (1, 20, 5, 0, 28, 28),
    (20, 50, 5, 0, 12, 12),
    (3, 8, 3, 0, 9, 8),
]


def example(shape: tuple[int, ...], device: str, count: int = 3) -> tuple[Tensor, ...]:
    """Images, weight, bias and the gradient of what a stage makes of them."""
    channels, many, side, padding, height, width = shape
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, channels, height, width, generator=generator)
    weight = torch.randn(many, channels, side, side, generator=generator)
    weight /= weight[0].numel() ** 0.5
    bias = torch.randn(many, generator=generator) / 5
    slope = torch.randn(reference(images, weight, bias, padding).shape, generator=generator)
    return tuple(part.to(device) for part in (images, weight, bias, slope))


def reference(images: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """The stage as three operations."""
    found = functional.conv2d(images, weight, bias, padding=padding)
    return functional.relu(functional.max_pool2d(found, 2))


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_three_operations(device, shape, precision):
    from rddrs_dist.cuda.pooled import Filters, pooled_convolution

    images, weight, bias, slope = example(shape, device)
    wide = images.double().requires_grad_()
    wanted = reference(wide, weight.double(), bias.double(), shape[3])
    (gradient,) = torch.autograd.grad(wanted, wide, slope.double())
    filters = Filters.of(weight, bias, shape[3])
    with multiplying(precision, torch.device("cuda")):
        leaf = images.clone().requires_grad_()
        found = pooled_convolution(leaf, filters)
        (own,) = torch.autograd.grad(found, leaf, slope)
        with torch.no_grad():
            assert torch.equal(pooled_convolution(images, filters), found)
    # Sums of a few hundred products of about 1; the interpreter knows single precision only.
    tolerance = 5e-6 if precision == "float32" or device == "cpu" else 1e-2
    torch.testing.assert_close(found.double(), wanted.detach(), atol=tolerance, rtol=0)
    if precision == "float32" or device == "cpu":  # in TF32 another maximum may win
        torch.testing.assert_close(own.double(), gradient, atol=tolerance, rtol=0)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # of the interpreter
def test_what_is_not_finite_stays_so(device):
    from rddrs_dist.cuda.pooled import Filters, pooled_convolution

    images, weight, bias, _ = example((1, 16, 5, 2, 8, 8), device)
    images[1, 0, 4, 4] = torch.nan
    found = pooled_convolution(images, Filters.of(weight, bias, 2))
    assert found[1].isnan().any()
    assert found[0].isfinite().all() and found[2].isfinite().all()


def test_an_empty_batch_is_none_of_its_business(device):
    from rddrs_dist.cuda.pooled import Filters, pooled_convolution

    images, weight, bias, _ = example((1, 16, 5, 2, 8, 8), device)
    assert pooled_convolution(images[:0], Filters.of(weight, bias, 2)).shape == (0, 16, 4, 4)


@pytest.fixture
def fused(monkeypatch, device) -> LeNet:
    """A network that uses the kernel wherever it is."""
    monkeypatch.setattr(PooledConvolution, "_fuses", lambda self, images: True)
    return LeNet((1, 8, 8), 10).to(device).eval().requires_grad_(False)


def plain(network: LeNet, images: Tensor) -> Tensor:
    """Its answer by torch's own operations."""
    first, second = network.conv1.apart(), network.conv2.apart()
    return network.out(second(first(images)).flatten(1))


def changed(network: LeNet) -> None:
    network.conv1[0].weight.mul_(2)


def loaded(network: LeNet) -> None:
    network.load_state_dict(LeNet((1, 8, 8), 10).to(network.out.weight.device).state_dict())


def assigned(network: LeNet) -> None:
    """New tensors, which may lie where the old ones lay."""
    for _ in range(3):
        state = LeNet((1, 8, 8), 10).to(network.out.weight.device).state_dict()
        network.load_state_dict(state, assign=True)


@pytest.mark.parametrize("change", [changed, loaded, assigned])
def test_a_network_whose_weights_change_is_computed_with_the_new_ones(fused, device, change):
    images = torch.rand(2, 1, 8, 8, device=device)
    before = fused(images)
    change(fused)
    with torch.no_grad(), multiplying("float32", torch.device("cuda")):
        torch.testing.assert_close(fused(images), plain(fused, images), atol=1e-4, rtol=0)
        assert not torch.allclose(before, fused(images))


def test_copies_and_files_are_made_without_the_filters(fused, device):
    images = torch.rand(2, 1, 8, 8, device=device)
    expected = fused(images)
    assert fused.conv1._fused is not None
    for twin in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert twin.conv1._fused is None
        assert torch.equal(twin(images), expected)


def test_weights_that_are_trained_keep_their_gradient(device):
    for part in ("weight", "bias"):
        network = LeNet((1, 8, 8), 10).to(device).requires_grad_(False)
        trained = getattr(network.conv1[0], part).requires_grad_()
        network(torch.rand(2, 1, 8, 8, device=device)).sum().backward()
        assert trained.grad is not None


@pytest.mark.parametrize(("side", "padding"), [(5, 1), (4, 2)])
def test_windows_that_begin_at_no_pair_are_refused(device, side, padding):
    from rddrs_dist.cuda.pooled import Filters

    with pytest.raises(ValueError, match="wanted odd filters and even padding, got"):
        Filters.of(torch.zeros(2, 1, side, side), torch.zeros(2), padding)

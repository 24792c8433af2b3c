"""The fused kernel against torch's convolution, pooling and ReLU in double precision."""

import copy
from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rddrs_dist.cuda.swap import PooledConvolution, has_kernel, swapped
from rddrs_dist.networks import LeNet
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


@pytest.fixture
def pooled(device: str) -> ModuleType:
    """The kernels' module, which is there where Triton is."""
    return import_module("rddrs_dist.cuda.pooled")


def reference(images: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """The stage as three operations."""
    found = functional.conv2d(images, weight, bias, padding=padding)
    return functional.relu(functional.max_pool2d(found, 2))


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_three_operations(device, pooled, shape, precision):
    images, weight, bias, slope = example(shape, device)
    wide = images.double().requires_grad_()
    wanted = reference(wide, weight.double(), bias.double(), shape[3])
    (gradient,) = torch.autograd.grad(wanted, wide, slope.double())
    filters = pooled.Filters.of(weight, bias, shape[3])
    with multiplying(precision, torch.device("cuda")):
        leaf = images.clone().requires_grad_()
        found = pooled.pooled_convolution(leaf, filters)
        (own,) = torch.autograd.grad(found, leaf, slope)
        with torch.no_grad():
            assert torch.equal(pooled.pooled_convolution(images, filters), found)
    # Sums of a few hundred products of about 1; the interpreter knows single precision only.
    tolerance = 5e-6 if precision == "float32" or device == "cpu" else 1e-2
    torch.testing.assert_close(found.double(), wanted.detach(), atol=tolerance, rtol=0)
    if precision == "float32" or device == "cpu":  # in TF32 another maximum may win
        torch.testing.assert_close(own.double(), gradient, atol=tolerance, rtol=0)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # of the interpreter
def test_what_is_not_finite_stays_so(device, pooled):
    images, weight, bias, _ = example((1, 16, 5, 2, 8, 8), device)
    images[1, 0, 4, 4] = torch.nan
    filters = pooled.Filters.of(weight, bias, 2)
    found = pooled.pooled_convolution(images, filters)
    assert pooled.pooled_convolution(images[:0], filters).shape == (0, 16, 4, 4)
    assert found[1].isnan().any()
    assert found[0].isfinite().all() and found[2].isfinite().all()


def test_a_network_with_its_layers_swapped_answers_as_before(device):
    network = LeNet((1, 8, 8), 10).to(device).eval().requires_grad_(False)
    images = torch.rand(2, 1, 8, 8, device=device)
    with multiplying("float32", torch.device("cuda")):
        expected = network(images)
        found = swapped(copy.deepcopy(network))
        torch.testing.assert_close(found(images), expected, atol=1e-4, rtol=0)
    assert isinstance(found.conv1, PooledConvolution) and isinstance(
        found.conv2, PooledConvolution
    )
    assert network.state_dict().keys() == LeNet((1, 8, 8), 10).state_dict().keys()


def test_layers_that_the_kernel_is_not_for_stay(device):
    def layers(convolution: nn.Conv2d, pool: int = 2) -> nn.Sequential:
        return nn.Sequential(convolution, nn.MaxPool2d(pool), nn.ReLU()).requires_grad_(False)

    others = {
        "trained": nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),
        "strided": layers(nn.Conv2d(1, 4, 5, stride=2)),
        "even": layers(nn.Conv2d(1, 4, 4)),
        "padding": layers(nn.Conv2d(1, 4, 5, padding=1)),
        "pool": layers(nn.Conv2d(1, 4, 5), 3),
        "bare": layers(nn.Conv2d(1, 4, 5, bias=False)),
        "float64": layers(nn.Conv2d(1, 4, 5).double()),
    }
    found = swapped(nn.ModuleDict(others))
    assert all(isinstance(one, nn.Sequential) for one in found.children())
    assert not has_kernel(torch.device("cpu"))


@pytest.mark.parametrize(("side", "padding"), [(5, 1), (4, 2)])
def test_windows_that_begin_at_no_pair_are_refused(device, pooled, side, padding):
    with pytest.raises(ValueError, match="wanted odd filters and even padding, got"):
        pooled.Filters.of(torch.zeros(2, 1, side, side), torch.zeros(2), padding)

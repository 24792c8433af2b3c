"""Fits and certificates on a GPU, held against those of the CPU."""

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact
from torch import Tensor, linalg, nn

from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    RS,
    Ancer,
    Batching,
    Budget,
    Context,
    Fit,
    FullNoise,
    IsotropicNoise,
    Neighbours,
    Region,
    Smoothed,
    Streams,
    certify,
)
from rddrs_dist.networks import LeNet
from tests.oracles import normal, spread, with_axes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
METHODS = [
    RS(),
    DDRS(steps=30, candidate_every=10),
    Ancer(steps=20),
    RDDRS(steps=3, gradient_samples=2000),
    RDDRSTR(sighted_steps=12),
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A network whose answer depends on where the light is."""
    torch.manual_seed(0)
    return LeNet((1, 12, 12), 4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def neighbours(device: str) -> Neighbours:
    known = torch.rand(500, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    return Neighbours(known.to(device), (torch.arange(500) % 4).to(device))


def context(images: Tensor) -> Context:
    start = IsotropicNoise.constant(0.25, images)
    known = neighbours(images.device.type)
    return Context(0.25, Streams.of(0, [4, 7, 9]), sigma_star=start, neighbours=known)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_fits_find_what_the_cpu_finds(model, images, method):
    """Other samples, the same ascent: mean axes agree to within what samples do to them.

    Where a region has a limit, its size is what agrees; which multiple reaches it is chance.
    """
    sizes = []
    for device in ("cpu", "cuda"):
        own, where = images.to(device), model.to(device)
        fit = method.fit(where, own, context(own))
        reach = np.where(fit.limit < np.inf, fit.limit, 1.0)
        sizes.append(fit.noise.mean_axis.cpu().numpy() * reach)
        assert fit.noise.scale.device.type == device
    np.testing.assert_allclose(sizes[1], sizes[0], rtol=0.25)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_counts_agree_with_those_of_the_cpu(model, images, precision):
    scale = (normal(3, 144, 144, seed=3) / 12 + torch.eye(144) / 4).float()
    counts = []
    for device in ("cpu", "cuda"):
        fit = Fit.of(FullNoise(scale.to(device), (1, 12, 12)))
        smoothed = Smoothed(model.to(device), precision=precision)
        found = certify(
            smoothed, images.to(device), fit, Budget(n=20_000), Streams.of(0, range(3))
        )
        counts.append(found.count)
    for first, second in zip(*counts, strict=True):
        table = [[first, 20_000 - first], [second, 20_000 - second]]
        assert fisher_exact(table).pvalue > 1e-6


def test_axes_are_lower_bounds_near_to_the_truth():
    scale = with_axes(spread(1e-2, 10, 144), 2, seed=5).float()
    exact = linalg.svdvals(scale.double()).flip(-1)
    noise = FullNoise(scale.cuda(), (1, 12, 12))
    found = noise.axes_below.cpu()
    assert (found <= exact).all()
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)
    assert noise.mean_axis.cpu().tolist() == pytest.approx(exact.log().mean(1).exp().tolist())
    lower = noise.lower()
    torch.testing.assert_close(lower.covariance(), noise.covariance(), rtol=1e-5, atol=1e-5)
    assert torch.equal(lower.scale.triu(1), torch.zeros_like(lower.scale))
    exact = linalg.svdvals(lower.scale.double().cpu()).flip(-1)
    truths = exact[:, 0], exact.log().mean(1).exp(), exact[:, -1]
    for size, truth in zip((lower.min_axis, lower.mean_axis, lower.max_axis), truths, strict=True):
        torch.testing.assert_close(size.cpu(), truth, rtol=1e-9, atol=0)
        assert (size.cpu() <= truth * (1 + 1e-12)).all()


def test_regions_are_those_of_the_cpu(images):
    """Their sizes, what is inside, and how many images of other labels are."""
    noise = FullNoise(with_axes(spread(0.15, 0.5, 144), 3, seed=6).float(), (1, 12, 12))
    radius, prediction = np.array([17.0, 19.0, 21.0]), np.array([1, 0, 3])
    there = FullNoise(noise.scale.cuda(), noise.event_shape)
    first = Region(images, noise, radius, prediction)
    second = Region(images.cuda(), there, radius, prediction)
    counts = [neighbours(one.centre.device.type).inside(one) for one in (first, second)]
    assert counts[0] == counts[1] and 0 < counts[0][0] < counts[0][2] < 375
    for size in ("l2_radius", "proxy_radius", "log_volume", "max_axis"):
        np.testing.assert_allclose(getattr(second, size), getattr(first, size), rtol=1e-6)
    basis = torch.linalg.qr(torch.eye(first.dimension, 5, dtype=torch.float64) + 0.1).Q
    np.testing.assert_allclose(
        second.data_radius(basis.cuda()), first.data_radius(basis), rtol=1e-6
    )
    point = images.flip(0)
    np.testing.assert_allclose(second.distance(point.cuda()), first.distance(point), rtol=1e-9)
    np.testing.assert_allclose(second.support(point.cuda()), first.support(point), rtol=1e-9)


def test_steps_never_wait_for_the_device(model, images, monkeypatch):
    """What WAITS of test_no_waiting lists for a CPU, as CUDA itself sees it."""
    method = RDDRSTR(blindness=1.0, steps=3, patience=99)
    moved = RDDRSTR._move

    def watched(*args):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return moved(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    own, where = images.cuda(), model.cuda()
    method.fit(where, own, context(own))  # kernels are compiled and libraries loaded here
    monkeypatch.setattr(RDDRSTR, "_move", watched)
    fit = method.fit(where, own, context(own))
    assert fit.steps.tolist() == [3, 3, 3]


def test_launches_keep_within_their_memory_and_change_nothing(model, images):
    own, where = images.cuda(), model.cuda()
    fit, budget = Fit.of(IsotropicNoise.constant(0.25, own)), Budget(n=200_000)
    found = []
    for gigabytes in (4.0, 0.25):
        smoothed = Smoothed(where, batching=Batching.within(gigabytes * 2**30, where, own))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        found.append(certify(smoothed, own, fit, budget, Streams.of(0, range(3))).count)
        assert torch.cuda.max_memory_allocated() - before < gigabytes * 2**30
    assert found[0].tolist() == found[1].tolist()


def test_a_worker_certifies_on_the_gpu(tmp_path, images):
    from rddrs_dist import checkpoints
    from rddrs_dist.run.experiment import Execution, Experiment
    from rddrs_dist.run.scheduler import Shard
    from rddrs_dist.run.worker import Worker

    path = tmp_path / "net.safetensors"
    checkpoints.save(
        path, LeNet((1, 12, 12), 4),
        architecture="lenet", event_shape=(1, 12, 12), classes=4, sigma=0.25,
    )  # fmt: skip
    start = DDRS(steps=5, candidate_every=10)
    experiment = Experiment(
        "made", "", None, "", 0.25, (start, RDDRSTR(sighted_steps=9)), start, "4,7,9",
        Budget(n=500),
        device="cuda",
    )  # fmt: skip
    execution = Execution(gpus_per_actor=1, save_scales=True)
    worker = Worker(experiment, execution, path.read_bytes(), None)
    done = worker.certify(Shard(0, (4, 7, 9), images.numpy()))
    assert len(done.rows) == len(done.scales) == 6
    assert all(row["error"] is None and row["n"] == 500 for row in done.rows)

"""Fits and certificates on a GPU, held against those of the CPU."""

from dataclasses import replace

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
    Budget,
    Context,
    FullNoise,
    IsotropicNoise,
    Streams,
    certify,
)
from rddrs_dist.methods import rddrs_tr
from rddrs_dist.neighbours import Neighbours, others_inside
from rddrs_dist.networks import LeNet
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.batching import Memory, limit_memory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
METHODS = [
    RS(),
    DDRS(steps=30, candidate_every=10),
    Ancer(steps=20),
    RDDRS(steps=3, gradient_samples=2000),
    RDDRSTR(steps=12),
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A network whose answer depends on where the light is."""
    torch.manual_seed(0)
    return LeNet((1, 12, 12), 4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def context(images: Tensor) -> Context:
    start = IsotropicNoise.constant(0.25, images)
    known = torch.rand(500, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(500) % 4
    reference = Neighbours(known.to(images.device), labels.to(images.device))
    return Context(0.25, Streams.of(0, [4, 7, 9]), sigma_star=start, neighbours=reference)


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
    scale = torch.randn(3, 144, 144, generator=torch.Generator().manual_seed(3)) / 12
    scale += torch.eye(144) / 4
    counts = []
    for device in ("cpu", "cuda"):
        noise = FullNoise(scale.to(device), (1, 12, 12))
        found = certify(
            model.to(device), images.to(device), noise, Budget(n=20_000), Streams.of(0, range(3)),
            precision=precision,
        )  # fmt: skip
        counts.append(found.count)
    for first, second in zip(*counts, strict=True):
        table = [[first, 20_000 - first], [second, 20_000 - second]]
        assert fisher_exact(table).pvalue > 1e-6


def test_axes_are_lower_bounds_near_to_the_truth():
    generator = torch.Generator().manual_seed(5)
    frame = linalg.qr(torch.randn(2, 144, 144, generator=generator)).Q
    other = linalg.qr(torch.randn(2, 144, 144, generator=generator)).Q
    scale = (frame * torch.logspace(-2, 1, 144)) @ other
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
    assert lower.axes_above(2 * lower.max_axis).tolist() == [0, 0]
    assert lower.axes_above(lower.max_axis / 2).tolist() == [
        int((own > own[-1] / 2).sum()) for own in exact
    ]


def test_images_inside_are_those_that_the_cpu_counts(images):
    generator = torch.Generator().manual_seed(6)
    covariance = torch.randn(144, 144, dtype=torch.float64, generator=generator)
    covariance = covariance @ covariance.mT / 144 + torch.eye(144) / 50
    counts = []
    for device in ("cpu", "cuda"):
        reference = context(images.to(device)).reference
        assert reference is not None
        at = [covariance.to(device), images[0].to(device), reference, 1]
        counts.append([others_inside(*at, radius) for radius in (5.0, 12.0, 14.0, 20.0)])
    assert counts[0] == counts[1] and 0 < counts[0][1] < 375


def test_draws_do_not_depend_on_company(images):
    together = Streams.of(7, [2, 5, 9]).normal(Stage.FIT, 3, 1, 10, images.cuda())
    alone = Streams.of(7, [5]).normal(Stage.FIT, 3, 1, 10, images[:1].cuda())
    other = Streams.of(7, [5]).normal(Stage.FIT, 3, 2, 10, images[:1].cuda())
    assert torch.equal(together[1:2], alone)
    assert not (other == alone).any()


def test_steps_never_wait_for_the_device(model, images, monkeypatch):
    """What WAITS of test_no_waiting lists for a CPU, as CUDA itself sees it."""
    method = RDDRSTR(steps=3, patience=99)
    moved = rddrs_tr.RDDRSTR._move

    def watched(*args):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return moved(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    own, where = images.cuda(), model.cuda()
    method.fit(where, own, context(own))  # kernels are compiled and libraries loaded here
    monkeypatch.setattr(rddrs_tr.RDDRSTR, "_move", watched)
    fit = method.fit(where, own, context(own))
    assert fit.steps.tolist() == [3, 3, 3]


def test_launches_keep_within_their_memory_and_change_nothing(model, images):
    own, where = images.cuda(), model.cuda()
    noise, budget = IsotropicNoise.constant(0.25, own), Budget(n=200_000)
    found = []
    try:
        for gigabytes in (4.0, 0.25):
            limit_memory(Memory.of(where, own, gigabytes * 2**30))
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            found.append(certify(where, own, noise, budget, Streams.of(0, range(3))).count)
            assert torch.cuda.max_memory_allocated() - before < gigabytes * 2**30
    finally:
        limit_memory(None)
    assert found[0].tolist() == found[1].tolist()


def test_a_worker_certifies_on_the_gpu(tmp_path, images):
    from rddrs_dist import checkpoints
    from rddrs_dist.run.shards import Shard
    from rddrs_dist.run.worker import Task, Worker

    checkpoints.save(
        tmp_path / "net.safetensors", LeNet((1, 12, 12), 4),
        architecture="lenet", event_shape=(1, 12, 12), classes=4, sigma=0.25,
    )  # fmt: skip
    methods = [replace(METHODS[1], steps=5), METHODS[4]]
    task = Task(methods, ("ddrs", "rddrs_tr"), 0.25, Budget(n=500), 0, save_scales=True, gpus=1)
    checkpoint = (tmp_path / "net.safetensors").read_bytes()
    worker = Worker(task, checkpoint, None, threads=1, cuda=True)
    done = worker.certify(Shard(0, (4, 7, 9), images.numpy()))
    assert len(done.rows) == len(done.scales) == 6
    assert all(row["error"] is None and row["n"] == 500 for row in done.rows)

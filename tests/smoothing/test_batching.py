"""The partition of samples into launches."""

import pytest
import torch
from torch import nn

from rddrs_dist import RDDRSTR, Batching, Budget, Context, Smoothed, Streams, certify
from rddrs_dist.smoothing.batching import UNBOUNDED, Batches, kept_bytes
from tests.oracles import Linear

SMALL = torch.zeros(1, 1, 8, 8)


@pytest.mark.parametrize("n", [1, 99, 100, 127, 128, 1000, 12_345])
@pytest.mark.parametrize("side", [1, 8, 28, 64])
def test_blocks_add_up_and_launches_stay_small(n, side):
    batches = UNBOUNDED.batches(torch.zeros(5, 1, side, side), n)
    assert sum(batches.blocks) == n
    assert batches.images * max(batches.blocks) * side**2 <= max(100_000, 16 * side**2)


def test_blocks_do_not_depend_on_the_number_of_images_and_groups_cover_all_of_them():
    one, many = (UNBOUNDED.batches(SMALL.expand(b, 1, 8, 8), 5000) for b in (1, 64))
    assert one.blocks == many.blocks == (1024,) * 4 + (904,)
    batches = UNBOUNDED.batches(torch.zeros(7, 1, 28, 28), 50)
    covered = [i for rows in batches.groups(7) for i in range(rows.start, rows.stop)]
    assert batches.images == 2
    assert covered == list(range(7))


class Wide(nn.Module):
    """Keeps the input of its square, 4 bytes per element, and the mask of its relu as much."""

    def forward(self, images):
        return torch.relu(images.square()).flatten(1)[:, :10]


def test_what_a_network_keeps_is_counted_per_sample():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Linear(10, 10))
    linear.requires_grad_(False)
    assert kept_bytes(linear, SMALL) == 0  # weights alone, which do not count
    assert kept_bytes(Wide(), SMALL) == 2 * 64 * 4


def test_less_memory_lets_fewer_images_share_a_launch_moves_no_block_and_may_be_too_little():
    images = SMALL.expand(64, 1, 8, 8)
    free = UNBOUNDED.batches(images, 100)
    assert free.images == 15
    sample = (2 * 2 * 64 * 4 / 64 + 6 * 4) * 64  # bytes
    enough = Batching.within(2 * sample * 1600, Wide(), images)
    assert enough.batches(images, 100) == free
    few = Batching(2 * sample * 500, enough.per_element)
    assert few.batches(images, 100) == Batches(5, free.blocks)
    assert few.batches(images, 5000).blocks == UNBOUNDED.batches(images, 5000).blocks
    assert few.batches(images, 100, state=int(few.memory / 2 / 3)).images == 3
    with pytest.raises(ValueError, match=r"want at least \d+\.\d+ GiB, got 0\.00: raise --memory"):
        Batching.within(1000.0, Wide(), SMALL)


def test_fits_and_certificates_do_not_depend_on_memory():
    """As far as a linear network tells: images share launches or do not."""
    images = torch.rand(6, 1, 1, 4, generator=torch.Generator().manual_seed(0))
    model, streams = Linear(torch.ones(4)), Streams.of(0, range(6))
    method, found = RDDRSTR(sighted_steps=4, samples=40, compare_samples=100, start_samples=40), []
    for batching in (UNBOUNDED, Batching(1.0, 1.0)):  # one image at a time
        fit = method.fit(model, images, Context(0.3, streams, batching=batching))
        smoothed = Smoothed(model, batching=batching)
        found.append((fit, certify(smoothed, images, fit, Budget(n=500), streams)))
    (first, one), (second, other) = found
    torch.testing.assert_close(first.noise.scale, second.noise.scale)
    assert first.limit == pytest.approx(second.limit)
    assert one.region.radius == pytest.approx(other.region.radius)
    assert one.count.tolist() == other.count.tolist()

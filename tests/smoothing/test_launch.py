"""The partition of samples into launches."""

import pytest
import torch

from rddrs_dist.smoothing.launch import Launches


@pytest.mark.parametrize("n", [1, 99, 100, 127, 128, 1000, 12_345])
@pytest.mark.parametrize("side", [1, 8, 28, 64])
def test_blocks_add_up_and_launches_stay_small(n, side):
    images = torch.zeros(5, 1, side, side)
    launches = Launches.of(images, n)
    assert sum(launches.blocks) == n
    assert launches.images * max(launches.blocks) * side**2 <= max(100_000, 16 * side**2)


def test_blocks_do_not_depend_on_the_number_of_images():
    one, many = (Launches.of(torch.zeros(b, 1, 8, 8), 5000) for b in (1, 64))
    assert one.blocks == many.blocks


def test_groups_cover_all_images_once():
    launches = Launches.of(torch.zeros(7, 1, 28, 28), 50)
    covered = [i for rows in launches.groups(7) for i in range(rows.start, rows.stop)]
    assert launches.images == 2
    assert covered == list(range(7))

"""The kernel against Philox in Python integers."""

import math

import pytest
import torch

MASK = 2**32 - 1


def philox(key: int, counter: tuple[int, ...]) -> list[int]:
    """Philox 4x32-10 as published (Salmon et al. 2011, section 4.3)."""
    c, k = list(counter), [key & MASK, key >> 32 & MASK]
    for _ in range(10):
        first, third = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [third >> 32 ^ c[1] ^ k[0], third & MASK, first >> 32 ^ c[3] ^ k[1], first & MASK]
        k = [k[0] + 0x9E3779B9 & MASK, k[1] + 0xBB67AE85 & MASK]
    return c


def expected(key: int, stage: int, step: int, block: int, size: int) -> list[float]:
    """Box-Muller in double precision."""
    found: list[float] = []
    for group in range(-(-size // 4)):
        words = philox(key, (group, block, step, stage))
        for length, angle in (words[:2], words[2:]):
            radius, turn = math.sqrt(-2 * math.log((length + 0.5) / 2**32)), math.tau / 2**32
            found += [radius * math.cos(angle * turn), radius * math.sin(angle * turn)]
    return found[:size]


def test_the_reference_gives_the_published_answer():
    """The first known answer of the authors' Random123 library."""
    assert philox(0, (0, 0, 0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("counter", [(0, 0, 0), (3, 1, 2), (1, 2**31 - 1, 70_000)])
@pytest.mark.parametrize("shape", [(5, 1, 7), (1,), (8, 64)])
def test_numbers_are_those_of_philox(device, counter, shape):
    from rddrs_dist.cuda.philox import normal

    keys = torch.tensor([0, 1 << 40 | 7, -5])
    found = normal(keys.to(device), counter, shape).cpu()
    assert found.shape == (3, *shape)
    for key, own in zip(keys.tolist(), found, strict=True):
        wanted = torch.tensor(expected(key, *counter, math.prod(shape)), dtype=torch.float64)
        torch.testing.assert_close(own.flatten().double(), wanted, atol=2e-6, rtol=0)

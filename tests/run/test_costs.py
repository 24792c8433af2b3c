"""Seconds and memory from amounts, against arithmetic done by hand."""

from dataclasses import astuple

import pytest

from rddrs_dist.run.costs import TERMS, Cost, Rates, memory, seconds

TOLD = {
    "forward": 1000,
    "both": 400,
    "matrix_flops": 1e9,
    "eigh_seconds": 2.0,
    "dimension": 100,
}


def test_costs_add_scale_and_grow_with_the_dimension():
    one = Cost(*range(1, 12))
    assert astuple(one + one * 0.5) == tuple(1.5 * k for k in range(1, 12))
    squares, cubes = (4 * 6, 4 * 7), (8 * 8, 8 * 9, 8 * 10, 8 * 11)
    assert astuple(one.rescaled(2)) == (1, 2, 3, 4, 2 * 5, *squares, *cubes)


def test_seconds_are_amounts_over_rates():
    rates = Rates.of_device(TOLD)
    cost = Cost(3000, 400, 7, 3, 1e9, 4e9, 1e9, 1e9, 1e9, 2 * 100**3, 100**3)
    told = {"network": 4, "calls": 0, "noise": 0, "d2n": 4 + 2, "d3": 1 + 2 + 4 + 2}
    assert seconds(cost, rates) == told
    assert set(seconds(cost, rates)) == set(TERMS)
    slower = Rates.of_device({**TOLD, "elements": 1e8, "svd_seconds": 20, "call_seconds": 0.5})
    assert seconds(cost, slower)["calls"] == 5
    assert seconds(cost, slower)["noise"] == 10
    assert seconds(cost, slower)["d3"] == 1 + 2 + 4 + 20


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"forward": None}, "forward must be a positive number, got None"),
        ({"both": -1}, "both must be a positive number, got -1"),
        ({"flops": 1}, r"have unknown \['flops'\]"),
    ],
)
def test_device_rates_that_cannot_be_used_are_refused(change: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Rates.of_device(TOLD | change)
    with pytest.raises(ValueError, match=r"lack \['both'\]"):
        Rates.of_device({key: value for key, value in TOLD.items() if key != "both"})


def test_memory_is_that_of_the_formulas():
    sizes = {"activations": 1e5, "weights": 7.0, "training": 11.0}
    cpu = memory((3, 32, 32), 4, 500, 100_000, **sizes, device="cpu")
    matrix = 4 * 3072**2
    assert cpu == {
        "scales": 4 * matrix,
        "buffers": 16 * matrix,
        "launch": 32 * (12 * 3072 + 1e5),  # 100,000 numbers at once
        "look": 8192 * 16 * 3072,
        "fixed": 18.0,
    }
    cuda = memory((3, 32, 32), 64, 500, 100_000, **sizes, device="cuda")
    assert cuda["buffers"] == 64 * 4 * matrix
    assert cuda["launch"] == 21 * 500 * (12 * 3072 + 1e5)
    assert memory((1, 8, 8), 1, 500, 1000, **sizes | {"training": 0.0}, device="cpu")["look"] == 0

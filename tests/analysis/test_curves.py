"""Certified accuracy: exact comparison, exact steps, and a band that never lies above."""

import numpy as np

from rddrs_dist.analysis.curves import Curve, certified_accuracy, curves
from rddrs_dist.stats import clopper_pearson_lower
from tests.results.rows import abstention, sized

from .making import lines


def curve_of(*groups: list[dict], **options) -> Curve:
    (found,) = curves(lines(*groups), "proxy", **options)
    return found


def test_a_radius_equal_to_a_size_is_reached_and_the_next_number_is_not():
    size = 0.1 + 0.2  # 0.30000000000000004, which any rounding would make 0.3
    radii = np.array([0.3, size, np.nextafter(size, 1)])
    assert certified_accuracy(np.array([size]), radii).tolist() == [1.0, 1.0, 0.0]


def test_accuracy_is_the_plain_mean_of_a_comparison():
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(200) < 0.2, -1.0, rng.choice([0.0, 0.5, 1.0, 1.7], 200))
    radii = np.array([0.0, 0.5, 0.75, 1.7, 2.0])
    wanted = (sizes[None, :] >= radii[:, None]).mean(1)
    assert np.array_equal(certified_accuracy(sizes, radii), wanted)
    # Wrong rows do not count at radius zero, but a certified zero does.
    assert certified_accuracy(np.array([-1.0, 0.0, 1.0, -1.0]), np.zeros(1)).tolist() == [0.5]


def test_a_curve_steps_exactly_at_the_sizes_and_ends_at_zero():
    one = curve_of(sized([1.0, -1.0, 2.5, 1.0]), [abstention(4)])
    assert one.radii.tolist() == [0.0, 1.0, 2.5, np.nextafter(2.5, 3)]
    assert one.accuracy.tolist() == [0.6, 0.6, 0.2, 0.0]
    assert len(one.line) == 5 and one.reach == 2.5


def test_the_band_is_clopper_pearson_and_never_above_the_curve():
    one = curve_of(sized(np.random.default_rng(1).lognormal(0, 2, 300)))
    assert (one.lower <= one.accuracy).all() and (one.lower >= 0).all()
    assert (one.lower[:-1] < one.accuracy[:-1]).all()
    counts = np.round(one.accuracy * 300).astype(int)
    assert np.array_equal(one.lower, clopper_pearson_lower(counts, 300, 0.05))


def test_a_thinned_curve_never_lies_above_the_full_one():
    sizes = np.random.default_rng(2).lognormal(0, 1, 500)
    one = curve_of(sized(sizes), knots=20)
    assert len(one.radii) == 22
    dense = np.linspace(0, sizes.max(), 5000)
    drawn = one.accuracy[np.searchsorted(one.radii, dense)]  # what steps-pre shows
    assert (drawn <= certified_accuracy(sizes, dense)).all()
    assert np.array_equal(one.accuracy, certified_accuracy(sizes, one.radii))

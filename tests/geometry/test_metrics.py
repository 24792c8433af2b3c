"""Steps under the metrics of geomstats."""

import subprocess
import sys
from typing import get_args

import pytest
import torch

from rddrs_dist.geometry import metrics
from tests.oracles import random_spd, random_symmetric

P, G, V = random_spd(2, 4, seed=0), random_symmetric(2, 4, seed=1), random_symmetric(2, 4, seed=2)
NAMES = get_args(metrics.Metric)


def _velocity(name) -> torch.Tensor:
    """The step's velocity at its start, by central differences."""
    h = 1e-6
    ahead, behind = (metrics.step(name, P, G, t) for t in (h, -h))
    return (ahead - behind) / (2 * h)


@pytest.mark.parametrize("name", NAMES)
def test_step_starts_along_the_riemannian_gradient(name):
    """The velocity W of the step has <W, V>_P = tr(G V) for every V, in geomstats' own metric."""
    velocity = _velocity(name).numpy()
    inner = metrics.space(name, 4).metric.inner_product(velocity, V.numpy(), P.numpy())
    torch.testing.assert_close(torch.tensor(inner), (G * V).sum((1, 2)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_step_climbs_a_linear_function_by_its_slope(name):
    """tr(G P) grows along the step at the rate of the gradient's squared norm."""
    velocity = _velocity(name)
    norm = metrics.space(name, 4).metric.squared_norm(velocity.numpy(), P.numpy())
    slope = (G * velocity).sum((1, 2))
    assert bool((slope > 0).all())
    torch.testing.assert_close(slope, torch.tensor(norm), rtol=1e-6, atol=1e-6)


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="metric must be one of affine-invariant, log-euclidean"):
        metrics.step("euclidean", P, G, 1.0)  # pyright: ignore[reportArgumentType]


def test_the_science_imports_no_heavy_library_and_geomstats_leaves_the_default_dtype_alone():
    code = """if True:
        import sys, torch, rddrs_dist
        print([m for m in ("ray", "geomstats", "matplotlib") if m in sys.modules])
        from rddrs_dist.geometry import metrics
        metrics.space("log-euclidean", 2)
        print(torch.get_default_dtype())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "torch.float32"]

"""Samples as benchmarks count them, and the one that runs where torch, numpy and scipy are."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.gpu import work
from rddrs_dist import (
    DDRS,
    RDDRS,
    RDDRSTR,
    RS,
    URS,
    Aim,
    Ancer,
    Context,
    IsotropicNoise,
    Method,
    Neighbours,
    Streams,
)

ROOT = Path(__file__).parent.parent
# Everything the package uses elsewhere, and neither torch nor what it imports itself.
ABSENT = (
    "ray", "geomstats", "pandas", "pyarrow", "tyro", "torchvision", "matplotlib", "safetensors",
    "sklearn", "rich",
)  # fmt: skip
RUN = """
import runpy, sys
sys.modules.update(dict.fromkeys({absent!r}))
sys.path.insert(0, "benchmarks")
sys.argv = ["gpu.py", *sys.argv[1:]]
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


@pytest.mark.parametrize(
    "method",
    [
        RS(),
        DDRS(steps=20, candidate_every=5, samples=7, compare_samples=30),
        Ancer(steps=6, samples=9, compare_samples=30),
        RDDRS(steps=3, gradient_samples=50, margin_samples=11, compare_samples=30),
        RDDRSTR(sighted_steps=4, samples=40, start_samples=20, compare_samples=60),
        RDDRSTR(blindness=1.0, steps=4, samples=40, start_samples=20, compare_samples=60),
        URS(steps=4, samples=40, start_samples=50),
        Aim(start_samples=30, trials=3, samples=40, sight_samples=20),
    ],
)
def test_samples_are_those_of_the_settings(method: Method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10)).eval().requires_grad_(False)
    model[1].weight *= 8
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    start = IsotropicNoise.constant(0.25, image)
    seen = Counter()

    def count(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[torch.is_grad_enabled() and inputs[0].requires_grad] += len(inputs[0])

    model.register_forward_pre_hook(count)
    known = Neighbours(torch.rand(20, 1, 4, 4), torch.arange(20) // 2 % 10)
    context = Context(0.25, Streams.of(0, [0]), sigma_star=start, neighbours=known)
    if method.universal:
        context = replace(context, universal=method.prepare(model, context))
    fit = method.fit(model, image, context)
    # DDRS and ANCER keep one of several candidates: all of them were computed.
    counted = method.name in ("rddrs_tr", "aim")
    steps = int(fit.steps[0]) if counted else getattr(method, "steps", 0)
    assert (seen[False], seen[True]) == work(method, steps)


def test_the_device_benchmark_runs_without_ray_geomstats_and_files_libraries(shared):
    flags = ["--checkpoint", shared / "reference" / "LeNet5_0.25.pth", "--device", "cpu"]
    flags += ["--data-root", shared / "data", "--images", "1", "--n", "100"]
    found = subprocess.run(
        [sys.executable, "-c", RUN.format(absent=ABSENT), *flags, "--methods", "rs", "rddrs_tr"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert "Tflop/s" in lines[1] and "samples/s forward" in lines[2]
    assert "float32" in lines[3] and "of the matrix product's" in lines[4]
    assert [line.split()[0] for line in lines[6:]] == ["rs", "rddrs_tr"]
    assert lines[7].endswith("h") and float(lines[7].split()[1]) > 0

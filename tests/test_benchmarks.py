"""The benchmark that must run where only torch, numpy and scipy are."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Everything the package uses elsewhere, and neither torch nor what it imports itself.
ABSENT = (
    "ray", "geomstats", "pandas", "pyarrow", "tyro", "torchvision", "matplotlib", "safetensors",
    "sklearn", "rich",
)  # fmt: skip
RUN = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is not on that machine")

sys.meta_path.insert(0, Absent())
sys.path.insert(0, "benchmarks")
sys.argv = ["gpu.py", *sys.argv[1:]]
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


def test_the_device_benchmark_runs_without_ray_geomstats_and_files_libraries(shared):
    flags = ["--checkpoint", shared / "reference" / "LeNet5_0.25.pth", "--device", "cpu"]
    flags += ["--data-root", shared / "data", "--images", "2", "--n", "100"]
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

"""The kernels compile for a Hopper GPU and fit its shared memory; no GPU is needed to see it."""

import json
import os
import subprocess
import sys

# Bytes that a block may have (CUDA C++ programming guide, compute capability 9.0).
SHARED = 227 * 1024


def test_a_block_has_the_shared_memory(device):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda.shared_memory"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 12 and all(0 < shared <= SHARED for _, _, shared in found), found

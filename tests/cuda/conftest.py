"""Kernels on a GPU where there is one, and otherwise in Triton's interpreter on the CPU."""

import os
from importlib.util import find_spec

import pytest
import torch

if not torch.cuda.is_available():
    # Triton reads this when a kernel is defined.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def device() -> str:
    """Return where kernels run."""
    if find_spec("triton") is None:
        pytest.skip("no Triton here; torch brings it along on Linux")
    return "cuda" if torch.cuda.is_available() else "cpu"

"""Rows of 0.7.0 on digits and MNIST: what is rebuilt makes them again, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rddrs_dist import cli
from rddrs_dist.results import read

RECORDED = Path(__file__).parents[1] / "recorded"
COMMON = (
    *("--methods", "rs", "ddrs", "ancer", "rddrs", "rddrs_tr", "--rddrs-tr.blindness", "1"),
    *("--n", "10000", "--seed", "3", "--shard-size", "2", "--executor", "local"),
)
DIGITS = (
    *("--checkpoint", str(RECORDED / "digits-lenet-0.25.safetensors")),
    *("--indices", "0:240:40", "--ddrs.steps", "100", "--ddrs.candidate-every", "50"),
    *("--ddrs.learning-rate", "0.001", "--ancer.steps", "30", "--rddrs.step-lengths", "0.25"),
    *("--rddrs.steps", "10", "--rddrs.gradient-samples", "500"),
)
MNIST = (
    *("--sigma", "0.25", "--indices", "0,1500,9000", "--ddrs.steps", "50"),
    *("--ddrs.candidate-every", "25", "--ddrs.learning-rate", "0.001", "--ancer.steps", "20"),
    *("--rddrs.step-lengths", "1.25", "--rddrs.steps", "5", "--rddrs.gradient-samples", "500"),
)
NUMBERS = ("p_lower", "radius", "radius_limit", "l2_radius", "proxy_radius") + (
    *("log_volume", "min_axis", "mean_axis", "max_axis"),
)


def _number(text: str) -> float:
    """Exactly the number that was printed."""
    return float(text) if text else np.nan


def _cpu() -> str:
    """What decides the last bits of sums: the processor, and the instructions torch uses."""
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    )
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else 'unknown'}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.fixture
def recorded() -> pd.DataFrame:
    """The rows, on a machine whose sums have the same last bits."""
    machine = json.loads((RECORDED / "machine.json").read_text())
    wanted = {
        "cpu": f"{machine['cpu']}, {machine['capability']}",
        "torch": machine["torch"],
        "numpy": machine["numpy"],
    }
    here = {"cpu": _cpu(), "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    if here != wanted:
        pytest.skip(f"rows were recorded on {wanted}, this is {here}: their last bits may differ")
    return pd.read_csv(RECORDED / "rows.csv", converters=dict.fromkeys(NUMBERS, _number))


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_rows_are_those_of_0_7_0(dataset, recorded, request, tmp_path):
    flags = DIGITS
    if dataset == "mnist":
        shared = request.getfixturevalue("shared")
        network = shared / "reference" / "LeNet5_0.25.pth"
        flags = (*MNIST, "--checkpoint", str(network), "--data-root", str(shared / "data"))
    out = tmp_path / "run"
    code = cli.main(["certify", "--dataset", dataset, *COMMON, *flags, "--out", str(out)])
    assert code == cli.COMPLETE
    gone = ["dataset", "capped_proxy_radius", "axes_beyond_domain"]  # columns of 0.7.0 alone
    wanted = recorded.loc[recorded["dataset"] == dataset].drop(columns=gone)
    found = read(out)[wanted.columns]
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), wanted.reset_index(drop=True), check_exact=True,
        check_dtype=False,
    )  # fmt: skip

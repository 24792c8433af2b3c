"""Figure 1: probabilities in the plane against closed forms, and the job, tiny, end to end."""

from collections.abc import Iterator
from pathlib import Path

import figure1
import numpy as np
import pandas as pd
import pytest
import torch
from plane import exact
from plane.problem import Network, Problem
from scipy.stats import multivariate_normal, norm

from rddrs_dist import cli
from rddrs_dist.run.local import own_threads
from tests.run.runs import one_line

CENTRE = np.array([0.3, 0.6])
SCALE = np.array([[0.2, 0.15], [-0.05, 0.1]])
MIRROR = np.diag([1.0, -1.0])
LOSES = -1e6


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with own_threads():
        torch.set_num_threads(1)
        yield


def _linear(*logits: tuple[float, float, float]):
    """A network whose logits are a x + b y + c, without a bend anywhere: relu(t) - relu(-t)."""
    hidden = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    out = torch.tensor([[a, -a, b, -b, c] for a, b, c in logits])
    return Network(hidden, out)


def _p(network, label: int, points: np.ndarray = CENTRE, scale: np.ndarray = SCALE) -> np.ndarray:
    return exact.probability(exact.decision_region(network, label), np.atleast_2d(points), scale)


@pytest.fixture(scope="module")
def problem(_one_thread: None):
    return Problem.made(sigma=0.04, seed=0)


@pytest.mark.parametrize("scale", [SCALE, SCALE @ MIRROR, 40 * SCALE, 0.01 * SCALE])
def test_a_half_plane_has_the_probability_of_its_distance(scale: np.ndarray):
    network = _linear((3.0, -2.0, 0.5), (0, 0, 0), (0, 0, LOSES))
    w = np.array([3.0, -2.0])
    expected = norm.cdf((w @ CENTRE + 0.5) / np.linalg.norm(scale.T @ w))
    assert _p(network, 0, scale=scale) == pytest.approx(expected, rel=1e-12)
    assert _p(network, 1, scale=scale) == pytest.approx(1 - expected, rel=1e-11)
    assert _p(network, 2, scale=scale) == 0


def test_a_quadrant_under_correlated_noise_at_many_points():
    network = _linear((0, 0, 0), (-1, 0, 0), (0, -1, 0))  # class 0 where x > 0 and y > 0
    points = np.array([[0.3, 0.1], [0.0, 0.0], [-0.2, 0.4]])
    law = multivariate_normal(cov=SCALE @ SCALE.T)
    expected = [law.cdf(point) for point in points]
    assert _p(network, 0, points) == pytest.approx(expected, abs=1e-9)


def test_classes_share_the_plane_and_agree_with_samples(problem):
    centre = problem.test[0].double().numpy()
    shares = np.array([_p(problem.network, label, centre)[0] for label in range(3)])
    assert shares.sum() == pytest.approx(1, abs=1e-12) and shares.min() > 0.01
    z = np.random.default_rng(0).normal(size=(200_000, 2))
    samples = torch.from_numpy(centre + z @ SCALE.T).float()
    counts = problem.network(samples).argmax(1).bincount(minlength=3).numpy()
    error = np.sqrt(shares * (1 - shares) / len(z))
    assert (np.abs(counts / len(z) - shares) < 4 * error).all()


def test_the_exact_region_of_a_half_plane_cannot_be_larger():
    network = _linear((1, 0, 0), (0, 0, 0), (0, 0, LOSES))
    radius = exact.exact_radius(_p(network, 0)[0])
    for size, smallest in ((radius, 0.5), (1.1 * radius, norm.cdf(-0.1 * radius))):
        disc = exact.disc(size, directions=720)
        shares = _p(network, 0, CENTRE + disc @ SCALE.T)
        assert shares.min() == pytest.approx(smallest, abs=1e-4)
    assert exact.exact_radius(0.4) == 0


def test_the_job_writes_figure_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    flags = "--angles 3 --n 5000 --ddrs.steps 200 --ddrs.candidate-every 200"
    flags += " --ddrs.learning-rate 5e-4 --ancer.learning-rates 0.04 --rddrs.steps 60"
    flags += f" --rddrs.step-lengths 0.5 --rddrs.gradient-samples 2000 --out {tmp_path}"
    assert figure1.main(flags.split()) == cli.COMPLETE
    said = capsys.readouterr().out
    assert "0 of 36 certificates have a p_lower above" in said
    assert "0 of 27,684 points inside certified regions" in said
    rows = pd.read_csv(tmp_path / "figure1.csv")
    assert rows["angle"].tolist() == [angle for angle in (0, 45, 90) for _ in range(4)]
    assert (rows["certified_area"] < rows["exact_area"]).all()
    assert (rows["certified_area"] > 0.8 * rows["exact_area"]).all()
    assert (rows["smallest_p"] > 0.5).all() and (rows["points"] > 500).all()
    # Regions turn with data, network and samples, but not those of ANCER.
    areas = rows.groupby("method")["exact_area"]
    spread = areas.agg(np.ptp) / areas.mean()
    assert spread[["ddrs", "rddrs", "rddrs_tr"]].max() < 1e-4 and spread["ancer"] > 0.2
    directions = rows.pivot_table("orientation", "method", "angle", dropna=False)
    for name in ("rddrs", "rddrs_tr"):
        assert (directions.loc[name].diff()[1:] % 180).to_numpy() == pytest.approx(45, abs=1), name
    assert rows.loc[rows["method"] == "ddrs", "orientation"].isna().all()
    for name in ("samples", "unturned"):
        others = pd.read_csv(tmp_path / f"figure1-{name}.csv")
        assert len(others) == 12
        assert others.loc[others["method"] == "rddrs", "exact_area"].std() > 0
    assert (tmp_path / "figure1.png").stat().st_size > 50_000
    assert (tmp_path / "figure1.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--angles 2", "--angles must be at least 3, got 2"),
        ("--sigma 0", "--sigma must be positive and finite, got 0"),
        ("--seed -1", "--seed must not be negative, got -1"),
        ("--n 5", "--n = 5 can never certify"),
        (f"--out {__file__}", "--out must be a folder, got the file"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    flags: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert figure1.main(["--out", str(tmp_path / "out"), *flags.split()]) == cli.WRONG
    assert complaint in one_line(capsys)
    assert not (tmp_path / "out").exists()

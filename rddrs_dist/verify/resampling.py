"""Counts drawn once more: from the streams of the run, and from streams of our own.

The streams and their blocks are definitions and shared (`smoothing.seeds`, `smoothing.batching`);
the loop is not. It colours with one matrix product, takes one image at a time and lays the network
out as it was saved, so that logits differ from those of the run in their last digits. A sample
whose two largest logits are closer than that may then fall to the other class: the count that is
stored has to lie between that of the samples that are surely of the class and that of those that
may be.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import fisher_exact
from torch import Tensor, nn

from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.smoothing.batching import Batching
from rddrs_dist.smoothing.precision import Precision, multiplying
from rddrs_dist.smoothing.seeds import Stage, Streams
from rddrs_dist.verify.findings import (
    Checked,
    Finding,
    Missing,
    Row,
    Severity,
    over_rows,
    unless,
    wrong,
)
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.scales import key_of
from rddrs_dist.version import __version__

# Two logits nearer than this share of the largest are a tie: many times what rounding and another
# order of sums do to one, be it in single precision or with the 11 bits of TF32.
TIE: dict[Precision, float] = {"float32": 1e-4, "tf32": 0.02}
# Probability that any of the rows of a sound run fails the test with fresh samples.
LEVEL = 1e-6


@lru_cache(1)
def _model(case: Case) -> tuple[nn.Module, torch.device]:
    """The network where the run had it, if there is such a device.

    By torch's own operations, not by the kernels that a run may have had.
    """
    on_gpu = case.run.device == "cuda" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    return case.network.model.to(device), device


@lru_cache(1)
def _chosen(case: Case) -> list[Row]:
    """The --resample rows that are drawn again, chosen by --seed.

    Rows whose settings or class are impossible are passed over: other checks tell of them.

    Raises:
        Missing: If something is not there.
    """
    if not case.options.resample:
        raise Missing("no --resample given")
    if case.network.event_shape != case.images.event_shape:
        raise Missing("the network takes images of another shape")
    there = [
        row
        for row in case.rows
        if row["error"] is None
        and row["n"] in case.sizes
        and row["index"] < len(case.images)
        and row["prediction"] < case.images.classes
        and key_of(row) in case.axes
    ]
    order = np.random.default_rng(case.options.seed).permutation(len(there))
    return [there[k] for k in sorted(order[: case.options.resample])]


@torch.no_grad()
def _draw(case: Case, row: Row, seed: int, stage: Stage, sizes: Sequence[int]) -> Tensor:
    """Answers of the network at x + S z for one row, with so many samples in each step.

    Returns:
        (3, K) int64: of each class the samples in which it is the answer, those in which it is so
        without a tie, and those in which it is tied for the answer, or is it.
    """
    (model, device), run = _model(case), case.run
    image = torch.from_numpy(case.images.images[row["index"]][None]).to(device)
    scale = torch.from_numpy(case.scales.matrix(key_of(row))).to(device)
    streams, parts = Streams.of(seed, [row["index"]]), []
    for step, n in enumerate(sizes):
        for block, size in enumerate(Batching().batches(image, n).blocks):
            z = streams.normal(stage, step, block, size, image)[0]  # (n, *event)
            unsure = torch.zeros(len(z), dtype=torch.bool, device=device)
            with multiplying(run.precision, device):
                if run.quantisation is None:
                    seen = image + _coloured(scale.to(z), z)
                else:
                    seen, unsure = _rounded(image, scale, z, run.quantisation)
                parts.append(_answers(model(seen), unsure, TIE[run.precision]))
    return torch.stack(parts).sum(0)


def _coloured(scale: Tensor, z: Tensor) -> Tensor:
    """S z for samples z (n, *event), S (d, d) or its diagonal (d,)."""
    flat = z.flatten(1)
    return (flat * scale if scale.ndim == 1 else flat @ scale.T).view_as(z)  # (n, d) @ (d, d)


def _rounded(image: Tensor, scale: Tensor, z: Tensor, quantisation: int) -> tuple[Tensor, Tensor]:
    """Pixels (n, *event) of x + S z rounded to multiples of 1 / quantisation.

    And whether rounding errors may change a sample, (n,).
    """
    z = z.double()
    scaled = (image.double() + _coloured(scale, z)) * quantisation
    row = scale.abs().max() if scale.ndim == 1 else scale.norm(dim=1).max()
    # Some times what the run itself allows for: such samples may be in its count or not.
    slack = 8 * quantisation * image.numel() * 2.0**-53 * (row * z.flatten(1).norm(dim=1) + 1)
    near = 0.5 - (scaled - scaled.round()).abs().flatten(1).amax(1) <= slack
    return (scaled.round() / quantisation).float(), near


def _answers(logits: Tensor, unsure: Tensor, tie: float) -> Tensor:
    """Answers by logits (n, K), some of which may not count, unsure (n,); see `_draw`."""
    sure = ~unsure.unsqueeze(1)
    largest = logits.max(1, keepdim=True).values
    known = logits.isfinite().all(1, keepdim=True)  # a sample that overflows has no class
    near = known & (logits >= largest - tie * logits.abs().max(1, keepdim=True).values)
    alone = near & (near.sum(1, keepdim=True) == 1)
    chosen = (known & sure) * nn.functional.one_hot(logits.argmax(1), logits.shape[1])
    return torch.stack([chosen.sum(0), (alone & sure).sum(0), near.sum(0)])


def check_redrawn(case: Case) -> Checked:
    """The streams of the run give the class and the count of the row."""
    rows, run = _chosen(case), case.run
    if run.code_version != __version__:
        made_by = f"rddrs_dist {run.code_version}, and this is {__version__}"
        raise Missing(f"the streams are those of {made_by}")
    if _model(case)[1].type != run.device:
        raise Missing("the streams were drawn on a GPU; torch finds none")

    def judge(row: Row) -> Iterator[Finding]:
        selected = _draw(case, row, run.seed, Stage.SELECT, [run.budget.n0])
        tested = [0, *(size for size in case.sizes if size <= row["n"])]
        steps = [end - start for start, end in pairwise(tested)]
        estimate = _draw(case, row, run.seed, Stage.ESTIMATE, steps)
        yield from _count_findings(row, selected, estimate)

    return over_rows(rows, judge)


def _count_findings(row: Row, selected: Tensor, estimate: Tensor) -> Iterator[Finding]:
    """Holds prediction and count against what was drawn again."""
    # The class of an abstention is not on record: any that may have been selected will do.
    classes = (selected[2] >= selected[1].max()).nonzero()[:, 0].tolist()
    if row["prediction"] != ABSTAIN:
        if row["prediction"] not in classes:
            yield wrong(f"prediction {classes[0]}, selected by the streams", row["prediction"])
            return
        classes = [row["prediction"]]
    counts, least, most = estimate[:, classes].tolist()
    ranges = list(zip(least, most, strict=True))
    if not any(low <= row["count"] <= high for low, high in ranges):
        wanted = " or ".join(f"{low} to {high}" for low, high in ranges)
        yield wrong(f"a count of {wanted}, drawn from the streams", row["count"])
    elif row["count"] not in counts:
        wanted, found = " or ".join(map(str, counts)), f"{row['count']}, by ties of logits"
        yield Finding(Severity.NOTE, f"a count of {wanted}", found)


def check_fresh(case: Case) -> Checked:
    """Fresh samples find the class as often as the run did.

    Fisher's exact test, two-sided, at `LEVEL` over the number of rows, and of tests at which an
    image may have stopped. Abstentions are passed over: their class is not on record.
    """
    rows = [row for row in _chosen(case) if row["prediction"] != ABSTAIN]
    name = hashlib.sha256(f"{case.run_id} {case.options.seed}".encode()).digest()
    fresh = int.from_bytes(name[:7], "big") + (1 << 56)  # beyond any seed that one would choose

    def judge(row: Row) -> Iterator[Finding]:
        n, drawn = row["n"], _draw(case, row, fresh, Stage.ESTIMATE, [row["n"]])
        count = int(drawn[0, row["prediction"]])
        table = [[row["count"], n - row["count"]], [count, n - count]]
        p = float(fisher_exact(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
        agrees = p >= LEVEL / len(rows) / case.tests
        wanted = f"a count that agrees with {count} of {n} fresh samples"
        yield from unless((agrees, wanted, f"{row['count']}, p-value {p:.2g}"))

    return over_rows(rows, judge)


def check_others_inside(case: Case) -> Checked:
    """others_inside counts the training images with another label at a distance below radius."""
    rows, training = _chosen(case), case.training

    def judge(row: Row) -> Iterator[Finding]:
        others = training.images[training.labels != row["prediction"]]
        least, most = _inside(case, row, torch.from_numpy(others))
        counted = row["others_inside"] is not None and least <= row["others_inside"] <= most
        yield from unless((counted, f"{least} to {most} others inside", row["others_inside"]))

    return over_rows(rows, judge)


def _inside(case: Case, row: Row, others: Tensor) -> tuple[int, int]:
    """Fewest and most of images (N, *event) in a region; a relative 1e-6 is left to rounding."""
    scale = torch.from_numpy(case.scales.matrix(key_of(row)))
    matrix = torch.diag(scale) if scale.ndim == 1 else scale
    centre = torch.from_numpy(case.images.images[row["index"]]).flatten().double()
    counts = torch.zeros(2, dtype=torch.int64)
    for some in others.flatten(1).split(4096):
        delta = some.double() - centre
        distances = torch.linalg.solve(matrix, delta.T).norm(dim=0)  # (d, d), (d, n) -> (n,)
        bounds = [row["radius"] * (1 + share) for share in (-1e-6, 1e-6)]
        counts += torch.stack([(distances < bound).sum() for bound in bounds])
    return int(counts[0]), int(counts[1])

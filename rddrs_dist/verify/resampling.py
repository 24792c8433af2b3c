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
import scipy
import torch
from torch import Tensor, nn

from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.smoothing.batching import Batching
from rddrs_dist.smoothing.precision import Precision, multiplying
from rddrs_dist.smoothing.seeds import Stage, Streams
from rddrs_dist.verify.findings import Checked, Claim, Missing, Row, Severity, each_row, key_of
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.scales import distances
from rddrs_dist.verify.sight import measured
from rddrs_dist.version import __version__

# Two logits nearer than this share of the largest are a tie: many times what rounding and another
# order of sums do to one, be it in single precision or with the 11 bits of TF32.
TIE: dict[Precision, float] = {"float32": 1e-4, "tf32": 0.02}
# Probability that any of the rows of a sound run fails the test with fresh samples.
LEVEL = 1e-6


@lru_cache(1)
def _model(case: Case) -> tuple[nn.Module, torch.device]:
    """The network where the run had it, if there is such a device, but without its kernels."""
    on_gpu = case.run.device == "cuda" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    return case.network.model.to(device), device


@lru_cache(1)
def _chosen(case: Case) -> list[Row]:
    """The --resample rows that are drawn again, chosen by --seed among those that can be."""
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

    (3, K): of each class the samples in which it is the answer, those in which it is so without a
    tie, and those in which it is tied for the answer, or is it.
    """
    (model, device), run = _model(case), case.run
    image = torch.from_numpy(case.images.images[row["index"]][None]).to(device)
    scale = torch.from_numpy(case.scales.matrix(key_of(row))).to(device)
    streams, parts = Streams.of(seed, [row["index"]]), []
    for step, n in enumerate(sizes):
        for block, size in enumerate(Batching().batches(image, n).blocks):
            z = streams.normal(stage, step, block, size, image)[0].flatten(1).double()
            pixels, unsure = _seen(image.double().flatten(1), scale, z, run.quantisation)
            with multiplying(run.precision, device):
                logits = model(pixels.float().unflatten(1, image.shape[1:]))
            parts.append(_answers(logits, unsure, TIE[run.precision]))
    return torch.stack(parts).sum(0)


def _seen(
    image: Tensor, scale: Tensor, z: Tensor, quantisation: int | None
) -> tuple[Tensor, Tensor]:
    """x + S z for z (n, d) and x (n, d) or (1, d), rounded as in the run.

    And which may have rounded otherwise, (n,).
    """
    pixels = image + (z * scale if scale.ndim == 1 else z @ scale.T)  # (n, d) @ (d, d)
    if quantisation is None:
        return pixels, torch.zeros(len(z), dtype=torch.bool, device=z.device)
    scaled = pixels * quantisation
    row = scale.abs().max() if scale.ndim == 1 else scale.norm(dim=1).max()
    # Some times what the run itself allows for: such samples may be in its count or not.
    slack = 8 * quantisation * len(scale) * 2.0**-53 * (row * z.norm(dim=1) + 1)
    near = 0.5 - (scaled - scaled.round()).abs().amax(1) <= slack
    return scaled.round() / quantisation, near


def _answers(logits: Tensor, unsure: Tensor, tie: float) -> Tensor:
    """Answers by logits (n, K), some of which may not count, unsure (n,); see `_draw`."""
    largest = logits.max(1, keepdim=True).values
    known = logits.isfinite().all(1, keepdim=True)  # a sample that overflows has no class
    near = known & (logits >= largest - tie * logits.abs().max(1, keepdim=True).values)
    sure = known & ~unsure.unsqueeze(1)
    alone = near & sure & (near.sum(1, keepdim=True) == 1)
    chosen = sure * nn.functional.one_hot(logits.argmax(1), logits.shape[1])
    return torch.stack([chosen.sum(0), alone.sum(0), near.sum(0)])


def check_redrawn(case: Case) -> Checked:
    """The streams of the run give the class and the count of the row."""
    rows, run = _chosen(case), case.run
    if run.code_version != __version__:
        made_by = f"rddrs_dist {run.code_version}, and this is {__version__}"
        raise Missing(f"the streams are those of {made_by}")
    if _model(case)[1].type != run.device:
        raise Missing("the streams were drawn on a GPU; torch finds none")

    def judge(row: Row) -> Iterator[Claim]:
        selected = _draw(case, row, run.seed, Stage.SELECT, [run.budget.n0])
        tested = [0, *(size for size in case.sizes if size <= row["n"])]
        steps = [end - start for start, end in pairwise(tested)]
        estimate = _draw(case, row, run.seed, Stage.ESTIMATE, steps)
        # The class of an abstention is not on record: any that may have been selected will do.
        classes = (selected[2] >= selected[1].max()).nonzero()[:, 0].tolist()
        own, count = row["prediction"], row["count"]
        if own != ABSTAIN:
            yield own in classes, f"prediction {classes[0]}, selected by the streams", own
            classes = [one for one in classes if one == own]
        counts, least, most = estimate[:, classes].tolist()
        ranges = list(zip(least, most, strict=True))
        possible = not classes or any(low <= count <= high for low, high in ranges)
        wanted = " or ".join(f"{low} to {high}" for low, high in ranges)
        yield possible, f"a count of {wanted}, drawn from the streams", count
        same = not classes or not possible or count in counts
        wanted, found = " or ".join(map(str, counts)), f"{count}, by ties of logits"
        yield same, f"a count of {wanted}", found, Severity.NOTE

    return each_row(rows, judge)


def check_fresh(case: Case) -> Checked:
    """Fresh samples find the class as often as the run did.

    Fisher's exact test, two-sided, at `LEVEL` over the number of rows, and of tests at which an
    image may have stopped. Abstentions are passed over: their class is not on record.
    """
    rows = [row for row in _chosen(case) if row["prediction"] != ABSTAIN]
    fresh = _fresh_seed(case)

    def judge(row: Row) -> Iterator[Claim]:
        n, drawn = row["n"], _draw(case, row, fresh, Stage.ESTIMATE, [row["n"]])
        count = int(drawn[0, row["prediction"]])
        yield _agree(row["count"], count, n, LEVEL / len(rows) / case.run.budget.sequential_tests)

    return each_row(rows, judge)


def _fresh_seed(case: Case) -> int:
    """A seed beyond any that one would choose."""
    name = hashlib.sha256(f"{case.run_id} {case.options.seed}".encode()).digest()
    return int.from_bytes(name[:7], "big") + (1 << 56)


def _agree(stored: int, count: int, n: int, level: float) -> Claim:
    """Two counts, out of n each, may be of one probability; Fisher's exact test, two-sided."""
    table = [[stored, n - stored], [count, n - count]]
    p = float(scipy.stats.fisher_exact(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    wanted = f"a count that agrees with {count} of {n} fresh samples"
    return p >= level, wanted, f"{stored}, p-value {p:.2g}"


def check_blindness(case: Case) -> Checked:
    """Fresh samples at training images of other labels are blind as often as those of the run.

    The images are chosen anew too, and `LEVEL` is shared by the rows as for other counts.
    """
    rows = [row for row in _chosen(case) if row["blindness"] is not None]
    training, m, fresh = case.training, case.run.sight_samples, _fresh_seed(case)
    half = measured(len(training.labels))
    images, labels = (part[half] for part in (training.images, training.labels))

    def judge(row: Row) -> Iterator[Claim]:
        stored, others = row["blindness"] * m, np.flatnonzero(labels != row["prediction"])
        if not m or not len(others) or not stored.is_integer():
            yield False, f"a share of {m} samples at training images of other labels", stored
            return
        chosen = np.random.default_rng([fresh, row["index"]]).choice(others, m)
        count = _blind(case, row, torch.from_numpy(images[chosen]), fresh)
        yield _agree(int(stored), count, m, LEVEL / len(rows))

    return each_row(rows, judge)


@torch.no_grad()
def _blind(case: Case, row: Row, centres: Tensor, seed: int) -> int:
    """How many of samples at centres (m, *event), one each, get the class of a row, or none."""
    (model, device), run = _model(case), case.run
    scale = torch.from_numpy(case.scales.matrix(key_of(row))).to(device)
    streams, like, blind = Streams.of(seed, [row["index"]]), centres[:1].to(device), 0
    for block, some in enumerate(centres.split(1024)):
        z = streams.normal(Stage.SIGHT, 0, block, len(some), like)[0].flatten(1).double()
        centre = some.to(device).double().flatten(1)
        pixels, unsure = _seen(centre, scale, z, run.quantisation)
        with multiplying(run.precision, device):
            logits = model(pixels.float().unflatten(1, like.shape[1:]))
        sees = logits.isfinite().all(1) & ~unsure & (logits.argmax(1) != row["prediction"])
        blind += int((~sees).sum())
    return blind


def check_others_inside(case: Case) -> Checked:
    """others_inside counts the training images with another label at a distance below radius."""
    rows, training = _chosen(case), case.training
    images = torch.from_numpy(training.images).flatten(1)  # (N, d)

    def judge(row: Row) -> Iterator[Claim]:
        others = images[torch.from_numpy(training.labels != row["prediction"])]
        centre = torch.from_numpy(case.images.images[row["index"]]).flatten().double()
        scale = torch.from_numpy(case.scales.matrix(key_of(row)))
        least = most = 0
        for some in others.split(4096):
            delta = some.double() - centre
            own = distances(scale, delta.T)
            # A relative 1e-6 is left to rounding.
            least += int((own < row["radius"] * (1 - 1e-6)).sum())
            most += int((own < row["radius"] * (1 + 1e-6)).sum())
        found = row["others_inside"]
        counted = found is not None and least <= found <= most
        yield counted, f"{least} to {most} others inside", found

    return each_row(rows, judge)

"""Counts drawn once more: from the streams of the run, and from streams of our own.

The streams and their blocks are definitions and shared (`smoothing.seeds`, `smoothing.launch`);
the loop is not. It colours with one matrix product, takes one image at a time and lays the network
out as it was saved, so that logits differ from those of the run in their last digits. A sample
whose two largest logits are closer than that may then fall to the other class: the count that is
stored has to lie between that of the samples that are surely of the class and that of those that
may be.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import fisher_exact
from torch import Tensor, nn

from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.batching import Batches
from rddrs_dist.smoothing.precision import Precision, multiplying
from rddrs_dist.verify.certificates import ABSTAIN
from rddrs_dist.verify.findings import Fault, Outcome, Row, Severity, over_rows, wrong
from rddrs_dist.verify.folder import Config
from rddrs_dist.verify.scales import Scale, Stored, is_usable

# Two logits nearer than this share of the largest are a tie: many times what rounding and another
# order of sums do to one, be it in single precision or with the 11 bits of TF32.
TIE: dict[Precision, float] = {"float32": 1e-4, "tf32": 0.02}
# Probability that any of the rows of a sound run fails the test with fresh samples.
LEVEL = 1e-6


@dataclass(frozen=True, eq=False)
class Drawn:
    """Answers of a network to n samples.

    Attributes:
        counts: (K,), samples of each class.
        surely: (K,), those without a tie.
        maybe: (K,), those in which the class is tied for the answer, or is it.
    """

    counts: Tensor
    surely: Tensor
    maybe: Tensor

    @property
    def candidates(self) -> list[int]:
        """Classes that may be the most frequent answer."""
        return [int(c) for c in (self.maybe >= self.surely.max()).nonzero()[:, 0]]


@dataclass(frozen=True, eq=False)
class Redrawing:
    """What is needed to draw again.

    Attributes:
        model: The network, on its device.
        images: (N, *event), the data set, on that device.
        config: Of the run.
        stored: The scales.
    """

    model: nn.Module
    images: Tensor
    config: Config
    stored: Stored

    @torch.no_grad()
    def draw(self, row: Row, seed: int, stage: Stage, sizes: Sequence[int]) -> Drawn:
        """Answers at x + S z for one row.

        Args:
            row: Image and method.
            seed: Of the streams.
            stage: What the streams are for.
            sizes: Samples in each step.
        """
        image = self.images[row["index"]][None]
        streams, scale = Streams.of(seed, [row["index"]]), self.stored[row]
        parts = []
        for step, n in enumerate(sizes):
            for block, size in enumerate(Batches.of(image, n).blocks):
                z = streams.normal(stage, step, block, size, image)[0]  # (n, *event)
                parts.append(self._looked_at(image, scale, z))
        return Drawn(*(torch.stack(group).sum(0) for group in zip(*parts, strict=True)))

    def _looked_at(self, image: Tensor, scale: Scale, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, sure and possible counts at x + S z, z (n, *event); see `Drawn`."""
        unsure = torch.zeros(len(z), dtype=torch.bool)
        with multiplying(self.config.precision, z.device):
            if self.config.levels is None:
                seen = image + _coloured(scale, z)
            else:
                seen, unsure = _rounded(image.double(), scale, z.double(), self.config.levels)
            return _answers(self.model(seen), unsure, TIE[self.config.precision])


def _rounded(image: Tensor, scale: Scale, z: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Pixels rounded to multiples of 1 / levels, and which samples rounding errors may change.

    Args:
        image: (1, *event), float64.
        scale: Of its noise.
        z: (n, *event), float64.
        levels: Steps between 0 and 1.
    """
    scaled = (image + _coloured(scale, z)) * levels
    d, flat = image.numel(), z.flatten(1)
    row = torch.from_numpy(scale.matrix(d)).double().norm(dim=1).max().to(flat)
    # Some times what the run itself allows for: such samples may be in its count or not.
    slack = 8 * levels * d * 2.0**-53 * (row * flat.norm(dim=1) + 1)
    near = 0.5 - (scaled - scaled.round()).abs().flatten(1).amax(1) <= slack
    return (scaled.round() / levels).float(), near


def _coloured(scale: Scale, z: Tensor) -> Tensor:
    """S z for samples z (n, *event)."""
    flat = z.flatten(1)
    if scale.kind in ("isotropic", "diagonal"):
        return (flat * torch.from_numpy(scale.values.copy()).to(z)).view_as(z)
    matrix = torch.from_numpy(scale.matrix(flat.shape[1]).copy()).to(z)
    return (flat @ matrix.T).view_as(z)  # (n, d) @ (d, d)


def _answers(logits: Tensor, unsure: Tensor, tie: float) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, sure and possible counts of logits (n, K), some of which may not be; see `Drawn`."""
    sure = ~unsure.to(logits.device).unsqueeze(1)
    largest = logits.max(1, keepdim=True).values
    known = logits.isfinite().all(1, keepdim=True)  # a sample that overflows has no class
    near = known & (logits >= largest - tie * logits.abs().max(1, keepdim=True).values)
    alone = near & (near.sum(1, keepdim=True) == 1)
    chosen = (known & sure) * nn.functional.one_hot(logits.argmax(1), logits.shape[1])
    return chosen.sum(0), (alone & sure).sum(0), near.sum(0)


def chosen_rows(
    rows: Sequence[Row], redrawing: Redrawing, classes: int, count: int, seed: int
) -> list[Row]:
    """Rows to draw again: `count` of those that can be, or all where there are fewer.

    Args:
        rows: Rows to choose from; whose settings or class are impossible, other checks tell.
        redrawing: What to draw with.
        classes: Classes of the data set.
        count: How many.
        seed: Of the choice.
    """
    images, stored = redrawing.images, redrawing.stored
    there = [
        row
        for row in rows
        if row["error"] is None
        and row["n"] in redrawing.config.sizes
        and row["index"] < len(images)
        and row["prediction"] < classes
        and row in stored
        and is_usable(stored[row], images[0].numel())
    ]
    order = np.random.default_rng(seed).permutation(len(there))[:count]
    return [there[k] for k in sorted(order)]


def check_redrawn(rows: Sequence[Row], redrawing: Redrawing) -> Outcome:
    """The streams of the run give the class and the count of the row."""
    config = redrawing.config

    def judge(row: Row) -> Iterator[Fault]:
        selected = redrawing.draw(row, config.seed, Stage.SELECT, [config.n0])
        looked = [size for size in config.sizes if size <= row["n"]]
        fresh = [b - a for a, b in pairwise([0, *looked])]
        estimate = redrawing.draw(row, config.seed, Stage.ESTIMATE, fresh)
        yield from _count_faults(row, selected, estimate)

    return over_rows("redrawn", rows, judge)


def _count_faults(row: Row, selected: Drawn, estimate: Drawn) -> Iterator[Fault]:
    """Holds prediction and count against what was drawn again."""
    # The class of an abstention is not on record: any that may have been selected will do.
    classes = selected.candidates
    if row["prediction"] != ABSTAIN:
        if row["prediction"] not in classes:
            yield wrong(f"prediction {classes[0]}, selected by the streams", row["prediction"])
            return
        classes = [row["prediction"]]
    ranges = [(int(estimate.surely[c]), int(estimate.maybe[c])) for c in classes]
    if not any(least <= row["count"] <= most for least, most in ranges):
        wanted = " or ".join(f"{least} to {most}" for least, most in ranges)
        yield wrong(f"a count of {wanted}, drawn from the streams", row["count"])
    elif all(row["count"] != int(estimate.counts[c]) for c in classes):
        counts = " or ".join(str(int(estimate.counts[c])) for c in classes)
        yield Fault(Severity.NOTE, f"a count of {counts}", f"{row['count']}, by ties of logits")


def check_fresh(rows: Sequence[Row], redrawing: Redrawing, seed: int) -> Outcome:
    """Fresh samples find the class as often as the run did.

    Fisher's exact test, two-sided, at `LEVEL` over the number of rows, and of looks at which an
    image may have stopped.

    Args:
        rows: Rows to check; abstentions are passed over, their class is not on record.
        redrawing: What to draw with.
        seed: Chooses the streams.
    """
    config, kept = redrawing.config, [row for row in rows if row["prediction"] != ABSTAIN]
    name = hashlib.sha256(f"{config.run_id} {seed}".encode()).digest()
    fresh = int.from_bytes(name[:7], "big") + (1 << 56)  # beyond any seed that one would choose

    def judge(row: Row) -> Iterator[Fault]:
        n = row["n"]
        count = int(redrawing.draw(row, fresh, Stage.ESTIMATE, [n]).counts[row["prediction"]])
        table = [[row["count"], n - row["count"]], [count, n - count]]
        p = float(fisher_exact(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
        if p < LEVEL / len(kept) / config.looks:
            wanted = f"a count that agrees with {count} of {n} fresh samples"
            yield wrong(wanted, f"{row['count']}, p-value {p:.2g}")

    return over_rows("fresh samples", kept, judge)


def check_others_inside(
    rows: Sequence[Row], redrawing: Redrawing, training: tuple[Tensor, Tensor]
) -> Outcome:
    """others_inside counts the training images with another label at a distance below radius.

    Args:
        rows: Rows to check.
        redrawing: Images and scales.
        training: Training images (N, *event) and their labels (N,), on the CPU.
    """

    def judge(row: Row) -> Iterator[Fault]:
        image = redrawing.images[row["index"]].cpu()
        least, most = _inside(row, image, redrawing.stored[row], *training)
        if row["others_inside"] is None or not least <= row["others_inside"] <= most:
            wanted = least if least == most else f"{least} to {most}"
            yield wrong(f"{wanted} others inside", row["others_inside"])

    return over_rows("others inside", rows, judge)


def _inside(
    row: Row, image: Tensor, scale: Scale, images: Tensor, labels: Tensor
) -> tuple[int, int]:
    """Fewest and most training images inside a region; a relative 1e-6 is left to rounding."""
    matrix = torch.from_numpy(scale.matrix(image.numel()).astype(np.float64))
    counts = torch.zeros(2, dtype=torch.int64)
    for some, own in zip(images.flatten(1).split(4096), labels.split(4096), strict=True):
        delta = some.double() - image.flatten().double()
        distances = torch.linalg.solve(matrix, delta.T).norm(dim=0)  # (d, d), (d, n) -> (n,)
        others = distances[own != row["prediction"]]
        bounds = [row["radius"] * (1 + share) for share in (-1e-6, 1e-6)]
        counts += torch.stack([(others < bound).sum() for bound in bounds])
    return int(counts[0]), int(counts[1])

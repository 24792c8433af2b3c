"""Whether a smoothed classifier still sees: blindness, and the directions that images vary in.

The training images are split at random into two halves: a fit that looks at images of other labels
takes those that are `fitted`, and those that are `measured` measure sight. Not by turns: MNIST has
images of two sources by turns, of which one is twice as hard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import Noise
from rddrs_dist.region import ABSTAIN, Integers
from rddrs_dist.smoothing import Batching, Smoothed, Stage, Streams
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import logits_of

# A row is sighted where the upper bound of its blindness is at most this.
SIGHTED = 0.05
# Shares of the variance of the training images that the two data radii are about.
SHARES = (0.95, 0.99)
# Images whose products are summed at once.
_CHUNK = 4096


@lru_cache(8)
def fitted(count: int) -> Tensor:
    """Positions of the training images that fits may look at, of so many, ascending."""
    return torch.from_numpy(np.flatnonzero(_coins(count)))


@lru_cache(8)
def measured(count: int) -> Tensor:
    """Positions of the others, which measure sight."""
    return torch.from_numpy(np.flatnonzero(~_coins(count)))


def _coins(count: int) -> NDArray[np.bool_]:
    """A fair coin for each position, always the same one: the top bit of SplitMix64.

    References:
        Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
    """
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(63) == 0


@dataclass(frozen=True, eq=False)
class Others:
    """Training images whose label is not the class of an image, for B images.

    Attributes:
        images: (N, *event), the training images.
        places: Which of one half of them have another label, for each of the B images.
        classes: (B,) int64.
        streams: Random streams of the B images.
    """

    images: Tensor
    places: Sequence[Tensor]
    classes: Tensor
    streams: Streams

    @classmethod
    def of(cls, known: Neighbours, half: Tensor, classes: Tensor, streams: Streams) -> Self:
        """Those of classes (B,), of the `fitted` or `measured` images."""
        half = half.to(known.labels.device)
        labels = known.labels[half]
        places = [half[labels != label] for label in classes.tolist()]
        return cls(known.images, places, classes, streams)

    def chosen(self, stage: Stage, step: int, n: int) -> Tensor:
        """Places of images drawn at random with replacement, (B, n)."""
        below = [len(own) for own in self.places]
        rows = torch.from_numpy(self.streams.integers(stage, step, below, n))
        rows = rows.to(self.classes.device)
        return torch.stack([own[row] for own, row in zip(self.places, rows, strict=True)])

    @torch.no_grad()
    def blind(
        self,
        model: nn.Module,
        noise: Noise,
        n: int,
        stage: Stage,
        step: int,
        batching: Batching,
        like: Tensor,
    ) -> Tensor:
        """How many of n samples y + S z answer the class, (B,); one that is not finite does.

        z is drawn in a step of a stage, y in the step after it. Samples are of the device and
        kind of `like`, (1, ...).
        """
        places, counts = self.chosen(stage, step + 1, n), []
        like = like.expand(len(noise), *self.images.shape[1:])
        batches = batching.batches(like, n)
        for rows in batches.groups(len(noise)):
            some, streams, count = noise[rows], self.streams[rows], 0
            for block, own in enumerate(places[rows].split(list(batches.blocks), 1)):
                z = streams.normal(stage, step, block, own.shape[1], like[rows])
                logits = logits_of(model, some.colour(z) + self.images[own])
                same = logits.argmax(-1) == self.classes[rows].unsqueeze(1)
                count += (same | ~logits.isfinite().all(-1)).sum(1)
            counts.append(count)
        return torch.cat(counts)


def blind_samples(
    model: nn.Module | Smoothed,
    noise: Noise,
    classes: Integers,
    training: Neighbours,
    samples: int,
    streams: Streams,
) -> tuple[Integers, Integers]:
    """How often the network answers an image's class at training images of other labels.

    Blindness is P(argmax f(y + S z) = c) for y uniform among the `measured` training images whose
    label is not c, and z ~ N(0, I). Samples are independent, each with a y of its own, so that
    the count is binomial. y and z depend on the image, its class and the seed, not on the noise.

    Args:
        model: Maps (N, *event) to logits (N, K), on the device of the training images; or such a
            network with quantisation, precision and batching.
        noise: S of B images.
        classes: c of each, (B,); nothing is drawn where it is ABSTAIN.
        training: Labelled images.
        samples: Number of samples of each image.
        streams: Random streams of the B images.

    Returns:
        Blind samples and samples drawn, (B,) int64 each. Both are 0 where there is no class or no
        measured image of another label. A sample with a logit that is not finite, or that
        quantisation cannot tell, is blind.

    Raises:
        ValueError: If noise, classes and streams are not of as many images each.
    """
    if len({len(noise), len(classes), len(streams)}) > 1:
        raise ValueError(
            "noise, classes and streams must be of as many images each, got "
            f"{len(noise)}, {len(classes)} and {len(streams)}"
        )
    smoothed = model if isinstance(model, Smoothed) else Smoothed(model)
    blind, drawn = np.zeros(len(noise), np.int64), np.zeros(len(noise), np.int64)
    half = measured(len(training.labels))
    labels, own = training.labels[half], np.flatnonzero(classes != ABSTAIN).tolist()
    rows = [row for row in own if bool((labels != int(classes[row])).any())]
    if samples and rows:
        wanted = torch.from_numpy(classes[rows]).to(labels.device)
        others = Others.of(training, half, wanted, streams[rows])
        base, like, some = smoothed.at(training.widest, noise[rows])
        with multiplying(smoothed.precision, labels.device):
            found = others.blind(base, some, samples, Stage.SIGHT, 0, smoothed.batching, like)
        blind[rows], drawn[rows] = found.cpu().numpy(), samples
    return blind, drawn


def principal_subspace(images: Tensor, share: float) -> Tensor:
    """The smallest principal subspace that holds a share of the variance of images.

    Args:
        images: (N, *event).
        share: In (0, 1].

    Returns:
        Orthonormal columns, those of the largest variance first, (d, k) float64 on the CPU.
    """
    return principal_subspaces(images, (share,))[0]


def principal_subspaces(
    images: Tensor, shares: Sequence[float] = SHARES
) -> tuple[Tensor, tuple[int, ...]]:
    """As `principal_subspace` for several shares: one basis, and how many columns each share has.

    Raises:
        ValueError: If there is no image or a share is not in (0, 1].
    """
    if not len(images) or not all(0 < share <= 1 for share in shares):
        raise ValueError(
            f"wanted images and shares in (0, 1], got {len(images)} images and {list(shares)}"
        )
    flat = images.flatten(1).cpu()
    mean = torch.stack([part.sum(0, dtype=torch.float64) for part in flat.split(_CHUNK)]).sum(0)
    mean = mean / len(flat)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in flat.split(_CHUNK):
        centred = part.double() - mean
        scatter.addmm_(centred.mT, centred)  # (d, n) @ (n, d)
    variances, frame = torch.linalg.eigh(scatter)
    held = variances.flip(0).clamp_min(0).cumsum(0)
    sizes = [min(int((held < share * held[-1]).sum()) + 1, len(mean)) for share in shares]
    return frame.flip(1)[:, : max(sizes)].contiguous(), tuple(sizes)

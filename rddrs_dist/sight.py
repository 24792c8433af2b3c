"""Whether a smoothed classifier still sees: blindness, and the directions that images vary in.

The training images are split by the parity of their position: a fit that looks at images of other
labels takes FITTED, and MEASURED are those that sight is measured with.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import Noise
from rddrs_dist.region import ABSTAIN, Integers
from rddrs_dist.smoothing import Smoothed, Stage, Streams
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import logits_of

FITTED, MEASURED = slice(0, None, 2), slice(1, None, 2)
# A row is sighted where the upper bound of its blindness is at most this.
SIGHTED = 0.05
# Shares of the variance of the training images that the two data radii are about.
SHARES = (0.95, 0.99)
# Steps of the streams: of the noise, and of the images that it is added to.
_NOISE, _IMAGES = 0, 1
# Images whose products are summed at once.
_CHUNK = 4096


def blind_samples(
    model: nn.Module | Smoothed,
    noise: Noise,
    classes: Integers,
    training: Neighbours,
    samples: int,
    streams: Streams,
) -> tuple[Integers, Integers]:
    """How often the network answers an image's class at training images of other labels.

    Blindness is P(argmax f(y + S z) = c) for y uniform among the MEASURED training images whose
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
    labels, own = training.labels[MEASURED], np.flatnonzero(classes != ABSTAIN).tolist()
    others = {row: (labels != int(classes[row])).nonzero()[:, 0] for row in own}
    if rows := [row for row, places in others.items() if samples and len(places)]:
        below = [len(others[row]) for row in rows]
        places = torch.from_numpy(streams[rows].integers(Stage.SIGHT, _IMAGES, below, samples))
        chosen = zip(places.to(labels.device), rows, strict=True)
        centres = torch.stack([others[row][own] for own, row in chosen])
        wanted = torch.from_numpy(classes[rows]).to(labels.device)
        drawn[rows] = samples
        blind[rows] = _answers(smoothed, noise[rows], wanted, training, centres, streams[rows])
    return blind, drawn


@torch.no_grad()
def _answers(
    smoothed: Smoothed,
    noise: Noise,
    classes: Tensor,
    training: Neighbours,
    centres: Tensor,
    streams: Streams,
) -> Integers:
    """Samples that answer the class or nothing, (B,), at measured images of places (B, m)."""
    images = training.images[MEASURED]
    base, widest, noise = smoothed.at(training.widest, noise)
    like = widest.expand(len(noise), *images.shape[1:])
    batches, counts = smoothed.batching.batches(like, centres.shape[1]), []
    with multiplying(smoothed.precision, images.device):
        for rows in batches.groups(len(noise)):
            some, count, chosen = noise[rows], 0, centres[rows].split(list(batches.blocks), 1)
            for block, places in enumerate(chosen):
                size = places.shape[1]
                z = streams[rows].normal(Stage.SIGHT, _NOISE, block, size, like[rows])
                logits = logits_of(base, some.colour(z) + images[places])
                known = logits.isfinite().all(-1)
                count += (~known | (logits.argmax(-1) == classes[rows, None])).sum(1)
            counts.append(count)
    return torch.cat(counts).cpu().numpy()


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

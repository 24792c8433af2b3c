"""How far one can walk from an image before the smoothed class changes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, linalg, nn

from rddrs_dist.noise import DiagonalNoise, FullNoise, Noise
from rddrs_dist.smoothing.sample import one_hot

MULTIPLES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SAMPLES = 100


@dataclass(frozen=True, eq=False)
class Axes:
    """Axes of a noise, the widest first.

    Attributes:
        lengths: (d,) float64, lower bounds of the standard deviations along them.
        directions: (d, d), unit vectors in rows; None for a ball, whose axes are any.
    """

    lengths: NDArray[np.float64]
    directions: NDArray[np.float64] | None

    def direction(self, rank: int) -> NDArray[np.float64]:
        """The unit vector of one axis, (d,); of a ball a random one, the same each time."""
        if self.directions is not None:
            return self.directions[rank]
        drawn = np.random.default_rng(rank).standard_normal(len(self.lengths))
        return drawn / np.linalg.norm(drawn)


def axes(noise: Noise) -> Axes:
    """The axes of the noise of one image."""
    lengths = noise.axes_below[0].flip(0).numpy()
    match noise:
        case FullNoise():
            vectors = linalg.eigh(noise.covariance()[0]).eigenvectors
            return Axes(lengths, vectors.T.flip(0).numpy())
        case DiagonalNoise():
            order = noise.variances()[0].argsort(descending=True)
            return Axes(lengths, torch.eye(len(order), dtype=torch.float64)[order].numpy())
        case _:
            return Axes(lengths, None)


@torch.no_grad()
def reach(model: nn.Module, image: Tensor, eps: Tensor, target: int, step: Tensor) -> float:
    """The largest of `MULTIPLES` of a step up to which the most frequent class stays.

    An estimate with the same few samples of noise at all points: a picture, not a certificate.
    What lies between two multiples is not looked at.

    Args:
        model: Maps (N, *event) to logits.
        image: (1, *event).
        eps: (n, *event), samples of its noise.
        target: The class.
        step: (*event), a displacement.

    Returns:
        The multiple; 0 where the class has changed at the first.
    """
    held = 0.0
    for multiple in MULTIPLES:
        votes = one_hot(model(image + multiple * step + eps)).sum(0)
        if int(votes.argmax()) != target or not int(votes[target]):
            break
        held = multiple
    return held

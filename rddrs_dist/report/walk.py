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
_HALVINGS = 3  # of the last factor of two, which leave 9 %


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
    """The largest multiple of a step, there and back, up to which the most frequent class stays.

    First `MULTIPLES` are tried, then halves of the interval in which the class changes, on a
    logarithmic scale. An estimate with the same few samples of noise at all points: a picture, not
    a certificate. A class that changes and comes back between two multiples is not seen.

    Args:
        model: Maps (N, *event) to logits.
        image: (1, *event).
        eps: (n, *event), samples of its noise.
        target: The class.
        step: (*event), a displacement.

    Returns:
        The multiple, the smaller of both directions; 0 where the class has changed at the first.
    """

    def stays(multiple: float) -> bool:
        return all(
            _wins(model(image + sign * multiple * step + eps), target) for sign in (1.0, -1.0)
        )

    changes = next((multiple for multiple in MULTIPLES if not stays(multiple)), None)
    if changes is None:
        return MULTIPLES[-1]
    held = changes / 2
    if changes == MULTIPLES[0]:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (held * changes) ** 0.5
        held, changes = (middle, changes) if stays(middle) else (held, middle)
    return held


def _wins(logits: Tensor, target: int) -> bool:
    """Whether a class is the most frequent answer."""
    votes = one_hot(logits).sum(0)
    return int(votes.argmax()) == target and int(votes[target]) > 0

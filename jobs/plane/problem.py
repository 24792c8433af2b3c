"""A three-class problem in the unit square, its network, and both turned about the centre."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CENTRE = 0.5
TEST = (0.45, 0.51)
CLASSES = 3
_SIZE = 200  # points of each class
_MIDDLE = (0.11, 0.03)  # standard deviations of the class in the middle
# Corners of an arm, about the centre, and the standard deviation of its points.
_ARM = ((-0.36, 0.19), (0.24, 0.19), (0.40, 0.10), (0.42, -0.04))
_WIDTH = 0.022
_HIDDEN = 32
_STEPS = 800
_LEARNING_RATE = 0.02


def rotation(degrees: float) -> NDArray[np.float64]:
    """The rotation of the plane by an angle, counter-clockwise, (2, 2)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def turn(points: Tensor, degrees: float) -> Tensor:
    """Points (..., 2) turned about the centre of the unit square."""
    matrix = torch.from_numpy(rotation(degrees)).to(points.dtype)
    return (points - CENTRE) @ matrix.mT + CENTRE


class Network(nn.Module):
    """One hidden layer of ReLUs, so that decision regions are polygons.

    Args:
        hidden: (H, 3): weights of the hidden layer, then its biases.
        out: (K, H + 1): weights of the logits, then their biases.
    """

    hidden: Tensor
    out: Tensor

    def __init__(self, hidden: Tensor, out: Tensor) -> None:
        super().__init__()
        self.register_buffer("hidden", hidden)
        self.register_buffer("out", out)
        self.eval()

    def forward(self, points: Tensor) -> Tensor:
        """Logits (N, K) of points (N, 2)."""
        active = torch.relu(points @ self.hidden[:, :2].mT + self.hidden[:, 2])
        return active @ self.out[:, :-1].mT + self.out[:, -1]

    def turned(self, degrees: float) -> "Network":
        """The network y -> f(R^T y), R the rotation about the centre of the square."""
        weights, biases = self.hidden[:, :2].double(), self.hidden[:, 2].double()
        moved = weights @ torch.from_numpy(rotation(degrees)).mT
        centred = biases + CENTRE * (weights.sum(1) - moved.sum(1))
        return Network(torch.column_stack([moved, centred]).to(self.hidden.dtype), self.out)


@dataclass(frozen=True, eq=False)
class Problem:
    """Labelled points, the network trained on them, and the point that is certified.

    Attributes:
        network: Trained on the points with Gaussian noise.
        points: (N, 2), in the unit square.
        labels: (N,): 0 in the middle, 1 and 2 around it.
        test: (1, 2), the point to certify.
        sigma: Standard deviation of the noise in training.
    """

    network: Network
    points: Tensor
    labels: Tensor
    test: Tensor
    sigma: float

    @classmethod
    def made(cls, sigma: float, seed: int) -> Self:
        """Draws the points and trains the network, two seconds of one core."""
        points, labels = _points(seed)
        network = _train(points, labels, sigma, seed)
        return cls(network, points, labels, torch.tensor([TEST]), sigma)

    @property
    def prediction(self) -> int:
        """The network's own class of the test point, without noise."""
        return int(self.network(self.test).argmax())

    def turned(self, degrees: float) -> Self:
        """Data, network and test point turned together about the centre of the square."""
        return replace(
            self,
            network=self.network.turned(degrees),
            points=turn(self.points, degrees),
            test=turn(self.test, degrees),
        )


def _points(seed: int) -> tuple[Tensor, Tensor]:
    """A flat class in the middle, and two arms that enclose it, each the other half turned."""
    generator = np.random.default_rng(seed)
    middle = generator.normal(size=(_SIZE, 2)) * _MIDDLE
    corners = np.array(_ARM)
    ends = np.cumsum([0.0, *np.linalg.norm(np.diff(corners, axis=0), axis=1)])
    arms = []
    for side in (1, -1):
        along = generator.uniform(0, ends[-1], _SIZE)
        path = np.stack([np.interp(along, ends, corners[:, k]) for k in (0, 1)], 1)
        arms.append(side * (path + generator.normal(scale=_WIDTH, size=(_SIZE, 2))))
    points = CENTRE + np.concatenate([middle, *arms])
    return torch.from_numpy(points).float(), torch.arange(CLASSES).repeat_interleave(_SIZE)


def _train(points: Tensor, labels: Tensor, sigma: float, seed: int) -> Network:
    """Cross-entropy under Gaussian noise, all points in every step of Adam."""
    generator = torch.Generator().manual_seed(seed)
    # Random weights whose ReLUs bend within the square.
    weights = 4 * torch.randn(_HIDDEN, 2, generator=generator)
    bends = 0.8 * torch.randn(_HIDDEN, generator=generator) - CENTRE * weights.sum(1)
    hidden = torch.column_stack([weights, bends]).requires_grad_()
    out = (0.2 * torch.randn(CLASSES, _HIDDEN + 1, generator=generator)).requires_grad_()
    adam = torch.optim.Adam([hidden, out], lr=_LEARNING_RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, _STEPS)
    for _ in range(_STEPS):
        noisy = points + sigma * torch.randn(points.shape, generator=generator)
        loss = nn.functional.cross_entropy(Network(hidden, out)(noisy), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    return Network(hidden.detach(), out.detach())

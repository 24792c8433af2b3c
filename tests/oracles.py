"""Classifiers whose exact answers are known, and exact answers about ellipsoids."""

import math

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise


class Linear(nn.Module):
    """Two classes separated by the hyperplane w.x = b; class 0 where w.x > b.

    The smaller the temperature, the closer the softmax is to the hard classifier.
    """

    def __init__(self, w: Tensor, b: float = 0.0, temperature: float = 0.05) -> None:
        super().__init__()
        self.register_buffer("w", w.float())
        self.b, self.temperature = b, temperature
        self.eval()

    def margin(self, images: Tensor) -> Tensor:
        """w.x - b, (B,)."""
        return images.flatten(1) @ self.w - self.b

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 2)."""
        margin = self.margin(images) / self.temperature
        return torch.stack([margin, -margin], 1) / 2


class Rotated(nn.Module):
    """A network in rotated coordinates, x -> f(Q^T x)."""

    def __init__(self, model: nn.Module, rotation: Tensor) -> None:
        super().__init__()
        self.model, self.rotation = model, rotation
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.model(rotate(images, self.rotation.mT))


def rotate(images: Tensor, rotation: Tensor) -> Tensor:
    """Q x for each image, of any leading shape, whose last three axes are the event."""
    flat = images.flatten(-3) @ rotation.mT
    return flat.view_as(images)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rotation_matrix(dimension: int, seed: int) -> Tensor:
    """A random rotation, (d, d) float32."""
    q, r = torch.linalg.qr(normal(dimension, dimension, seed=seed))
    return (q * r.diagonal().sign()).float()


def random_spd(count: int, dimension: int, seed: int) -> Tensor:
    """Well-conditioned SPD matrices, (count, d, d) float64."""
    a = normal(count, dimension, dimension, seed=seed)
    return a @ a.mT / dimension + 0.5 * torch.eye(dimension, dtype=torch.float64)


def random_symmetric(count: int, dimension: int, seed: int) -> Tensor:
    """Symmetric matrices, (count, d, d) float64."""
    a = normal(count, dimension, dimension, seed=seed)
    return (a + a.mT) / 2


def with_axes(axes: Tensor, count: int, seed: int) -> Tensor:
    """Matrices with these singular values (d,), and no symmetry, (count, d, d) float64."""
    first, second = torch.linalg.qr(normal(2, count, len(axes), len(axes), seed=seed)).Q
    return (first * axes.double()) @ second


def spread(smallest: float, largest: float, size: int) -> Tensor:
    """Axes from a smallest to a largest one, (size,) float64, equally far apart in logarithms."""
    return torch.logspace(math.log10(smallest), math.log10(largest), size, dtype=torch.float64)


def noises(images: Tensor) -> dict[str, Noise]:
    """One noise of each structure, other for each image (B, *event) in [0, 1]."""
    event, d = tuple(images.shape[1:]), images[0].numel()
    full = FullNoise(random_spd(len(images), d, seed=1).float(), event)
    return {
        "isotropic": IsotropicNoise(0.1 + images.flatten(1)[:, 0], event),
        "diagonal": DiagonalNoise(images * 0.5 + 0.1, event),
        "full": full,
        "lower": full.lower(),
    }


def singular_values(matrix: Tensor) -> list[mpmath.mpf]:
    """Singular values of one matrix, ascending, to 50 digits."""
    with mpmath.workdps(50):
        return sorted(mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False))


def contact_factor(
    first: NDArray[np.float64], second: NDArray[np.float64], v: NDArray[np.float64]
) -> float:
    """The factor by which two ellipsoids scale to touch, by its concave dual.

    Args:
        first: r^2 S S^T of one, (d, d).
        second: Of the other.
        v: From the centre of one to that of the other, (d,).
    """

    def dual(s: float) -> float:
        return -s * (1 - s) * float(v @ np.linalg.solve((1 - s) * first + s * second, v))

    found = minimize_scalar(dual, bounds=(0, 1), method="bounded", options={"xatol": 1e-10})
    return math.sqrt(-found.fun)

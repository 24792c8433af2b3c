"""Certified regions {x + S u : |u| < r}: where they are, how large, and what is inside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor

from rddrs_dist.noise import Noise

ABSTAIN = -1
# More than sums, products and logarithms of a few numbers lose, as a share of them.
_ULPS = 16 * float(np.finfo(np.float64).eps)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def diameter(dimension: int) -> float:
    """Diameter of the pixel domain [0, 1]^d."""
    return math.sqrt(dimension)


def cube_radius(dimension: int) -> float:
    """Radius of the ball that has the volume of the pixel domain [0, 1]^d.

    (Gamma(d/2 + 1) / pi^(d/2))^(1/d), in pixels: what a proxy radius cannot sensibly exceed.
    """
    return math.exp(float(gammaln(dimension / 2 + 1)) / dimension) / math.sqrt(math.pi)


@dataclass(frozen=True, eq=False)
class Region:
    """The regions {x + delta : ||S^-1 delta|| < r} of B images.

    Sizes are lower bounds, in units of pixels; a region of radius 0, as that of an abstention, is
    empty and has sizes 0 (log_volume: -inf).

    Attributes:
        centre: x, (B, *event).
        noise: S of each image.
        radius: r, (B,) float64, dimensionless: in units of the noise.
        prediction: (B,) int64, the class of each region, or ABSTAIN.

    Example:
        >>> import numpy as np, torch
        >>> from rddrs_dist import DiagonalNoise, Region
        >>> noise = DiagonalNoise(torch.tensor([[[[0.5, 2.0]]]]), (1, 1, 2))
        >>> region = Region(torch.zeros(1, 1, 1, 2), noise, np.array([3.0]), np.array([7]))
        >>> region.l2_radius.round(3), region.proxy_radius.round(3)
        (array([1.5]), array([3.]))
        >>> region.contains(torch.tensor([[[[0.0, 5.9]]]]))
        array([ True])

    References:
        Eiras et al. 2021 (arXiv 2107.04570), for the ellipsoid and its proxy radius.
    """

    centre: Tensor
    noise: Noise
    radius: Floats
    prediction: Integers

    def __post_init__(self) -> None:
        sizes = [len(self.centre), len(self.noise), len(self.radius), len(self.prediction)]
        if len(set(sizes)) > 1:
            raise ValueError(
                "centre, noise, radius and prediction must be of as many images each, got "
                f"{', '.join(map(str, sizes))}"
            )

    def __len__(self) -> int:
        return len(self.radius)

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        """The regions of a part of the images."""
        own = rows if isinstance(rows, slice) else list(rows)
        return replace(self, **{f.name: getattr(self, f.name)[own] for f in fields(self)})

    def with_radius(self, radius: Floats) -> Self:
        """The same regions with other radii (B,)."""
        return replace(self, radius=radius)

    def distance(self, points: Tensor) -> Floats:
        """||S^-1 (p - x)|| of a point for each image, (B,) float64.

        Args:
            points: p, (B, *event).
        """
        return self.noise.mahalanobis(points.double() - self.centre.double()).cpu().numpy()

    def contains(self, points: Tensor) -> NDArray[np.bool_]:
        """Whether a point for each image, (B, *event), is inside its region, (B,)."""
        return self.distance(points) < self.radius

    def support(self, direction: Tensor) -> Floats:
        """r ||S^T w||, how far each region reaches from its centre along w, (B,) float64.

        Args:
            direction: w, (B, *event).
        """
        return self.radius * self.noise.support(direction).cpu().numpy()

    @property
    def dimension(self) -> int:
        """d, elements of an image."""
        return self.noise.dimension

    @cached_property
    def min_axis(self) -> Floats:
        """Smallest axis of the noise, (B,)."""
        return self.noise.min_axis.cpu().numpy()

    @cached_property
    def mean_axis(self) -> Floats:
        """Geometric mean of the axes of the noise, (B,)."""
        return self.noise.mean_axis.cpu().numpy()

    @cached_property
    def max_axis(self) -> Floats:
        """Largest axis of the noise, (B,)."""
        return self.noise.max_axis.cpu().numpy()

    @property
    def l2_radius(self) -> Floats:
        """Radius of the largest ball inside the region, (B,)."""
        return product_below(self.radius, self.min_axis)

    @property
    def proxy_radius(self) -> Floats:
        """Radius of the ball that has the region's volume, (B,)."""
        return product_below(self.radius, self.mean_axis)

    def data_radius(self, basis: Tensor) -> Floats:
        """Proxy radius of each region's section with a subspace through its centre, (B,).

        It is the radius of the ball of k dimensions that has the section's volume. Directions
        outside the subspace, such as pixels that are black in all images, have no part in it; for
        isotropic noise it equals l2 and proxy radius.

        Args:
            basis: V, (d, k) float64, orthonormal columns; see `sight.principal_subspace`.
        """
        return self.data_radii(basis, (basis.shape[1],))[0]

    def data_radii(self, basis: Tensor, sizes: Sequence[int]) -> list[Floats]:
        """As `data_radius`, for the first k columns of a basis, for each k of `sizes`."""
        means = self.noise.sections(basis, sizes).cpu().numpy()
        return [product_below(self.radius, mean) for mean in means]

    @property
    def log_volume(self) -> Floats:
        """Natural logarithm of the region's volume, (B,)."""
        d = self.dimension
        with np.errstate(divide="ignore"):
            grown = d * np.log(self.proxy_radius)
        sphere, gamma = d / 2 * math.log(math.pi), float(gammaln(d / 2 + 1))
        # Each of the three is known to a few units in its last place.
        finite = np.where(np.isfinite(grown), grown, 0.0)
        return sphere - gamma + grown - _ULPS * (sphere + abs(gamma) + np.abs(finite))


def product_below(first: Floats, second: Floats) -> Floats:
    """A product of numbers of at least 0, rounded downward."""
    product = first * second
    return np.where(product > 0, np.nextafter(product, 0), 0.0)

"""Labelled images that a certified region ought not to swallow: those of the training set."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, linalg

from rddrs_dist.geometry.symmetric import lower_inverse

# Narrowest axes that are looked at first; most images are far out along these already.
_NARROWEST = 32
# Images that are looked at together, and on a GPU in the first look.
_CHUNK, _FIRST = 8192, 65_536


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Labelled images, none of them a test image.

    Attributes:
        images: (N, *event) float32.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    @cached_property
    def _length(self) -> float:
        """Largest norm of an image."""
        return float(self.images.flatten(1).norm(dim=1).max()) if len(self.images) else 0.0

    def near(
        self, image: Tensor, label: int, whitening: Tensor, limit: float
    ) -> tuple[Tensor, Tensor]:
        """Images with another label at a Mahalanobis distance ||S^-1 delta|| below a limit.

        Args:
            image: x, (*event).
            label: The label that does not count.
            whitening: S^-1 up to a rotation from the left, transposed, (d, d) float64, or its
                diagonal, (d,); see `whitening`.
            limit: Distance, dimensionless.

        Returns:
            Their displacements from x, (k, d) float64, and distances, (k,) float64, in the order
            of the images.
        """
        centre = image.flatten().double()
        first = whitening if whitening.ndim == 1 else whitening[:, :_NARROWEST]
        narrow = first.to(self.images.dtype)
        offset = _times(image.flatten(), narrow)
        # What rounding can add to a distance of the first look, which is in single precision.
        eps = torch.finfo(self.images.dtype).eps
        lengths = self._length + float(centre.norm())
        slack = eps * len(whitening) * lengths * float(narrow.norm())
        found = []
        chunk = _FIRST if self.images.is_cuda else _CHUNK
        for images, labels in zip(
            self.images.flatten(1).split(chunk), self.labels.split(chunk), strict=True
        ):
            least = (_times(images, narrow) - offset).norm(dim=1)
            rows = (~(least > limit + slack) & (labels != label)).nonzero()[:, 0]
            for some in rows.split(_CHUNK):
                displacements = images[some].double() - centre
                distances = _times(displacements, whitening).norm(dim=1)
                inside = distances < limit
                found.append((displacements[inside], distances[inside]))
        return torch.cat([part for part, _ in found]), torch.cat([part for _, part in found])


def _times(vectors: Tensor, whitening: Tensor) -> Tensor:
    """Vectors (..., d) times a matrix, or a diagonal one."""
    return vectors * whitening if whitening.ndim == 1 else vectors @ whitening


def whitening(covariance: Tensor) -> Tensor:
    """A matrix A with ||A^T delta|| = ||S^-1 delta||; few are near along its first columns.

    Args:
        covariance: S S^T, (..., d, d) float64, or the diagonal of one that is diagonal, (d,).

    Returns:
        A, of the same shape.
    """
    if covariance.ndim == 1:
        return covariance.rsqrt()
    if covariance.is_cuda:  # where that is dear and looks are cheap
        lower, failed = linalg.cholesky_ex(covariance)
        if not bool(failed.any()):
            return whitening_of_factor(lower)[0]
    variances, frame = linalg.eigh(covariance)
    return frame / above_rounding(variances).sqrt().unsqueeze(-2)


def whitening_of_factor(lower: Tensor) -> tuple[Tensor, Tensor]:
    """L^-T with its longest columns first, and what order these had.

    Args:
        lower: L, (..., d, d) float64, lower triangular with L L^T = S S^T.

    Returns:
        (..., d, d) and (..., d) int64.
    """
    columns = lower_inverse(lower).mT
    order = columns.norm(dim=-2).argsort(descending=True)
    return columns.gather(-1, order.unsqueeze(-2).expand_as(columns)), order


def above_rounding(variances: Tensor) -> Tensor:
    """Eigenvalues (..., d) of a covariance, ascending, none below what rounding tells from 0."""
    eps = torch.finfo(variances.dtype).eps
    return torch.maximum(variances, variances[..., -1:] * eps * variances.shape[-1])


def keep_out(scale: Tensor, whitened: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """Narrows a scale until no displacement is nearer than a Mahalanobis distance.

    The nearest one is pushed out to the distance by narrowing one direction, and so on. To narrow
    one direction by a factor t costs log(t) / d of the log proxy radius and pushes nothing inward.

    Args:
        scale: S of one image, (d, d) float64.
        whitened: S^-1 delta of each displacement, (k, d) float64, none of them zero.
        distance: Wanted distance, dimensionless.

    Returns:
        S B with 0 < B <= I, and (S B)^-1 delta, (k, d).
    """
    # A little beyond, so that rounding to the precision of the scale brings none back.
    wanted = distance * (1 + 1e-3)
    while len(whitened):
        least, nearest = whitened.norm(dim=1).min(0, keepdim=True)
        if float(least) >= distance * (1 + 5e-4):  # a GPU is asked once
            break
        direction = whitened[nearest][0] / least
        shrink = float(least) / wanted
        scale = scale - (1 - shrink) * torch.outer(scale @ direction, direction)
        along = whitened @ direction
        whitened = whitened + (1 / shrink - 1) * torch.outer(along, direction)
    return scale, whitened


def others_inside(
    covariance: Tensor, image: Tensor, reference: Neighbours, label: int, radius: float
) -> int:
    """Counts images with another label inside {x + delta : ||S^-1 delta|| < radius}.

    Args:
        covariance: S S^T, (d, d) float64, or the diagonal of one that is diagonal, (d,).
        image: x, (*event).
        reference: Images to look for.
        label: The class that the region is certified for.
        radius: Radius of the region, dimensionless.
    """
    if not radius > 0:
        return 0
    return len(reference.near(image, label, whitening(covariance), radius)[1])


def diameter(dimension: int) -> float:
    """Diameter of the pixel domain [0, 1]^d."""
    return math.sqrt(dimension)

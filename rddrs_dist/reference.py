"""Labelled images that a certified region ought not to swallow: those of the training set."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, linalg

# Narrowest axes that are looked at first; most images are far out along these already.
_NARROWEST = 64
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Reference:
    """Labelled images, none of them a test image.

    Attributes:
        images: (N, *event).
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def others(self, image: Tensor, label: int) -> Tensor:
        """Displacements from an image (*event) to the images with another label, (M, d)."""
        return (self.images[self.labels != label] - image).flatten(1)


def within(covariance: Tensor, displacements: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Finds the displacements at a Mahalanobis distance ||S^-1 delta|| below a limit.

    Args:
        covariance: S S^T of one image, (d, d) float64.
        displacements: delta, (M, d).
        limit: Distance, dimensionless.

    Returns:
        Positions of those below it, (k,), and their distances, (k,) float64.
    """
    variances, frame = linalg.eigh(covariance)
    # In float64 a variance this far below the largest is rounding error; 0 would divide.
    floor = variances[-1] * torch.finfo(torch.float64).eps * len(variances)
    whiten = frame / variances.clamp_min(floor).sqrt()  # (d, d), columns by rising axis
    found = [_near(chunk.double(), whiten, limit) for chunk in displacements.split(_CHUNK)]
    positions = [k * _CHUNK + where for k, (where, _) in enumerate(found)]
    return torch.cat(positions), torch.cat([distances for _, distances in found])


def _near(chunk: Tensor, whiten: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Rows of a chunk below the limit and their distances; most are ruled out by a few axes."""
    least = (chunk @ whiten[:, :_NARROWEST]).norm(dim=1)
    rows = (least < limit).nonzero()[:, 0]
    distances = (chunk[rows] @ whiten).norm(dim=1)
    inside = distances < limit
    return rows[inside], distances[inside]


def keep_out(scale: Tensor, displacements: Tensor, distance: float) -> Tensor:
    """Narrows a scale until no displacement is nearer than a Mahalanobis distance.

    The nearest one is pushed out to the distance by narrowing one direction, and so on. To narrow
    one direction by a factor t costs log(t) / d of the log proxy radius and pushes nothing inward.

    Args:
        scale: S of one image, (d, d).
        displacements: (M, d). One that is zero is in every region and is passed over.
        distance: Wanted distance, dimensionless.

    Returns:
        S B with 0 < B <= I, in the precision of `scale`.
    """
    displacements = displacements[displacements.any(1)]
    while True:
        covariance = scale.double() @ scale.double().mT
        near, _ = within(covariance, displacements, distance)
        if not len(near):
            return scale
        scale = _pushed_out(scale.double(), displacements[near].double(), distance).to(scale.dtype)


def _pushed_out(scale: Tensor, displacements: Tensor, distance: float) -> Tensor:
    """The scale after all of a few displacements have been pushed out, one after another."""
    # A little beyond, so that rounding to the precision of the scale brings none back.
    wanted = distance * (1 + 1e-3)
    whitened = linalg.solve(scale, displacements.mT).mT  # (k, d)
    while True:
        distances = whitened.norm(dim=1)
        nearest = int(distances.argmin())
        if distances[nearest] >= distance * (1 + 5e-4):
            return scale
        direction = whitened[nearest] / distances[nearest]
        shrink = float(distances[nearest]) / wanted
        scale = scale - (1 - shrink) * torch.outer(scale @ direction, direction)
        along = whitened @ direction
        whitened = whitened + (1 / shrink - 1) * torch.outer(along, direction)


def others_inside(
    covariance: Tensor, image: Tensor, reference: Reference, label: int, radius: float
) -> int:
    """Counts images with another label inside {x + delta : ||S^-1 delta|| < radius}.

    Args:
        covariance: S S^T, (d, d) float64.
        image: x, (*event).
        reference: Images to look for.
        label: The class that the region is certified for.
        radius: Radius of the region, dimensionless.
    """
    if not radius > 0:
        return 0
    return len(within(covariance, reference.others(image, label), radius)[0])


def diameter(dimension: int) -> float:
    """Diameter of the pixel domain [0, 1]^d."""
    return math.sqrt(dimension)

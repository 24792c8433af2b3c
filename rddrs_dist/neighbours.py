"""Training images near a certified region, which ought not to hold one of another label."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rddrs_dist.region import Region
from rddrs_dist.smoothing.precision import multiplying

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

    def inside(self, region: Region) -> list[int]:
        """How many images of another label than the prediction are inside each region, B counts.

        The answer is in single precision wherever the images are.
        """
        # One dense matrix at a time: those of many images may not fit into memory.
        found = [0] * len(region)
        with multiplying("float32", self.images.device):
            for row in (region.radius > 0).nonzero()[0].tolist():
                label, whitening = int(region.prediction[row]), region.noise.whitening(row)
                radius = float(region.radius[row])
                found[row] = len(self.near(region.centre[row], label, whitening, radius)[1])
        return found

    @cached_property
    def _length(self) -> float:
        """Largest norm of an image."""
        return float(self.images.flatten(1).norm(dim=1).max()) if len(self.images) else 0.0

    @cached_property
    def widest(self) -> Tensor:
        """Largest magnitude of each pixel, (1, *event)."""
        least, most = self.images.aminmax(dim=0, keepdim=True)
        return torch.maximum(-least, most)

    def near(
        self, image: Tensor, label: int, whitening: Tensor, limit: float
    ) -> tuple[Tensor, Tensor]:
        """Images with another label at a Mahalanobis distance ||S^-1 delta|| below a limit.

        Args:
            image: x, (*event).
            label: The label that does not count.
            whitening: S^-1 up to a rotation from the left, transposed, (d, d) float64, or its
                diagonal, (d,); see `Noise.whitening`.
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

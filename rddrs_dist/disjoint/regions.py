"""Certified regions {x + delta : ||S^-1 delta|| < r} of many images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, linalg

from rddrs_dist.noise import FullNoise, Noise

# What is added to all eigenvalues of a mean of trace 1, so that its inverse is positive in single
# precision too. On MNIST less makes no search quicker; between regions that are 10^6 times as
# long as wide less makes searches end early.
_RIDGE = 1e-5


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of N images, none of them an abstention.

    Attributes:
        centres: x, (N, *event) float32, as certified.
        prediction: Class of each region, (N,) int64.
        radius: r, (N,) float64, positive.
        noise: S of each.
    """

    centres: Tensor
    prediction: Tensor
    radius: Tensor
    noise: Noise

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, rows: slice) -> "Regions":
        """Some of the regions."""
        own = (self.centres[rows], self.prediction[rows], self.radius[rows], self.noise[rows])
        return Regions(*own)

    @property
    def dense(self) -> bool:
        """Whether scales are dense matrices, which act on many vectors at once for little more."""
        return isinstance(self.noise, FullNoise)

    @cached_property
    def points(self) -> Tensor:
        """Centres, (N, d) float64."""
        return self.centres.flatten(1).double()

    @cached_property
    def reach(self) -> Tensor:
        """An upper bound of the longest semi-axis, (N,) float64."""
        # No SVD for this: where axes are not read off, regions are wider than images are apart.
        longest = self.frobenius if self.dense else self.noise.max_axis
        return self.radius * longest * (1 + 1e-9)

    @cached_property
    def frobenius(self) -> Tensor:
        """||S||_F, at least, (N,) float64."""
        if not self.dense:
            return self.noise.variances().sum(1).sqrt()
        # Rows in the precision of S, which takes a tenth of the time; what that may lose is added.
        rows, kind = linalg.vector_norm(self.noise.scale, dim=2), torch.finfo(torch.float32)
        lost = rows.shape[1] * (kind.eps * rows.double() + kind.tiny**0.5)
        return (rows.double() + lost).norm(dim=1)

    @cached_property
    def single(self) -> list[Noise]:
        """Noise of each region by itself."""
        return [self.noise[row : row + 1] for row in range(len(self))]

    @cached_property
    def variances(self) -> Tensor:
        """Diagonal of r^2 S S^T, (N, d) float32."""
        return (self.radius.unsqueeze(1).square() * self.noise.variances()).float()

    def adjoint(self, owners: Tensor, w: Tensor) -> Tensor:
        """r S^T w, for the region that owns each w.

        Args:
            owners: Row of a region, (m,) int64.
            w: (m, d), float32 or float64; all is computed in its precision.

        Returns:
            (m, d).
        """
        return self._by_owner(owners, w, lambda noise, part: noise.adjoint(part))

    def colour(self, owners: Tensor, u: Tensor) -> Tensor:
        """r S u, likewise."""
        return self._by_owner(owners, u, lambda noise, part: noise.colour(part))

    def _by_owner(
        self, owners: Tensor, vectors: Tensor, act: Callable[[Noise, Tensor], Tensor]
    ) -> Tensor:
        """Has each region act on its vectors, dense scales in one matrix product each."""
        reach = self.radius.to(vectors.dtype)[owners].unsqueeze(1)
        if not self.dense:
            scale = self.noise.scale[owners].to(vectors.dtype)
            own = replace(self.noise, scale=scale)
            return act(own, vectors.view(-1, 1, *self.noise.event_shape)).flatten(1) * reach
        found = torch.empty_like(vectors)
        order = owners.argsort(stable=True)
        counts = torch.bincount(owners, minlength=len(self)).tolist()
        for noise, part in zip(self.single, order.split(counts), strict=True):
            if len(part):
                own = noise.double() if vectors.dtype == torch.float64 else noise
                batch = vectors[part].view(1, -1, *self.noise.event_shape)
                found[part] = act(own, batch).flatten(2)[0]
        return found * reach


def mean_inverse(parts: Sequence[Regions]) -> Tensor | None:
    """Inverse of the mean of S S^T / tr S S^T, (d, d) float32; None where there is none to use.

    Regions are wide and narrow along much the same directions, so that this preconditions the
    search for a plane between any two. Diagonal scales have one that is exact; and where the
    mean is singular in spite of the ridge, searches go without.
    """
    if not any(part.dense for part in parts):
        return None
    d = parts[0].noise.dimension
    total, count = torch.zeros(d, d, dtype=torch.float64), 0
    for noise in (one for part in parts for one in part.single):
        covariance = noise.covariance()[0]
        total += covariance / covariance.trace()
        count += 1
    root, failed = linalg.cholesky_ex(total / count + _RIDGE * torch.eye(d, dtype=total.dtype))
    inverse = torch.cholesky_inverse(root)
    usable = not bool(failed) and bool(inverse.isfinite().all())
    return inverse.float() if usable else None

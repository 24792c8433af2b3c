"""The factor by which two regions scale to touch, bounded from below by a hyperplane.

For any w the hyperplane with normal w lies between the regions of i and j, both scaled by

    mu = w . (x_j - x_i) / (r_i ||S_i^T w|| + r_j ||S_j^T w||),

so that they are disjoint where mu > 1, wherever w came from. The best w solves
((1 - s) A_i + s A_j) w = x_j - x_i, A = r^2 S S^T, for one s in (0, 1). Conjugate gradients come
near to it in a few steps, and every step is a w to be tried. The w are sought in single precision;
what is claimed of them is computed in double precision, with its rounding errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, linalg

from rddrs_dist.region import Floats, Integers, Region

# A hyperplane found in single precision that lies between the regions by this much will hold.
_CLEAR = 1 + 1e-3
_STEPS = 40
# Where the residual has fallen by the first factor more steps change nothing that could be used;
# by the second, the search ends with a step that gains no more than the share. Between
# regions of RDDRS-TR on MNIST this saves a fifth of all steps for factors lower by 0.4 %.
_CONVERGED, _SETTLED, _STEP_GAIN = 0.15, 0.3, 0.02
# Each round weighs the two regions by the hyperplanes of the one before. Another one takes as long
# and gains 0.2 % where both weigh about the same, so that only those pairs go on of which one
# region weighs more than the other (1/2 is even), or that may be disjoint after all.
_ROUNDS = 3
_UNEVEN = 0.4
_NEARLY = 0.9
_GAIN = 0.02
# Numbers in the vectors of pairs without dense scales that are searched together: few enough to
# stay in the cache, which makes it 2.5 times as fast.
_NUMBERS = 200_000
# What is added to all eigenvalues of a mean of trace 1, so that its inverse is positive in single
# precision too. On MNIST less makes no search quicker; between regions that are 10^6 times as
# long as wide less makes searches end early.
_RIDGE = 1e-5
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Contacts:
    """The best hyperplane that was found for each of C pairs of regions."""

    first: Integers  # number of region i of each pair, (C,)
    second: Integers  # number of region j, (C,)
    gap: Floats  # w . (x_j - x_i), (C,), never above the truth
    left: Floats  # ||S_i^T w||, (C,), never below the truth
    right: Floats  # ||S_j^T w||, (C,), never below the truth
    normal: NDArray[np.float32]  # w, (C, d)
    steps: Integers  # of conjugate gradients, (C,)

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, chosen: slice | NDArray[np.bool_] | Integers) -> "Contacts":
        """Some of the pairs."""
        return Contacts(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def none(cls, dimension: int) -> "Contacts":
        """No pair of regions in R^d."""
        which, size = np.empty(0, np.int64), np.empty(0)
        return cls(which, which, size, size, size, np.empty((0, dimension), np.float32), which)

    @classmethod
    def joined(cls, parts: Sequence["Contacts"]) -> "Contacts":
        """The pairs of several parts, at least one, in the order of their regions."""
        names = [field.name for field in fields(cls)]
        found = cls(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))
        return found[np.lexsort((found.second, found.first))]

    def factor(self, first: Floats, second: Floats | None = None) -> Floats:
        """The contact factor mu of each pair, (C,): at least 0, never above the truth.

        Args:
            first: Radius of each region that `first` counts, (N,).
            second: Of each that `second` counts, where these are others.
        """
        other = first if second is None else second
        supports = first[self.first] * self.left + other[self.second] * self.right
        return np.maximum(self.gap / supports, 0.0)


def contacts(first: Region, second: Region | None, inverse: Tensor | None) -> Contacts:
    """Searches for a hyperplane between any two regions of different predictions.

    Args:
        first: Regions, none of them an abstention.
        second: Other regions; None for all pairs of the first.
        inverse: See `preconditioner`.

    Returns:
        The pairs that the distance of their centres does not tell apart.
    """
    one = _Side(first)
    other = one if second is None else _Side(second)
    rows, columns = _within_reach(one, other)
    dense = not (one.noise.is_diagonal and other.noise.is_diagonal)
    size = max(1, len(rows) if dense else _NUMBERS // first.dimension)
    pairs = zip(rows.split(size), columns.split(size), strict=True)
    return Contacts.joined([_Search(one, other, *some, inverse).contacts() for some in pairs])


def preconditioner(region: Region) -> Tensor | None:
    """Inverse of the mean of S S^T / tr S S^T, (d, d) float32; None where there is none to use.

    Regions are wide and narrow along much the same directions, so that this preconditions the
    search for a hyperplane between any two. Diagonal scales have one that is exact; and where the
    mean is singular in spite of the ridge, searches go without.
    """
    if region.noise.is_diagonal:
        return None
    total = torch.zeros(region.dimension, region.dimension, dtype=torch.float64)
    for noise in region.noise.each:
        covariance = noise.covariance()[0]
        total += covariance / covariance.trace()
    ridge = _RIDGE * torch.eye(len(total), dtype=total.dtype)
    root, failed = linalg.cholesky_ex(total / len(region) + ridge)
    inverse = torch.cholesky_inverse(root)
    usable = not bool(failed) and bool(inverse.isfinite().all())
    return inverse.float() if usable else None


class _Side:
    """What the search asks of N regions."""

    def __init__(self, region: Region) -> None:
        self.noise = region.noise
        self.prediction = torch.from_numpy(region.prediction)
        self.points = region.centre.flatten(1).double()  # (N, d)
        self.radius = torch.from_numpy(region.radius)
        # No SVD for this: where axes are not read off, regions are wider than images are apart.
        longest = self.noise.max_axis if self.noise.is_diagonal else self.noise.frobenius
        self.reach = self.radius * longest * (1 + 1e-9)  # the longest semi-axis, at least

    @cached_property
    def variances(self) -> Tensor:
        """Diagonal of r^2 S S^T, (N, d) float32."""
        return (self.radius.unsqueeze(1).square() * self.noise.variances()).float()

    def adjoint(self, owners: Tensor, w: Tensor) -> Tensor:
        """r S^T w of w (m, d), for the region (m,) that owns each."""
        return self.noise.adjoint_of(owners, w) * self.radius.to(w.dtype)[owners].unsqueeze(1)

    def colour(self, owners: Tensor, u: Tensor) -> Tensor:
        """r S u of u (m, d), for the region (m,) that owns each."""
        return self.noise.colour_of(owners, u) * self.radius.to(u.dtype)[owners].unsqueeze(1)


def _within_reach(first: _Side, second: _Side) -> tuple[Tensor, Tensor]:
    """Pairs of different predictions that are not so far apart that balls around them are."""
    other = first.prediction.unsqueeze(1) != second.prediction
    if first is second:
        other = other.triu(1)
    # Squares of distances as a matrix product, and how wrong that may be.
    norms = first.points.square().sum(1, keepdim=True) + second.points.square().sum(1)
    error = 4 * first.points.shape[1] * _EPS * norms
    squares = norms - 2 * first.points @ second.points.mT - error
    reach = first.reach.unsqueeze(1) + second.reach
    near = ~(squares > reach.square() * (1 + 1e-9))
    rows, columns = (other & near).nonzero().unbind(1)
    return rows, columns


class _Search:
    """Conjugate gradients on many pairs at once; those that are settled leave."""

    def __init__(
        self, first: _Side, second: _Side, rows: Tensor, columns: Tensor, inverse: Tensor | None
    ) -> None:
        self.first, self.second, self.inverse = first, second, inverse
        self.rows, self.columns = rows, columns
        self.v = second.points[columns] - first.points[rows]  # exact
        self.best = torch.zeros(len(rows), dtype=torch.float32)
        # Where both centres are the same point any direction is as bad as another.
        self.w = torch.where((self.v == 0).all(1, keepdim=True), 1.0, self.v).float()
        self.steps = torch.zeros(len(rows), dtype=torch.int64)
        self.balance = torch.ones(len(rows), 2)

    def contacts(self) -> Contacts:
        """Hyperplanes for all pairs."""
        live = torch.arange(len(self.rows))
        for _ in range(_ROUNDS):
            before = self.best[live]
            self._descend(live)
            best, least = self.best[live], self.balance[live].amin(1)
            gaining = best > before * (1 + _GAIN)
            worth = (least < _UNEVEN) | (best > _NEARLY)
            live = live[gaining & worth & (best <= _CLEAR)]
        # What holds of the hyperplanes, rounding errors included.
        w = self.w.double()
        length, slack = w.norm(dim=1), 2 * (w.shape[1] + 8) * _EPS
        gap = (w * self.v).sum(1) - slack * length * self.v.norm(dim=1)
        left, right = (
            side.adjoint(owners, w).norm(dim=1) / side.radius[owners] * (1 + slack)
            + slack * side.noise.frobenius[owners] * length
            for side, owners in ((self.first, self.rows), (self.second, self.columns))
        )
        found = (self.rows, self.columns, gap, left, right, self.w, self.steps)
        return Contacts(*(one.numpy() for one in found))

    def _precondition(self, pairs: Tensor, weights: Tensor, residual: Tensor) -> Tensor:
        """About (a A_i + b A_j)^-1 times a residual; exactly so where both are diagonal."""
        if self.inverse is not None:
            return residual @ self.inverse
        first = self.first.variances[self.rows[pairs]] * weights[:, :1]
        return residual / (first + self.second.variances[self.columns[pairs]] * weights[:, 1:])

    def _descend(self, live: Tensor) -> None:
        """Conjugate gradients for some pairs from the start."""
        weights = self.balance[live]
        v = self.v[live].float()
        w, own, other = torch.zeros_like(v), torch.zeros_like(v), torch.zeros_like(v)
        residual = v
        p = z = self._precondition(live, weights, residual)
        rho = start = (residual * z).sum(1)
        for _ in range(_STEPS):
            mine = self.first.adjoint(self.rows[live], p)
            theirs = self.second.adjoint(self.columns[live], p)
            a, b = weights.unbind(1)
            length = rho / (a * mine.square().sum(1) + b * theirs.square().sum(1))
            w, own, other = (
                old + length.unsqueeze(1) * new
                for old, new in ((w, p), (own, mine), (other, theirs))
            )
            known = self.best[live]
            # Each w that is better than the one before is kept.
            self.steps[live] += 1
            first, second = own.norm(dim=1), other.norm(dim=1)
            mu = (w * v).sum(1) / (first + second)
            better = mu > known
            chosen = live[better]
            self.best[chosen], self.w[chosen] = mu[better], w[better]
            # At the contact 1 - s and s are as r_j ||S_j^T w|| and r_i ||S_i^T w||.
            shares = torch.stack([second, first], 1) / (first + second).unsqueeze(1)
            self.balance[chosen] = shares[better]
            best, left = self.best[live], rho / start
            gaining = (best > known * (1 + _STEP_GAIN)) | (best > _NEARLY) | (left > _SETTLED**2)
            going = (best <= _CLEAR) & gaining & (left > _CONVERGED**2)
            going &= torch.isfinite(length) & (rho > 0)
            if not going.any():
                return
            live, v, weights, start = live[going], v[going], weights[going], start[going]
            w, own, other, p = w[going], own[going], other[going], p[going]
            product = self.first.colour(self.rows[live], weights[:, :1] * mine[going])
            product += self.second.colour(self.columns[live], weights[:, 1:] * theirs[going])
            residual = residual[going] - length[going].unsqueeze(1) * product
            z = self._precondition(live, weights, residual)
            rho, before = (residual * z).sum(1), rho[going]
            p = z + (rho / before).unsqueeze(1) * p

"""The factor by which two regions scale to touch, bounded from below by a plane between them.

For any w the plane with normal w lies between the regions of i and j, both scaled by

    mu = w . (x_j - x_i) / (r_i ||S_i^T w|| + r_j ||S_j^T w||),

so that they are disjoint where mu > 1, wherever w came from. The best w solves
((1 - s) A_i + s A_j) w = x_j - x_i, A = r^2 S S^T, for one s in (0, 1). Conjugate gradients come
near to it in a few steps, and every step is a w to be tried. The w are sought in single precision;
what is claimed of them is computed in double precision, with its rounding errors.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rddrs_dist.disjoint.regions import Regions

# A plane found in single precision that lies between the regions by this much will hold.
_CLEAR = 1 + 1e-3
_STEPS = 40
# Where the residual has fallen by the first factor more steps change nothing that could be used;
# by the second, the search ends with a step that gains no more than the share. Between
# regions of RDDRS-TR on MNIST this saves a fifth of all steps for factors lower by 0.4 %.
_CONVERGED, _SETTLED, _STEP_GAIN = 0.15, 0.3, 0.02
# Each round weighs the two regions by the planes of the one before. Another one takes as long and
# gains 0.2 % where both weigh about the same, so that only those pairs go on of which one region
# weighs more than the other (1/2 is even), or that may be apart after all.
_ROUNDS = 3
_UNEVEN = 0.4
_NEARLY = 0.9
_GAIN = 0.02
# Numbers in the vectors of pairs without dense scales that are looked at together: few enough to
# stay in the cache, which makes it 2.5 times as fast.
_NUMBERS = 200_000
_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Touch:
    """What was found of m pairs of regions that no ball tells apart.

    Attributes:
        rows: Region of each pair in the first set, (m,).
        columns: In the second set, (m,).
        gap: w . v, at least, (m,) float64.
        left: ||S_i^T w||, at most, (m,) float64.
        right: ||S_j^T w||, at most.
        steps: Of conjugate gradients, (m,).
        normal: w, (m, d) float32.
    """

    rows: Tensor
    columns: Tensor
    gap: Tensor
    left: Tensor
    right: Tensor
    steps: Tensor
    normal: Tensor

    def __getitem__(self, chosen: Tensor) -> "Touch":
        """Some of the pairs."""
        return Touch(*(getattr(self, name)[chosen] for name in _FIELDS))

    def mu(self, first: Tensor, second: Tensor) -> Tensor:
        """A lower bound of mu, for radii (N,) of the first and the second set."""
        return self.gap / (first[self.rows] * self.left + second[self.columns] * self.right)


_FIELDS = [field.name for field in fields(Touch)]


def touch(first: Regions, second: Regions, inverse: Tensor | None, same: bool = False) -> Touch:
    """Looks for a plane between any two regions of different predictions.

    Args:
        first: Regions.
        second: Regions.
        inverse: See `mean_inverse`.
        same: Whether both are the same regions, so that each pair is wanted once.

    Returns:
        The pairs that are not already apart by the distance of their centres.
    """
    rows, columns = _candidates(first, second, same)
    dense = first.dense or second.dense
    size = max(1, len(rows) if dense else _NUMBERS // first.points.shape[1])
    parts = [
        _Search(first, second, *some, inverse).touch()
        for some in zip(rows.split(size), columns.split(size), strict=True)
    ]
    return Touch(*(torch.cat([getattr(one, name) for one in parts]) for name in _FIELDS))


def _candidates(first: Regions, second: Regions, same: bool) -> tuple[Tensor, Tensor]:
    """Pairs of different predictions that are not so far apart that balls around them are."""
    other = first.prediction.unsqueeze(1) != second.prediction
    if same:
        other = other.triu(1)
    # Squares of distances as a matrix product, and how wrong that may be.
    norms = first.points.square().sum(1, keepdim=True) + second.points.square().sum(1)
    squares = (
        norms - 2 * first.points @ second.points.mT - 4 * first.points.shape[1] * _EPS * norms
    )
    reach = first.reach.unsqueeze(1) + second.reach
    near = ~(squares > reach.square() * (1 + 1e-9))
    rows, columns = (other & near).nonzero().unbind(1)
    return rows, columns


class _Search:
    """Conjugate gradients on many pairs at once; those that are settled leave."""

    def __init__(
        self,
        first: Regions,
        second: Regions,
        rows: Tensor,
        columns: Tensor,
        inverse: Tensor | None,
    ) -> None:
        self.first, self.second, self.inverse = first, second, inverse
        self.rows, self.columns = rows, columns
        self.v = second.points[columns] - first.points[rows]  # exact
        self.best = torch.zeros(len(rows), dtype=torch.float32)
        # Where both centres are the same point any direction is as bad as another.
        self.w = torch.where((self.v == 0).all(1, keepdim=True), 1.0, self.v).float()
        self.steps = torch.zeros(len(rows), dtype=torch.int64)
        self.balance = torch.ones(len(rows), 2)

    def touch(self) -> Touch:
        """Planes for all pairs."""
        live = torch.arange(len(self.rows))
        for _ in range(_ROUNDS):
            before = self.best[live]
            self._descend(live)
            best, least = self.best[live], self.balance[live].amin(1)
            gaining = best > before * (1 + _GAIN)
            worth = (least < _UNEVEN) | (best > _NEARLY)
            live = live[gaining & worth & (best <= _CLEAR)]
            if not len(live):
                break
        return self._claim()

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
            self._try(live, v, w, own, other)
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

    def _try(self, live: Tensor, v: Tensor, w: Tensor, own: Tensor, other: Tensor) -> None:
        """Keeps each w that is better than the one before."""
        self.steps[live] += 1
        first, second = own.norm(dim=1), other.norm(dim=1)
        mu = (w * v).sum(1) / (first + second)
        better = mu > self.best[live]
        chosen = live[better]
        self.best[chosen], self.w[chosen] = mu[better], w[better]
        # At the contact 1 - s and s are as r_j ||S_j^T w|| and r_i ||S_i^T w||.
        weights = torch.stack([second, first], 1) / (first + second).unsqueeze(1)
        self.balance[chosen] = weights[better]

    def _claim(self) -> Touch:
        """What holds of the planes, rounding errors included."""
        w = self.w.double()
        own = self.first.adjoint(self.rows, w)
        other = self.second.adjoint(self.columns, w)
        length, slack = w.norm(dim=1), 2 * (w.shape[1] + 8) * _EPS
        gap = (w * self.v).sum(1) - slack * length * self.v.norm(dim=1)
        left, right = (
            image.norm(dim=1) / regions.radius[which] * (1 + slack)
            + slack * regions.frobenius[which] * length
            for regions, which, image in (
                (self.first, self.rows, own),
                (self.second, self.columns, other),
            )
        )
        return Touch(self.rows, self.columns, gap, left, right, self.steps, self.w)

"""Certification by Monte Carlo: one function for every noise."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor, nn

from rddrs_dist.neighbours import diameter
from rddrs_dist.networks import check_logits
from rddrs_dist.noise import Noise
from rddrs_dist.smoothing import Stage, Streams
from rddrs_dist.smoothing.precision import Precision, multiplying
from rddrs_dist.smoothing.quantised import Quantised
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import (
    clopper_pearson_lower,
    normal_quantile_lower,
    smallest_certifying_n,
)

ABSTAIN = -1
# More than sums, products and logarithms of a few numbers lose, as a share of them.
_ULPS = 16 * float(np.finfo(np.float64).eps)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Budget:
    """Samples and confidence of a certificate.

    Attributes:
        n0: Samples that select the class.
        n: Fresh samples that estimate its probability.
        alpha: Probability with which a certificate may be wrong.
        looks: How often the count is looked at, after n / 2^(looks - 1), ..., n / 2, n samples,
            each time at level alpha / looks: an image may stop at any of them.
        tolerance: An image stops where its radius falls short of what all n samples are expected
            to give by at most this share, or where its class is surely below one half.
    """

    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    looks: int = 1
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")
        if self.n0 < 1:
            raise ValueError(f"n0 must be at least 1, got {self.n0}")
        if self.looks < 1 or not 0 < self.tolerance < 1:
            raise ValueError(
                "looks must be at least 1 and tolerance in (0, 1), got "
                f"{self.looks} and {self.tolerance}"
            )
        if len(set(self.sizes)) < self.looks:
            raise ValueError(
                f"looks = {self.looks} wants an n of at least {2 ** (self.looks - 1)}, which can "
                f"be halved so often, got n = {self.n}"
            )
        smallest = smallest_certifying_n(self.level)
        if self.n < smallest:
            raise ValueError(
                f"n = {self.n} can never certify at alpha = {self.alpha}"
                f"{f' with {self.looks} looks' if self.looks > 1 else ''}: "
                f"the smallest n that can is {smallest}"
            )

    @property
    def level(self) -> float:
        """Error probability of each look; by the union bound all together have alpha."""
        return self.alpha / self.looks

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples after which the count is looked at, ascending; the last are n."""
        return tuple(-(-self.n // 2**k) for k in reversed(range(self.looks)))

    def radius(self, count: Integers, n: int | Integers) -> tuple[Floats, Floats]:
        """p_lower and Phi^-1 of it, for counts out of n samples."""
        p_lower = clopper_pearson_lower(count, n, self.level)
        return p_lower, normal_quantile_lower(p_lower)

    def goes_on(self, count: Integers, n: int, limit: Floats) -> NDArray[np.bool_]:
        """Which images are worth more than the n samples that they have had, (B,).

        None whose region reaches its limit already.

        Whatever the rule, the union bound over all looks makes the certificate valid.
        """
        if n >= self.n:
            return np.zeros(len(count), dtype=bool)
        now = np.minimum(self.radius(count, n)[1], limit)
        expected = np.minimum(self.radius(count * self.n // n, self.n)[1], limit)
        hopeful = clopper_pearson_lower(n - count, n, self.level) < 0.5
        return hopeful & ((now < (1 - self.tolerance) * expected) | (expected == 0))


@dataclass(frozen=True, eq=False)
class Certificate:
    """The smoothed classifier is constant on {x + delta : ||S^-1 delta|| < radius}.

    True for each image with probability at least 1 - alpha over the samples drawn. Sizes are lower
    bounds; where the classifier abstains they are 0 (log_volume: -inf).

    Attributes:
        prediction: (B,), the class, or ABSTAIN.
        count: (B,), samples out of n in which the selected class was the answer.
        n: (B,), samples that estimate; fewer than the budget's where an image stopped at a look.
        budget: n0, n and alpha.
        p_lower: (B,), lower confidence bound on the probability of the selected class.
        radius: (B,), Phi^-1(p_lower), or the limit where that is less; dimensionless: in units of
            the noise.
        min_axis: (B,), smallest axis of the noise, in pixel units.
        mean_axis: (B,), geometric mean of the axes.
        max_axis: (B,), largest axis.
        capped_mean_axis: (B,), geometric mean of the axes, each cut where the region's semi-axis
            reaches the diameter sqrt(d) of the pixel domain [0, 1]^d.
        axes_beyond_domain: (B,), how many semi-axes of the region are longer than that.
        dimension: d, elements of an image.

    References:
        Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918), theorem 1 and section 3.2.
        Eiras et al. 2021 (arXiv 2107.04570), for the ellipsoid and its proxy radius.
    """

    prediction: Integers
    count: Integers
    n: Integers
    budget: Budget
    p_lower: Floats
    radius: Floats
    min_axis: Floats
    mean_axis: Floats
    max_axis: Floats
    capped_mean_axis: Floats
    axes_beyond_domain: Integers
    dimension: int

    @property
    def l2_radius(self) -> Floats:
        """Radius of the largest ball inside the region, (B,)."""
        return _product_below(self.radius, self.min_axis)

    @property
    def proxy_radius(self) -> Floats:
        """Radius of the ball that has the region's volume, (B,)."""
        return _product_below(self.radius, self.mean_axis)

    @property
    def capped_proxy_radius(self) -> Floats:
        """The proxy radius with each semi-axis cut at the domain's diameter, (B,)."""
        return _product_below(self.radius, self.capped_mean_axis)

    @property
    def log_volume(self) -> Floats:
        """Natural logarithm of the region's volume, (B,); -inf for an abstention."""
        d = self.dimension
        with np.errstate(divide="ignore"):
            grown = d * np.log(self.proxy_radius)
        sphere, gamma = d / 2 * math.log(math.pi), float(gammaln(d / 2 + 1))
        # Each of the three is known to a few units in its last place.
        finite = np.where(np.isfinite(grown), grown, 0.0)
        return sphere - gamma + grown - _ULPS * (sphere + abs(gamma) + np.abs(finite))


def _product_below(first: Floats, second: Floats) -> Floats:
    """first * second, rounded downward."""
    product = first * second
    return np.where(product > 0, np.nextafter(product, 0), 0.0)


def certify(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    budget: Budget,
    streams: Streams,
    levels: int | None = None,
    precision: Precision = "float32",
    limit: Floats | None = None,
) -> Certificate:
    """Certifies each image under its noise.

    The class is selected with n0 samples and its probability estimated with n fresh ones, both
    from streams that no optimiser reads.

    Args:
        model: Maps (N, *event) to logits (N, K); on the device of `images`.
        images: (B, *event).
        noise: Noise of each image; its scale must have been chosen without the streams' stages
            SELECT and ESTIMATE.
        budget: Samples and confidence.
        streams: Random streams of the images.
        levels: Where given, the classifier that is smoothed is the network on pixels rounded to
            multiples of 1 / levels; see `Quantised`.
        precision: Of the network's convolutions on a GPU; the certificate is one of the network
            that multiplies so.
        limit: (B,), positive: no region is to have a larger radius; by default any is welcome.
            Chosen by what chose the noise (see `Fit`), not by the samples of the certificate.

    Raises:
        ValueError: If the network's output is not finite or not of shape (N, K), or a limit is not
            positive.
    """
    check_logits(model, images)
    limit = np.full(len(images), math.inf) if limit is None else limit
    if limit.shape != (len(images),) or not (limit > 0).all():
        raise ValueError(
            f"limit must be {len(images)} positive numbers, one per image, got {limit}: pass that "
            "of the fit"
        )
    base, centres, drawn = model, images, noise
    if levels is not None:
        base = Quantised(model, levels, images, noise)
        centres, drawn = images.double(), noise.double()
    with multiplying(precision, images.device):
        selected = class_counts(base, centres, drawn, budget.n0, streams, Stage.SELECT).argmax(1)
        count, n = _estimated(base, centres, drawn, budget, streams, selected, limit)
    p_lower, certified = budget.radius(count, n)
    radius = np.minimum(certified, limit)
    with np.errstate(divide="ignore"):
        widest = torch.from_numpy(diameter(noise.dimension) / radius).to(images.device)
    return Certificate(
        prediction=np.where(radius > 0, selected.cpu().numpy(), ABSTAIN),
        count=count,
        n=n,
        budget=budget,
        p_lower=p_lower,
        radius=radius,
        min_axis=noise.min_axis.cpu().numpy(),
        mean_axis=noise.mean_axis.cpu().numpy(),
        max_axis=noise.max_axis.cpu().numpy(),
        capped_mean_axis=noise.capped_mean_axis(widest).cpu().numpy(),
        axes_beyond_domain=noise.axes_above(widest).cpu().numpy(),
        dimension=noise.dimension,
    )


def _estimated(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    budget: Budget,
    streams: Streams,
    selected: Tensor,
    limit: Floats,
) -> tuple[Integers, Integers]:
    """Samples of the selected class and samples in all, (B,) each; see `Budget.looks`.

    What is new at a look comes from the streams of a step of its own.
    """
    count, n = np.zeros(len(images), dtype=np.int64), np.zeros(len(images), dtype=np.int64)
    active = list(range(len(images)))
    for look, size in enumerate(budget.sizes):
        fresh = size - (budget.sizes[look - 1] if look else 0)
        counts = class_counts(
            model, images[active], noise[active], fresh, streams[active], Stage.ESTIMATE, look
        ).gather(1, selected[active][:, None])
        count[active] += counts[:, 0].cpu().numpy()
        n[active] = size
        worth = budget.goes_on(count[active], size, limit[active])
        active = [active[k] for k in np.flatnonzero(worth)]
        if not active:
            break
    return count, n

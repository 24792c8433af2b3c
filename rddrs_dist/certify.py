"""Certification by Monte Carlo: one function for every noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rddrs_dist.methods import Fit
from rddrs_dist.networks import check_logits
from rddrs_dist.region import ABSTAIN, Floats, Integers, Region
from rddrs_dist.smoothing import Smoothed, Stage, Streams
from rddrs_dist.smoothing.precision import multiplying
from rddrs_dist.smoothing.sample import class_counts
from rddrs_dist.stats import clopper_pearson_lower, normal_quantile_lower, smallest_certifying_n

__all__ = ["ABSTAIN", "Budget", "Certificate", "certify"]


@dataclass(frozen=True)
class Budget:
    """Samples and confidence of a certificate.

    Attributes:
        n0: Samples that select the class.
        n: Fresh samples that estimate its probability.
        alpha: Probability with which a certificate may be wrong.
        sequential_tests: How often the count is tested, as in a group-sequential test: after
            n / 2^(k - 1), ..., n / 2, n samples for k tests, each time at level alpha / k. An
            image may stop at any of them.
        tolerance: An image stops where its radius falls short of what all n samples are expected
            to give by at most this share, or where its class is surely below one half.
    """

    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    sequential_tests: int = 1
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")
        if self.n0 < 1:
            raise ValueError(f"n0 must be at least 1, got {self.n0}")
        tests = self.sequential_tests
        if tests < 1 or not 0 < self.tolerance < 1:
            raise ValueError(
                "sequential_tests must be at least 1 and tolerance in (0, 1), got "
                f"{tests} and {self.tolerance}"
            )
        if len(set(self.sizes)) < tests:
            raise ValueError(
                f"sequential_tests = {tests} wants an n of at least {2 ** (tests - 1)}, which can "
                f"be halved so often, got n = {self.n}"
            )
        smallest = smallest_certifying_n(self.level)
        if self.n < smallest:
            raise ValueError(
                f"n = {self.n} can never certify at alpha = {self.alpha}"
                f"{f' with {tests} sequential tests' if tests > 1 else ''}: "
                f"the smallest n that can is {smallest}"
            )

    @property
    def level(self) -> float:
        """Error probability of each test; by the union bound all together have alpha."""
        return self.alpha / self.sequential_tests

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples after which the count is tested, ascending; the last are n."""
        return tuple(-(-self.n // 2**k) for k in reversed(range(self.sequential_tests)))

    def radius(self, count: Integers, n: int | Integers) -> tuple[Floats, Floats]:
        """p_lower and Phi^-1 of it, for counts out of n samples."""
        p_lower = clopper_pearson_lower(count, n, self.level)
        return p_lower, normal_quantile_lower(p_lower)

    def goes_on(self, count: Integers, n: int, limit: Floats) -> NDArray[np.bool_]:
        """Which images are worth more than the n samples that they have had, (B,).

        None whose region reaches its limit already.

        Whatever the rule, the union bound over all tests makes the certificate valid.
        """
        if n >= self.n:
            return np.zeros(len(count), dtype=bool)
        now = np.minimum(self.radius(count, n)[1], limit)
        expected = np.minimum(self.radius(count * self.n // n, self.n)[1], limit)
        hopeful = clopper_pearson_lower(n - count, n, self.level) < 0.5
        return hopeful & ((now < (1 - self.tolerance) * expected) | (expected == 0))


@dataclass(frozen=True, eq=False)
class Certificate:
    """The smoothed classifier is constant on each region of `region`.

    True for each image with probability at least 1 - alpha over the samples drawn.

    Attributes:
        count: (B,), samples out of n in which the selected class was the answer.
        n: (B,), samples that estimate; fewer than the budget's where an image stopped early.
        budget: n0, n and alpha.
        p_lower: (B,), lower confidence bound on the probability of the selected class.
        region: Prediction, noise and sizes of each image; the radius is Phi^-1(p_lower), or the
            limit of the fit where that is less, and 0 for an abstention.

    References:
        Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918), theorem 1 and section 3.2.
    """

    count: Integers
    n: Integers
    budget: Budget
    p_lower: Floats
    region: Region


def certify(
    model: nn.Module | Smoothed, images: Tensor, fit: Fit, budget: Budget, streams: Streams
) -> Certificate:
    """Certifies each image under the noise that was fitted to it.

    The class is selected with n0 samples and its probability estimated with n fresh ones, both
    from streams that no optimiser reads. No region gets a larger radius than the limit of its fit.

    Args:
        model: Maps (N, *event) to logits (N, K), on the device of `images`; or such a network
            with quantisation, precision and batching.
        images: (B, *event).
        fit: What a method's `fit` returned, noise and limit together; its scale must have been
            chosen without the streams' stages SELECT and ESTIMATE. `Fit.of(noise)` is that of a
            noise that no method has fitted.
        budget: Samples and confidence.
        streams: Random streams of the images.

    Raises:
        ValueError: If the network's output is not finite or not of shape (N, K), or what was
            given is no fit of these images.

    Example:
        >>> import torch
        >>> from rddrs_dist import Budget, Fit, IsotropicNoise, Streams, certify
        >>> bright = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
        >>> _ = bright[1].weight.data.copy_(torch.tensor([[9.0] * 4, [-9.0] * 4]))
        >>> images = torch.full((1, 1, 2, 2), 0.5)
        >>> fit = Fit.of(IsotropicNoise.constant(0.25, images))
        >>> certificate = certify(bright, images, fit, Budget(n=1000), Streams.of(0, [0]))
        >>> int(certificate.region.prediction[0]), certificate.region.l2_radius > 0.5
        (0, array([ True]))
    """
    smoothed = model if isinstance(model, Smoothed) else Smoothed(model)
    check_logits(smoothed.model, images)
    if not isinstance(fit, Fit):
        raise ValueError(
            "certify wants what a method's fit returned, noise and limit together, got "
            f"{type(fit).__name__}: pass the fit itself, or Fit.of(noise) for a noise alone"
        )
    if len(fit.noise) != len(images):
        raise ValueError(f"fit must be of {len(images)} images, got one of {len(fit.noise)}")
    base, centres, drawn = smoothed.at(images, fit.noise)

    def counts(rows: list[int], n: int, stage: Stage, step: int = 0) -> Tensor:
        own = (centres[rows], drawn[rows], n, streams[rows])
        return class_counts(base, *own, stage, step, smoothed.batching)

    with multiplying(smoothed.precision, images.device):
        selected = counts(list(range(len(images))), budget.n0, Stage.SELECT).argmax(1)
        count, n = _estimated(counts, budget, selected, fit.limit)
    p_lower, certified = budget.radius(count, n)
    radius = np.minimum(certified, fit.limit)
    prediction = np.where(radius > 0, selected.cpu().numpy(), ABSTAIN)
    return Certificate(count, n, budget, p_lower, Region(images, fit.noise, radius, prediction))


def _estimated(
    counts: Callable[[list[int], int, Stage, int], Tensor],
    budget: Budget,
    selected: Tensor,
    limit: Floats,
) -> tuple[Integers, Integers]:
    """Samples of the selected class and samples in all, (B,) each; see `Budget`.

    What is new at each test comes from the streams of a step of its own.
    """
    count, n = np.zeros(len(limit), np.int64), np.zeros(len(limit), np.int64)
    active, before = list(range(len(limit))), 0
    for test, size in enumerate(budget.sizes):
        found = counts(active, size - before, Stage.ESTIMATE, test)
        own = found.gather(1, selected[active][:, None])
        count[active] += own[:, 0].cpu().numpy()
        n[active], before = size, size
        worth = budget.goes_on(count[active], size, limit[active])
        active = [active[k] for k in np.flatnonzero(worth)]
        if not active:
            break
    return count, n

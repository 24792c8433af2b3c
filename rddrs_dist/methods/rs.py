"""Randomized smoothing: one sigma for every image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from rddrs_dist.methods.base import Context, Fit, Method, Status
from rddrs_dist.noise import IsotropicNoise


@dataclass(frozen=True)
class RS(Method):
    """S = sigma I.

    References:
        Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918).
    """

    name: ClassVar[str] = "rs"

    def _samples(self) -> int:
        return 1

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        noise = IsotropicNoise.constant(context.sigma, images)
        count = len(images)
        steps, objective = np.zeros(count, dtype=np.int64), np.full(count, np.nan)
        limit = np.full(count, np.inf)
        return Fit(noise, [Status.CLOSED_FORM] * count, steps, objective, limit)

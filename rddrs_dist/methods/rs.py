"""Randomized smoothing: one sigma for every image."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from rddrs_dist.methods.base import Context, Fit, Method
from rddrs_dist.noise import IsotropicNoise


@dataclass(frozen=True)
class RS(Method):
    """S = sigma I.

    References:
        Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918).
    """

    name: ClassVar[str] = "rs"
    label: ClassVar[str] = "RS"
    paper: ClassVar[str] = "Cohen et al. 2019 (arXiv 1902.02918)"
    colour: ClassVar[str] = "#4d4d4d"
    dashes: ClassVar[Any] = (0, (1, 1.1))

    def _samples(self) -> int:
        return 1

    def _fit(self, model: nn.Module, images: Tensor, context: Context) -> Fit:
        return Fit.of(IsotropicNoise.constant(context.sigma, images))

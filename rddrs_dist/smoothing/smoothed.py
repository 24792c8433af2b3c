"""The base classifier that is smoothed: a network, perhaps on rounded pixels, and how it computes.

Floating point leaves marks in the last bits of x + S z, which a network could read (Voracek and
Hein 2023, arXiv 2207.07209). One that sees multiples of 1 / levels cannot: what it is given is
what exact arithmetic would give, or the sample counts for no class.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rddrs_dist.noise import Noise
from rddrs_dist.smoothing.batching import UNBOUNDED, Batching
from rddrs_dist.smoothing.precision import Precision, checked

# |z| is above sqrt(d) + 10 with a probability below exp(-50), by Gaussian concentration.
_TAIL = 10.0


@dataclass(frozen=True, eq=False)
class Smoothed:
    """The classifier that certificates are about, before noise is added.

    Attributes:
        model: Maps (N, *event) to logits (N, K), in evaluation mode; on the device of the images.
        quantisation: Where given, the classifier is the network on pixels rounded to multiples of
            1 / quantisation; see `Quantised`.
        precision: Of the network's convolutions on a GPU.
        batching: How many images share a launch; decides nothing else.
    """

    model: nn.Module
    quantisation: int | None = None
    precision: Precision = "float32"
    batching: Batching = UNBOUNDED

    def __post_init__(self) -> None:
        checked(self.precision)
        if self.quantisation is not None and self.quantisation < 1:
            raise ValueError(
                f"quantisation must be at least 1, got {self.quantisation}; 255 is that of images"
            )

    def at(self, images: Tensor, noise: Noise) -> tuple[nn.Module, Tensor, Noise]:
        """The classifier for samples around images (B, *event), and both in its precision."""
        if self.quantisation is None:
            return self.model, images, noise
        base = Quantised(self.model, self.quantisation, images, noise)
        return base, images.double(), noise.double()


class Quantised(nn.Module):
    """x -> f(round(levels x) / levels), for samples x + S z that were computed in float64.

    A pixel that is so near to the middle of two levels that rounding errors may have moved it to
    the wrong side makes the logits of its sample NaN: such a sample counts for no class.

    Numbers of single precision multiply exactly in float64, and a sum of d + 1 of them, in any
    order, is off by less than (d + 2) u sum |terms|, u = 2^-53 (Higham 2002, section 4.2), where
    sum_j |S_ij z_j| <= |S_i| |z|.
    """

    def __init__(self, model: nn.Module, levels: int, images: Tensor, noise: Noise) -> None:
        """Wraps a network for images (B, *event) that will get this noise."""
        super().__init__()
        self.model, self.levels = model, levels
        d = noise.dimension
        widest = float(noise.variances().max().sqrt()) * (1 + 1e-6)
        terms = widest * (math.sqrt(d) + _TAIL) + float(images.abs().max())
        # And once more for the product with the number of levels.
        self.error = levels * 2.0**-53 * ((d + 3) * terms)
        self.train(model.training)

    def forward(self, samples: Tensor) -> Tensor:
        """Logits of samples (N, *event), float64; NaN where a pixel may be either."""
        scaled = samples * self.levels
        level = scaled.round()
        # Exact below 2^52: both are multiples of the last bit of the larger one.
        unsure = ((scaled - level).abs() >= 0.5 - self.error).flatten(1).any(1)
        logits = self.model((level / self.levels).to(torch.float32))
        return logits.masked_fill(unsure.unsqueeze(1), torch.nan)

"""The soft margin Phi^-1(p_1) - Phi^-1(p_2) under noise, and its gradients.

p is the mean softmax over samples; p_1 and p_2 are its two largest entries. Labels play no part.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing.batching import UNBOUNDED, Batching
from rddrs_dist.smoothing.precision import multiplying, rounded
from rddrs_dist.smoothing.sample import input_gradient, logits_of
from rddrs_dist.smoothing.seeds import Stage, Streams


def top_two(p: Tensor, clamp: float) -> tuple[Tensor, Tensor]:
    """The two largest of p (B, K), clamped to [clamp, 1 - clamp], and their classes, (B, 2) each.

    The largest comes first.
    """
    values, classes = p.topk(2, dim=-1)
    return values.clamp(clamp, 1 - clamp), classes


def normal_density(x: Tensor) -> Tensor:
    """phi(x), the standard normal density."""
    return torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def soft_gap(model: nn.Module, images: Tensor, eps: Tensor, clamp: float) -> Tensor:
    """Phi^-1(p_1) - Phi^-1(p_2), (B,), differentiable in the noise eps (B, n, *event).

    Probabilities are clamped to [clamp, 1 - clamp]; the gradient is zero in one that is.
    """
    p = logits_of(model, images.unsqueeze(1) + eps).softmax(-1).mean(1)  # (B, K)
    quantiles = torch.special.ndtri(top_two(p, clamp)[0])
    return quantiles[:, 0] - quantiles[:, 1]


def gap_gradient(
    model: nn.Module,
    images: Tensor,
    noise: FullNoise,
    weights: Tensor,
    n: int,
    streams: Streams,
    step: int,
    batching: Batching = UNBOUNDED,
) -> Tensor:
    """Monte-Carlo gradient of sum_k weights_k p_k with respect to a symmetric scale.

    E = sym( mean_j grad_y( sum_k weights_k F_k )(x + S z_j) z_j^T ): one forward and one backward
    pass for all classes together, because only the combination is needed. A GPU multiplies in
    TF32, with `coarse` samples.

    The weights (B, K) are the cotangent of the mean softmax, E is (B, d, d), and samples are of
    the fit stage; other arguments are those of `class_counts`.

    References:
        Labarbarie, Hajri, Arnaudon 2022 (arXiv 2206.10235), proposition 2.
    """
    total = images.new_zeros(len(images), noise.dimension, noise.dimension)
    draw = coarse(noise) if images.is_cuda and images.dtype == torch.float32 else None
    with multiplying("tf32", images.device, matrices="tf32"):
        for block, size in enumerate(batching.batches(images, n).blocks):
            z = streams.normal(Stage.FIT, step, block, size, images)
            z, eps = draw(z) if draw else (z, noise.colour(z))
            samples = (images.unsqueeze(1) + eps).requires_grad_()
            gradient = input_gradient(logits_of(model, samples), weights.unsqueeze(1), samples)[1]
            total.baddbmm_(gradient.flatten(2).mT, z.flatten(2))  # (B, d, n) @ (B, n, d)
    return (total + total.mT) / (2 * n)


def coarse(noise: FullNoise) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What makes z rounded to the 11 bits of TF32, and S z from that, of a float32 scale.

    Two products in TF32 give it to within 2^-22 of its widest axis, as single precision does: of
    the samples they lose nothing, and S is the sum of two such matrices, taken apart here once.
    """
    high = rounded(noise.scale)
    first, second = (
        FullNoise.unchecked(part, noise.event_shape) for part in (high, noise.scale - high)
    )

    def draw(z: Tensor) -> tuple[Tensor, Tensor]:
        z = rounded(z)
        return z, first.colour(z) + second.colour(z)

    return draw

"""How a class probability bends under noise: its mean Hessian and gradients, by Monte Carlo."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing.launch import Launches
from rddrs_dist.smoothing.seeds import Stage, Streams


class Curvature(NamedTuple):
    """Means over samples of the softmax F of one class, seen in the frame whitened by the noise.

    Attributes:
        p: (B,), E F(x + S z).
        hessian: W = S^T E[grad^2 F] S, (B, d, d), symmetric. Where S moves to S expm(M / 2), p
            moves by <M, W> / 2 to first order.
        gradients: S^T E[grad F grad F^T] S, (B, d, d): the Hessian acts in its range.
    """

    p: Tensor
    hessian: Tensor
    gradients: Tensor


def curvature(
    model: nn.Module,
    images: Tensor,
    noise: FullNoise,
    classes: Tensor,
    n: int,
    streams: Streams,
    step: int,
) -> Curvature:
    """Estimates the curvature from antithetic pairs x + S z, x - S z.

    By Stein's lemma E[grad^2 F(x + S z)] S = E[grad F(x + S z) z^T]. A pair takes the mean
    gradient out of this estimate, which is noise alone.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        noise: Scale of each image.
        classes: (B,) int64, the class of each image.
        n: Samples per image, both of a pair counted; raised to whole pairs.
        streams: Random streams of the images; the fit stage is drawn from.
        step: Step whose samples are drawn.
    """
    count, d = len(images), noise.dimension
    p, taken = images.new_zeros(count), 0
    hessian, gradients = images.new_zeros(2, count, d, d)
    for block, size in enumerate(Launches.of(images, n).blocks):
        pairs = (size + 1) // 2
        z = streams.normal(Stage.FIT, step, block, pairs, images)
        eps = noise.colour(z)
        samples = (images.unsqueeze(1) + torch.cat([eps, -eps], 1)).requires_grad_()
        logits = model(samples.flatten(0, 1)).unflatten(0, (count, -1))  # (B, 2 pairs, K)
        answer = logits.softmax(-1).gather(2, classes.view(-1, 1, 1).expand(-1, 2 * pairs, 1))
        (gradient,) = torch.autograd.grad(answer.sum(), samples)
        flat = gradient.flatten(2)  # (B, 2 pairs, d)
        hessian.baddbmm_((flat[:, :pairs] - flat[:, pairs:]).mT, z.flatten(2))
        gradients.baddbmm_(flat.mT, flat)
        p += answer.detach().sum((1, 2))
        taken += 2 * pairs
    whitened = noise.scale.mT @ hessian / taken
    gradients = noise.scale.mT @ (gradients / taken) @ noise.scale
    return Curvature(p / taken, (whitened + whitened.mT) / 2, gradients)

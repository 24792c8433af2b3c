"""How a class probability bends under noise: its mean Hessian and gradients, by Monte Carlo."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import sym
from rddrs_dist.noise import FullNoise
from rddrs_dist.smoothing.launch import Launches
from rddrs_dist.smoothing.sample import input_gradient
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
        n: Samples per image, both of a pair counted; whole pairs are drawn.
        streams: Random streams of the images; the fit stage is drawn from.
        step: Step whose samples are drawn.
    """
    count = len(images)
    # Kept and multiplied once: a product per launch would write (B, d, d) numbers every time.
    draws, slopes, answers = [], [], []
    for block, size in enumerate(Launches.of(images, n).blocks):
        pairs = max(1, size // 2)  # not one row more than a launch has
        z = streams.normal(Stage.FIT, step, block, pairs, images)
        eps = noise.colour(z)
        samples = (images.unsqueeze(1) + torch.stack([eps, -eps])).requires_grad_()
        logits = model(samples.flatten(0, 2)).unflatten(0, (2, count, -1))  # (2, B, pairs, K)
        one_hot = nn.functional.one_hot(classes, logits.shape[-1]).to(logits.dtype)
        one_hot = one_hot.view(1, count, 1, -1)
        softmax, gradient = input_gradient(logits, one_hot, samples)
        draws.append(z.flatten(2))
        slopes.append(gradient.flatten(3))
        answers.append((softmax * one_hot).sum(3))
    z, (plus, minus) = torch.cat(draws, 1), torch.cat(slopes, 2)  # each (B, n / 2, d)
    taken = 2 * z.shape[1]
    p = torch.cat(answers, 2).sum((0, 2))
    hessian = (plus - minus).mT @ z
    gradients = plus.mT @ plus + minus.mT @ minus
    whitened = noise.scale.mT @ hessian / taken
    gradients = noise.scale.mT @ (gradients / taken) @ noise.scale
    return Curvature(p / taken, sym(whitened), gradients)

"""How a class probability bends under noise: its mean Hessian and gradients, by Monte Carlo."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import orthonormal, sym
from rddrs_dist.noise import Noise
from rddrs_dist.smoothing.batching import UNBOUNDED, Batching
from rddrs_dist.smoothing.sample import input_gradient, logits_of, of_class
from rddrs_dist.smoothing.seeds import Stage, Streams


class Tempering(NamedTuple):
    """Which samples count as near the decision boundary of a class.

    Under large noise the softmax is saturated nearly everywhere: a few samples in a hundred have a
    gradient, and by chance a large one. Divided by a temperature in proportion to their own
    spread, the logits have the same softmax whatever the size of the noise.

    Attributes:
        temperature: In units of the standard deviation of the margin, the logit of the class
            minus the largest other one.
        near: Share of the samples, those of the smallest margins, whose gradient is computed.
    """

    temperature: float
    near: float


class Slopes(NamedTuple):
    """The samples x + S z near the decision boundary of a class, out of n, and their gradients."""

    p: Tensor  # (B,), share of all n samples whose answer is the class
    n: int  # samples drawn
    z: Tensor  # (B, m, d), standard normal
    gradients: Tensor  # (B, m, d), grad F(x + S z), F the class's softmax of the tempered logits


class Curvature(NamedTuple):
    """Running means over samples, in the frame whitened by the noise and there in k directions.

    Where S moves to S expm(M / 2), E F moves by <M, W> / 2 to first order.
    """

    basis: Tensor  # V, (B, d, k), orthonormal: where nearly all of the gradients are
    hessian: Tensor  # V^T W V, (B, k, k), with W = S^T E[grad^2 F] S
    gradients: Tensor  # V^T G V, (B, k, k), with G = S^T E[grad F grad F^T] S: W is in its range

    @classmethod
    def blank(cls, images: Tensor, rank: int) -> "Curvature":
        """Nothing seen yet of images (B, *event)."""
        count, d = len(images), images[0].numel()
        k = min(rank, d)
        square = images.new_zeros(count, k, k)
        return cls(images.new_zeros(count, d, k), square, square)


def slopes(
    model: nn.Module,
    centres: Tensor,
    noise: Noise,
    classes: Tensor,
    n: int,
    tempering: Tempering,
    streams: Streams,
    step: int,
    batching: Batching = UNBOUNDED,
) -> Slopes:
    """Draws pairs x + S z, x - S z and differentiates the network at those near the boundary.

    Of n samples both of a pair are counted, and whole pairs are drawn, of the fit stage.

    Args:
        model: Maps (N, *event) to logits (N, K).
        centres: x, one for all pairs of an image, (B, 1, *event), or one for each,
            (B, n // 2, *event).
        noise: S of each image.
        classes: Class of each centre, (B, 1) or (B, n // 2) int64.
        n: Samples per image.
        tempering: Which samples count.
        streams: Random streams of the images.
        step: Step whose samples are drawn.
        batching: How many images share a launch.
    """
    draws, samples, answers, of, start = [], [], [], [], 0
    images, shared = centres[:, 0], centres.shape[1] == 1
    with torch.no_grad():
        for block, size in enumerate(batching.batches(images, n).blocks):
            z, eps = pairs(noise, images, size, streams, (Stage.FIT, step, block))
            own = slice(start, start := start + z.shape[1] // 2)
            around = centres if shared else torch.cat([centres[:, own]] * 2, 1)
            samples.append(around + eps)
            answers.append(logits_of(model, samples[-1]))
            draws.append(z)
            of += [] if shared else [classes[:, own]] * 2
    z, x, logits = torch.cat(draws, 1), torch.cat(samples, 1), torch.cat(answers, 1)
    own = of_class(classes if shared else torch.cat(of, 1), logits)  # (B, 1 or n, K)
    at_once = batching.batches(images, max(1, round(tempering.near * n))).blocks[0]
    weights = own.to(logits.dtype)
    margin = (logits * weights).sum(2) - logits.masked_fill(own, -torch.inf).amax(2)  # (B, n)
    tiny = torch.finfo(margin.dtype).tiny
    temperature = (tempering.temperature * margin.std(1)).clamp_min(tiny).view(-1, 1, 1)
    count = max(1, round(tempering.near * z.shape[1]))
    near = margin.abs().topk(count, 1, largest=False).indices
    rows = near.view(*near.shape, *[1] * (z.ndim - 2)).expand(-1, -1, *z.shape[2:])
    weights = weights.expand_as(logits).gather(
        1, near.unsqueeze(2).expand(-1, -1, logits.shape[2])
    )
    gradients = []
    for part, wanted in zip(
        x.gather(1, rows).split(at_once, 1), weights.split(at_once, 1), strict=True
    ):
        leaf = part.requires_grad_()
        softened = logits_of(model, leaf) / temperature
        gradients.append(input_gradient(softened, wanted, leaf)[1].flatten(2))
    p = (margin > 0).to(margin.dtype).mean(1)
    return Slopes(p, margin.shape[1], z.gather(1, rows).flatten(2), torch.cat(gradients, 1))


def pairs(
    noise: Noise, images: Tensor, n: int, streams: Streams, key: tuple[Stage, int, int]
) -> tuple[Tensor, Tensor]:
    """z and -z, S z and -S z, (B, n, *event) each; pairs halve what is drawn and coloured."""
    z = streams.normal(*key, max(1, n // 2), images)
    eps = noise.colour(z)
    return torch.cat([z, -z], 1), torch.cat([eps, -eps], 1)


def curvature(
    seen: Slopes, scale: Tensor, past: Curvature, memory: float, probes: Tensor
) -> Curvature:
    """Adds samples to the running means.

    By Stein's lemma E[grad^2 F(x + S z)] S = E[grad F(x + S z) z^T]. W and G are never formed: the
    basis is the range of G as far as it shows in products with random vectors.

    Args:
        seen: Samples.
        scale: S, (B, d, d).
        past: What was seen before, in the frame that the scale has moved to.
        memory: Weight of the past.
        probes: (B, k, d), standard normal and independent of the samples.

    References:
        Halko, Martinsson, Tropp 2011, Finding structure with randomness, algorithm 4.1.
    """
    share = (1 - memory) / seen.n
    white = seen.gradients @ scale  # (B, m, d) @ (B, d, d)
    old = past.basis @ (past.gradients @ (past.basis.mT @ probes.mT))  # (B, d, k)
    new = white.mT @ (white @ probes.mT)
    basis = orthonormal(memory * old + share * new)
    turn = past.basis.mT @ basis  # (B, k, k)
    along = white @ basis  # (B, m, k)
    hessian = memory * (turn.mT @ past.hessian @ turn) + share * (along.mT @ (seen.z @ basis))
    gradients = memory * (turn.mT @ past.gradients @ turn) + share * (along.mT @ along)
    return Curvature(basis, sym(hessian), sym(gradients))

"""Class counts and mean probabilities of a network under noise, by Monte Carlo."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rddrs_dist.noise import Noise
from rddrs_dist.smoothing.launch import Launches
from rddrs_dist.smoothing.seeds import Stage, Streams

# Below this a gradient of the softmax is zero; times any weight it is far from subnormal.
_SATURATED = 1e-20


def _accumulate(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    n: int,
    streams: Streams,
    key: tuple[Stage, int],
    score: Callable[[Tensor], Tensor],
) -> Tensor:
    """Sum of score(logits) over the n samples of a (stage, step), (B, K)."""
    launches = Launches.of(images, n)
    sums, finite = [], torch.tensor(True, device=images.device)
    for rows in launches.groups(len(images)):
        total = 0
        for block, size in enumerate(launches.blocks):
            z = streams[rows].normal(*key, block, size, images[rows])
            samples = images[rows].unsqueeze(1) + noise[rows].colour(z)
            logits = model(samples.flatten(0, 1)).unflatten(0, (-1, size))  # (B, n, K)
            finite = finite & torch.isfinite(logits).all()
            total = total + score(logits).sum(1)
        sums.append(total)
    if not bool(finite):
        raise ValueError("the network returned NaN or infinite logits; check its weights")
    return torch.cat(sums)


def input_gradient(logits: Tensor, weights: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax F, and the gradient in the samples of sum_k weights_k F_k.

    Where the softmax is saturated its gradient is so small that a CPU would compute with
    subnormal numbers, three times as slowly; there it is taken as exactly zero.

    Args:
        logits: (..., K), made from the samples with gradients on.
        weights: Broadcasts to (..., K).
        samples: What to differentiate in.

    Returns:
        F, (..., K), and the gradient, of the shape of the samples.
    """
    p = logits.detach().softmax(-1)
    cotangent = p * (weights - (p * weights).sum(-1, keepdim=True))
    cotangent = torch.where(cotangent.abs() < _SATURATED, 0.0, cotangent)
    (gradient,) = torch.autograd.grad(logits, samples, cotangent)
    return p, gradient


@torch.no_grad()
def class_counts(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    n: int,
    streams: Streams,
    stage: Stage,
) -> Tensor:
    """How often each class is the network's answer at x + S z.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        noise: Noise of each image.
        n: Samples per image.
        streams: Random streams of the images.
        stage: What the samples are for.

    Returns:
        (B, K) int64; rows add up to n.

    Raises:
        ValueError: If a logit is not finite.
    """

    def one_hot(logits: Tensor) -> Tensor:
        return nn.functional.one_hot(logits.argmax(-1), logits.shape[-1])

    return _accumulate(model, images, noise, n, streams, (stage, 0), one_hot)


@torch.no_grad()
def soft_probabilities(
    model: nn.Module, images: Tensor, noise: Noise, n: int, streams: Streams, step: int
) -> Tensor:
    """Mean softmax at x + S z over n samples of the fit stream.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        noise: Noise of each image.
        n: Samples per image.
        streams: Random streams of the images.
        step: Step whose samples are drawn.

    Returns:
        (B, K).
    """
    key = (Stage.FIT, step)
    return _accumulate(model, images, noise, n, streams, key, lambda f: f.softmax(-1)) / n

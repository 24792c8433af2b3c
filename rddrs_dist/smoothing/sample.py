"""Class counts and mean probabilities of a network under noise, by Monte Carlo."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from rddrs_dist.noise import Noise
from rddrs_dist.smoothing.batching import UNBOUNDED, Batching
from rddrs_dist.smoothing.seeds import Stage, Streams

# Below this a gradient of the softmax is zero; times any weight it is far from subnormal.
_SATURATED = 1e-20


def _accumulate(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    multiples: Sequence[float],
    n: int,
    streams: Streams,
    key: tuple[Stage, int],
    score: Callable[[Tensor], Tensor],
    batching: Batching,
) -> Tensor:
    """Sums of score(logits) over the n samples of a (stage, step), (M, B, K)."""
    batches = batching.batches(images, n)
    sums = []
    for rows in batches.groups(len(images)):
        some, centres = noise[rows], images[rows].unsqueeze(1)
        totals: list[Tensor] = []
        for block, size in enumerate(batches.blocks):
            eps = some.colour(streams[rows].normal(*key, block, size, images[rows]))
            samples = (torch.add(centres, eps, alpha=multiple) for multiple in multiples)
            totals.append(torch.stack([score(logits_of(model, own)).sum(1) for own in samples]))
        sums.append(torch.stack(totals).sum(0))
    return torch.cat(sums, 1)


def input_gradient(logits: Tensor, weights: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """The softmax F, and the gradient in the samples of sum_k weights_k F_k.

    Where the softmax is saturated its gradient is so small that a CPU would compute with
    subnormal numbers, three times as slowly; there it is taken as exactly zero.

    Args:
        logits: (..., K), made from the samples with gradients on.
        weights: Broadcasts to (..., K).
        samples: What to differentiate in; its shape is that of the gradient.
    """
    p = logits.detach().softmax(-1)
    cotangent = p * (weights - (p * weights).sum(-1, keepdim=True))
    cotangent = torch.where(cotangent.abs() < _SATURATED, 0.0, cotangent)
    (gradient,) = torch.autograd.grad(logits, samples, cotangent)
    return p, gradient


def class_counts(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    n: int,
    streams: Streams,
    stage: Stage,
    step: int = 0,
    batching: Batching = UNBOUNDED,
) -> Tensor:
    """How often each class is the network's answer at x + S z.

    Args:
        model: Maps (N, *event) to logits (N, K).
        images: (B, *event).
        noise: Noise of each image.
        n: Samples per image.
        streams: Random streams of the images.
        stage: What the samples are for.
        step: Step whose samples are drawn.
        batching: How many images share a launch.

    Returns:
        (B, K) int64; rows add up to n, less the samples that have a logit that is not finite. They
        count for no class: noise may be so wide that the network overflows.
    """
    drawn = n, streams, stage, step, batching
    return class_counts_of_multiples(model, images, noise, (1.0,), *drawn)[0]


@torch.no_grad()
def class_counts_of_multiples(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    multiples: Sequence[float],
    n: int,
    streams: Streams,
    stage: Stage,
    step: int = 0,
    batching: Batching = UNBOUNDED,
) -> Tensor:
    """As `class_counts`, at x + k S z for several k from the same z: (M, B, K) for M multiples."""
    key = (stage, step)
    return _accumulate(model, images, noise, multiples, n, streams, key, one_hot, batching)


@torch.no_grad()
def soft_probabilities(
    model: nn.Module,
    images: Tensor,
    noise: Noise,
    n: int,
    streams: Streams,
    step: int,
    batching: Batching = UNBOUNDED,
) -> Tensor:
    """Mean softmax at x + S z over n samples of the fit stream, (B, K); see `class_counts`.

    It is NaN where a logit is not finite.
    """
    key, one = (Stage.FIT, step), (1.0,)
    softmax = partial(torch.softmax, dim=-1)
    return _accumulate(model, images, noise, one, n, streams, key, softmax, batching)[0] / n


def logits_of(model: nn.Module, samples: Tensor) -> Tensor:
    """The network's logits (B, n, K) of samples (B, n, *event)."""
    return model(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])


def one_hot(logits: Tensor) -> Tensor:
    """The answer to each sample, (..., K) of 0 and 1; none where a logit is not finite."""
    chosen = of_class(logits.argmax(-1), logits)
    return (chosen & torch.isfinite(logits).all(-1, keepdim=True)).long()


def of_class(classes: Tensor, logits: Tensor) -> Tensor:
    """Which of the logits (..., K) are those of given classes (...), (..., K) bool."""
    # one_hot of torch looks at all its numbers before.
    return classes.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)

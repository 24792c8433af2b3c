"""The ascent of RDDRS-TR with open eyes: a class is held at its image and away from others."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from rddrs_dist.geometry.symmetric import eye
from rddrs_dist.methods.ascent import State, ascend, trailing
from rddrs_dist.methods.base import Context, Fit
from rddrs_dist.methods.region_size import ROUNDING, bounded, radius_below
from rddrs_dist.methods.trust_region import narrowed_to
from rddrs_dist.noise import FullNoise, IsotropicNoise, Noise
from rddrs_dist.noise.base import right_axes
from rddrs_dist.region import Floats, Integers, diameter
from rddrs_dist.sight import Others, fitted
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Curvature, Slopes, Tempering, curvature, slopes
from rddrs_dist.smoothing.sample import class_counts, class_counts_of_multiples

if TYPE_CHECKING:
    from rddrs_dist.methods.rddrs_tr import RDDRSTR

# Probabilities are told apart no further than this by the samples of a few steps.
_LEAST, _MOST = 0.01, 0.9999
# No certificate has a radius of so many times the target: 5.9 wants 10^9 samples.
_FARTHEST = 2.0
# Of the ball as comparison samples tell it, the best of several estimates.
_ENOUGH = 0.96
# Steps of the comparison stage; those of sight are two, of noise and of images.
_ROUND, _SIZE, _SIGHT, _SEEN = 2, 3, 4, 6


class Round(NamedTuple):
    """The isotropic noise of the largest certified ball, of B images."""

    classes: Tensor  # (B,)
    floor: Tensor  # (B,), with an axis of this length a region at the target radius holds its ball
    ball: Floats  # (B,), the l2 radius of that as comparison samples tell it
    others: Others | None  # training images of other labels than the classes, if there are any


class _Climb(NamedTuple):
    """The state of the ascent of B images."""

    scale: Tensor  # S, (B, d, d)
    p: Tensor  # (B,), running mean of the probability of the class at the image
    q: Tensor  # (B,), that of another answer at images of other labels
    basis: Tensor  # (B, d, k), see Curvature
    hessian: Tensor  # (B, k, k)
    gradients: Tensor  # (B, k, k)
    logdet: Tensor  # (B,), log |det S|


def sighted_fit(method: "RDDRSTR", model: nn.Module, images: Tensor, context: Context) -> Fit:
    """The fit of `RDDRSTR` to images (B, *event)."""
    start = round_start(method, model, images, context)
    one, d = torch.ones_like(start.floor), images[0].numel()
    blank = Curvature.blank(images, method.sighted_rank)
    fit = ascend(
        _Climb(
            start.floor.view(-1, 1, 1) * eye(d, images), one, one, *blank, d * start.floor.log()
        ),
        lambda state, step: _move(_Climb(*state), step, method, model, images, start, context),
        lambda state: FullNoise.unchecked(state[0], tuple(images.shape[1:])),
        context,
        steps=method.sighted_steps,
        every=method.sighted_steps,
    )[-1]
    scale = _sized(method, model, images, fit.noise.scale, start, context)
    at = np.full(len(images), method.sighted_radius)
    margin, known = method.neighbour_margin, context.neighbours
    cut, limits = bounded(scale, images, start.classes, known, at, margin, _FARTHEST)
    noise = FullNoise(cut, tuple(images.shape[1:])).lower()
    return replace(fit, noise=noise, limit=limits * (1 - ROUNDING))


def round_start(method: "RDDRSTR", model: nn.Module, images: Tensor, context: Context) -> Round:
    """Seeks the sigma of the largest certified ball, on a coarse ladder and then near its best.

    DDRS seeks the same by an ascent of 150,000 gradients. The class is the answer at the network's
    own sigma where that has the majority there, and otherwise the one of the largest ball. Of
    those near the best the one that sees is taken, or the one that sees most.
    """
    ladder, n = method.round_ladder, method.start_samples
    alpha, everyone = method.sized_alpha, np.arange(len(images))
    drawn = partial(class_counts_of_multiples, model, images, batching=context.batching)
    noise = IsotropicNoise.constant(context.sigma, images)
    counts = drawn(noise, ladder, n, context.streams, Stage.FIT)  # (M, B, K)
    share, answer = counts[ladder.index(1.0)].max(-1)
    every = [torch.full_like(answer, label) for label in range(counts.shape[-1])]
    balls = context.sigma * np.stack([
        [factor * radius_below(own, label, n, alpha) for label in every]
        for factor, own in zip(ladder, counts, strict=True)
    ])  # (M, K, B)  # fmt: skip
    likely = torch.from_numpy(balls.max(0).argmax(0)).to(answer.device)
    classes = torch.where(2 * share > n, answer, likely)
    others = others_of(classes, context)

    def best(sigmas: Floats, balls: Floats, n: int) -> tuple[Integers, NDArray[np.intp]]:
        """Where the largest ball of those that see is, or what sees most; of (M, B) each."""
        if others is not None:
            scales = torch.from_numpy(sigmas).to(images)
            blind = np.stack(
                [
                    _blindness(others, model, replace(noise, scale=own), n, _SEEN, context)
                    for own in scales
                ]
            )
            some = sees(method, blind).any(0)
            balls = np.where(some, np.where(sees(method, blind), balls, -1), -blind)
        return balls.argmax(0), everyone

    sigmas = context.sigma * np.repeat(np.array(ladder)[:, None], len(images), 1)
    near = sigmas[best(sigmas, balls[:, classes.cpu().numpy(), everyone], n)]
    noise = replace(noise, scale=torch.from_numpy(near).to(images))
    fine, n = method.round_multiples, method.compare_samples
    counts = drawn(noise, fine, n, context.streams, Stage.COMPARE, _ROUND)
    sigmas = np.array(fine)[:, None] * near
    balls = sigmas * [radius_below(own, classes, n, alpha) for own in counts]
    chosen = best(sigmas, balls, n // 2)
    sigma, ball = sigmas[chosen], balls[chosen]
    floor = np.where(ball > 0, method.floor * ball / method.sighted_radius, sigma)
    if others is not None:  # where sight is what keeps the ball small
        own = replace(noise, scale=torch.from_numpy(floor).to(images))
        sharp = sees(method, _blindness(others, model, own, n // 2, _SEEN, context))
        floor = np.where(sharp, floor, np.minimum(floor, sigma))
    return Round(classes, torch.from_numpy(floor).to(images), ball, others)


def others_of(classes: Tensor, context: Context) -> Others | None:
    """Training images of other labels than classes (B,); None where some class has none."""
    if context.neighbours is None:
        return None
    half = fitted(len(context.neighbours.labels))
    found = Others.of(context.neighbours, half, classes, context.streams)
    return found if all(map(len, found.places)) else None


def _blindness(
    others: Others, model: nn.Module, noise: Noise, n: int, step: int, context: Context
) -> Floats:
    """Share of n samples around others that answer the class, (B,), of a comparison step."""
    given = Stage.COMPARE, step, context.batching, others.images[:1]
    return others.blind(model, noise, n, *given).double().cpu().numpy() / n


def slopes_at(
    others: Others, model: nn.Module, noise: Noise, n: int, tempering: Tempering, step: int,
    context: Context,
) -> Slopes:  # fmt: skip
    """Slopes of the event that the answer at others is not the class."""
    around = others.images[others.chosen(Stage.FIT, step + 1, max(1, n // 2))]
    classes = others.classes.unsqueeze(1).expand(-1, around.shape[1])
    drawn = context.streams, step, context.batching
    seen = slopes(model, around, noise, classes, n, tempering, *drawn)
    return seen._replace(p=1 - seen.p, gradients=-seen.gradients)


def _move(
    state: _Climb, step: int, method: "RDDRSTR", model: nn.Module, images: Tensor,
    start: Round, context: Context,
) -> tuple[State, Tensor]:  # fmt: skip
    """The state after one step, and the mean logarithm of the axes before it, (B,)."""
    n, steps, decay = method.samples, method.sighted_steps, method.decay
    noise = FullNoise.unchecked(state.scale, tuple(images.shape[1:]))
    # Samples far from the boundary have their say: near probability 1 they are nearly all.
    tempering = Tempering(method.sighted_temperature, 1.0)
    own = slopes(
        model, images.unsqueeze(1), noise, start.classes.unsqueeze(1), n, tempering,
        context.streams, step, context.batching,
    )  # fmt: skip
    p, q, both = decay * state.p + (1 - decay) * own.p, state.q, own
    excess = _quantile(p) - float(ndtri(method.growth_target))
    if start.others is not None:
        number = 2 * (steps + step)
        seen = slopes_at(start.others, model, noise, n, tempering, number, context)
        q = decay * q + (1 - decay) * seen.p
        other = _quantile(q) - float(ndtri(1 - method.aimed_share * method.blindness))
        # The condition that is nearer to being broken has more of a say.
        share = 2 * torch.sigmoid(method.priority * (other - excess)).view(-1, 1, 1)
        z = torch.cat([share * own.z, (2 - share) * seen.z], 1)
        both = Slopes(own.p, own.n, z, torch.cat([own.gradients, seen.gradients], 1))
        excess = torch.minimum(excess, other)
    k, past = state.basis.shape[-1], Curvature(*state[3:6])
    draw = Stage.FIT, 4 * steps + 2 + step, 0, k, images
    found = curvature(both, state.scale, past, decay, context.streams.normal(*draw).flatten(2))
    # Shorter steps towards the end, which even out what the noise of single steps has moved.
    pace = 1 - method.settling * step / steps
    shrinkage, damping = pace * method.shrinkage, method.sighted_damping
    scale, lost = narrowed_to(state.scale, found, damping, shrinkage, start.floor)
    rate = pace * (2 * method.growth * excess).clamp(0, method.growth)
    scale = trailing(rate.exp(), scale) * scale
    logdet = state.logdet + lost + noise.dimension * rate
    if step % method.floor_every == 0 or step == steps:
        ((scale, logdet),) = kept_between(scale, (1.0,), start.floor, _cap(method, images))
    return _Climb(scale, p, q, *found, logdet), state.logdet / noise.dimension


def sees(method: "RDDRSTR", blind: Floats) -> NDArray[np.bool_]:
    """Whether shares of blind samples are as small as the fit aims at."""
    return blind <= method.aimed_share * method.blindness


def _quantile(p: Tensor) -> Tensor:
    """Phi^-1 of probabilities that samples have told."""
    return torch.special.ndtri(p.clamp(_LEAST, _MOST))


def _cap(method: "RDDRSTR", images: Tensor) -> float:
    """The axis whose semi-axis is the diameter of the pixel domain at the target radius."""
    return diameter(images[0].numel()) / method.sighted_radius


def kept_between(
    scale: Tensor, multiples: Sequence[float], floor: Tensor, cap: float
) -> list[tuple[Tensor, Tensor]]:
    """Multiples k S f(S^T S) of S (B, d, d), all axes of each between a floor (B,) and a cap.

    Each with its log det, (B,). Directions stay as they are. In float64: many axes are equal, and
    solvers of single precision fail then.
    """
    wide = scale.double()
    axes, frame = right_axes(wide)
    turned, least = wide @ (frame / axes.unsqueeze(-2)), trailing(floor.double(), axes)
    kept = [torch.maximum(k * axes, least).clamp(max=cap) for k in multiples]
    scales = [(turned * own.unsqueeze(-2)) @ frame.mT for own in kept]
    return [
        (one.to(scale.dtype), own.log().sum(-1).to(scale.dtype))
        for one, own in zip(scales, kept, strict=True)
    ]


def _sized(
    method: "RDDRSTR", model: nn.Module, images: Tensor, scale: Tensor, start: Round,
    context: Context,
) -> Tensor:  # fmt: skip
    """The multiple of S, above the floor, of the largest proxy radius, or the floor itself.

    It has to see, and its region to hold the largest certified ball, as comparison samples tell.
    """
    n, d, alpha = method.compare_samples, images[0].numel(), method.sized_alpha
    streams, shape = (context.streams, Stage.COMPARE, _SIZE, context.batching), images.shape[1:]
    axis, wanted = start.floor.double().cpu().numpy(), _ENOUGH * start.ball
    best, largest = trailing(start.floor, scale) * eye(d, scale), np.zeros(len(images))
    # The multiple 0 is the floor itself, whose own ball may be all that there is.
    multiples = (0.0, *method.sized_multiples)
    kept = kept_between(scale, multiples, start.floor, _cap(method, images))
    for k, (own, logdet) in zip(multiples, kept, strict=True):
        noise = FullNoise.unchecked(own, tuple(shape))
        held = radius_below(
            class_counts(model, images, noise, n, *streams), start.classes, n, alpha
        )
        if k == 0:
            wanted = np.minimum(wanted, _ENOUGH * axis * held)
        fits = axis * held >= wanted
        if start.others is not None:
            blind = _blindness(start.others, model, noise, n, _SIGHT, context)
            fits &= sees(method, blind)
        size = fits * held * np.exp(logdet.double().cpu().numpy() / d)
        better = torch.from_numpy(size > largest).to(own.device)
        best = torch.where(trailing(better, own), own, best)
        largest = np.maximum(size, largest)
    return best

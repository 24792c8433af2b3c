"""Fits several methods to the same images, and DDRS once where any of them starts from it."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor, nn

from rddrs_dist.methods.base import Context, Fit, Method
from rddrs_dist.methods.ddrs import DDRS


def fit_all(
    methods: Sequence[Method],
    model: nn.Module,
    images: Tensor,
    context: Context,
    *,
    start: Method | None = None,
    seconds: float = math.inf,
) -> Iterator[tuple[Method, Fit]]:
    """Fits several methods to the same images.

    Args:
        methods: What to fit.
        model: See `Method.fit`.
        images: (B, *event).
        context: sigma and streams; sigma_star is added here.
        start: DDRS, as the start of those that want it; by default the one among `methods`, or
            that of the published setting.
        seconds: Per image and method, after which a fit returns what it has.

    Yields:
        (method, fit): DDRS first, where it is one of the methods or another one starts from it,
        then the others in the order given; each is fitted when it is asked for.
    """
    own = [method for method in methods if method.name == DDRS.name]
    others = [method for method in methods if method.name != DDRS.name]

    def fitted(method: Method) -> Fit:
        deadline = time.monotonic() + seconds * len(images)
        return method.fit(model, images, replace(context, deadline=deadline))

    if own or any(method.from_sigma_star for method in others):
        first = own[0] if own else start or DDRS()
        fit = fitted(first)
        context = replace(context, sigma_star=fit.noise)
        yield first, fit
    for method in others:
        yield method, fitted(method)

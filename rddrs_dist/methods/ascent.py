"""The loop that iterative methods share: deadlines, non-finite steps and snapshots."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rddrs_dist.methods.base import Context, Fit, Status
from rddrs_dist.noise import Noise

State = tuple[Tensor, ...]


def ascend(
    start: State,
    move: Callable[[State, int], tuple[State, Tensor]],
    noise: Callable[[State], Noise],
    context: Context,
    *,
    steps: int,
    every: int,
    converged: Callable[[State], Tensor] | None = None,
) -> list[Fit]:
    """Moves B images uphill together; each ends on its own.

    An image whose step is not finite keeps its last finite state and moves no more; all stop at
    the deadline.

    Args:
        start: Tensors with a leading axis of B images.
        move: From a state and the number of the step (from 1) to the next state and the objective
            (B,) of the one it was given.
        noise: The noise of a state.
        context: Carries the deadline.
        steps: Steps to take.
        every: A snapshot is taken after every so many steps, and after the last one.
        converged: Says of a state which images (B,) have nothing more to gain.

    Returns:
        The snapshots, the last one last.
    """
    state, count = start, len(start[0])
    status, taken = [Status.MAX_STEPS] * count, np.zeros(count, dtype=np.int64)
    objective = torch.full((count,), torch.nan, dtype=torch.float64, device=start[0].device)
    snapshots = []
    for step in range(1, steps + 1):
        if context.late:
            status = _end(status, [True] * count, Status.DEADLINE)
        running = [s is Status.MAX_STEPS for s in status]
        if not any(running):
            break
        proposal, value = move(state, step)
        good = _finite((*proposal, value))
        live = good & torch.tensor(running, device=good.device)
        state = tuple(_where(live, new, old) for new, old in zip(proposal, state, strict=True))
        objective = torch.where(live, value.detach().double(), objective)
        taken = taken + live.cpu().numpy()
        status = _end(status, (~good).tolist(), Status.NONFINITE)
        if converged is not None:
            status = _end(status, converged(state).tolist(), Status.CONVERGED)
        if step % every == 0 and step < steps:
            snapshots.append(Fit(noise(state), status, taken, objective.cpu().numpy()))
    return [*snapshots, Fit(noise(state), status, taken, objective.cpu().numpy())]


def trailing(values: Tensor, other: Tensor) -> Tensor:
    """(B,) with as many trailing axes of length 1 as `other` (B, ...) has."""
    return values.view(-1, *[1] * (other.ndim - 1))


def _where(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new rows where marked, (B, ...)."""
    return torch.where(trailing(which, new), new.detach(), old)


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Which images have only finite numbers in all tensors, (B,): those whose sums are finite."""
    sums = [tensor.reshape(len(tensor), -1).sum(1).double() for tensor in tensors]
    return torch.stack(sums).isfinite().all(0)


def _end(status: Sequence[Status], which: Sequence[bool], ending: Status) -> list[Status]:
    """Ends the fits that are marked and still run."""
    return [
        ending if marked and old is Status.MAX_STEPS else old
        for old, marked in zip(status, which, strict=True)
    ]

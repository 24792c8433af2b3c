"""The loop that iterative methods share: deadlines, non-finite steps and snapshots."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rddrs_dist.methods.base import Context, Fit, Status
from rddrs_dist.noise import Noise

State = tuple[Tensor, ...]

_STATUSES = tuple(Status)
# An ascent that is cut off after its last step has run until then.
_RUNNING = _STATUSES.index(Status.MAX_STEPS)
# A host that would have to wait for its device looks only after so many steps whether all images
# have ended. Those that have do not move, so that it changes nothing but time.
_POLL = 5


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
    state = start
    status = torch.full((len(start[0]),), _RUNNING, device=start[0].device)
    taken = torch.zeros_like(status)
    objective = torch.full_like(status, torch.nan, dtype=torch.float64)

    def ended(which: Tensor, ending: Status) -> Tensor:
        code = _STATUSES.index(ending)
        return torch.where((status == _RUNNING) & which, code, status)

    def snapshot() -> Fit:
        return replace(
            Fit.of(noise(state)),
            status=[_STATUSES[code] for code in status.tolist()],
            steps=taken.cpu().numpy(),
            objective=objective.cpu().numpy(),
        )

    snapshots = []
    for step in range(1, steps + 1):
        if context.late:
            status = ended(torch.ones_like(status, dtype=torch.bool), Status.DEADLINE)
        if (asks(status) or step % _POLL == 1) and not bool((status == _RUNNING).any()):
            break
        proposal, value = move(state, step)
        good = _finite((*proposal, value))
        live = good & (status == _RUNNING)
        state = tuple(
            torch.where(trailing(live, new), new.detach(), old)
            for new, old in zip(proposal, state, strict=True)
        )
        objective = torch.where(live, value.detach().double(), objective)
        taken = taken + live
        status = ended(~good, Status.NONFINITE)
        if converged is not None:
            status = ended(converged(state), Status.CONVERGED)
        if step % every == 0 and step < steps:
            snapshots.append(snapshot())
    return [*snapshots, snapshot()]


def asks(tensor: Tensor) -> bool:
    """Whether the host may ask for a value within a loop: an answer from a GPU would stall it."""
    return tensor.device.type == "cpu"


def trailing(values: Tensor, other: Tensor) -> Tensor:
    """(B,) with as many trailing axes of length 1 as `other` (B, ...) has."""
    return values.view(-1, *[1] * (other.ndim - 1))


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Which images have only finite numbers in all tensors, (B,): those whose sums are finite."""
    sums = [tensor.reshape(len(tensor), -1).sum(1).double() for tensor in tensors]
    return torch.stack(sums).isfinite().all(0)

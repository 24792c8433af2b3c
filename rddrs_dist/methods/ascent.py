"""The loop that iterative methods share: deadlines, non-finite steps and snapshots."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
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
    device = start[0].device
    at = _Ascent(
        start,
        torch.full((len(start[0]),), _RUNNING, device=device),
        torch.zeros(len(start[0]), dtype=torch.int64, device=device),
        torch.full((len(start[0]),), torch.nan, dtype=torch.float64, device=device),
    )
    snapshots = []
    for step in range(1, steps + 1):
        if context.late:
            at = at.ended(torch.ones_like(at.status, dtype=torch.bool), Status.DEADLINE)
        if (asks(at.status) or step % _POLL == 1) and not bool(at.running.any()):
            break
        at = at.moved(*move(at.state, step))
        if converged is not None:
            at = at.ended(converged(at.state), Status.CONVERGED)
        if step % every == 0 and step < steps:
            snapshots.append(at.fit(noise))
    return [*snapshots, at.fit(noise)]


def asks(tensor: Tensor) -> bool:
    """Whether the host may ask for a value within a loop: an answer from a GPU would stall it."""
    return tensor.device.type == "cpu"


class _Ascent(NamedTuple):
    """Where B images are; all of it on their device.

    Attributes:
        state: See `ascend`.
        status: (B,) int64, positions in `_STATUSES`.
        taken: (B,) int64, steps taken.
        objective: (B,) float64, at the last of them.
    """

    state: State
    status: Tensor
    taken: Tensor
    objective: Tensor

    @property
    def running(self) -> Tensor:
        """Which images go on, (B,)."""
        return self.status == _RUNNING

    def moved(self, proposal: State, value: Tensor) -> Self:
        """After a step: running images take it if it is finite and end if it is not."""
        good = _finite((*proposal, value))
        live = good & self.running
        own = self._replace(
            state=tuple(
                torch.where(trailing(live, new), new.detach(), old)
                for new, old in zip(proposal, self.state, strict=True)
            ),
            objective=torch.where(live, value.detach().double(), self.objective),
            taken=self.taken + live,
        )
        return own.ended(~good, Status.NONFINITE)

    def ended(self, which: Tensor, ending: Status) -> Self:
        """With the images (B,) that are marked, and still run, at their end."""
        code = _STATUSES.index(ending)
        return self._replace(status=torch.where(self.running & which, code, self.status))

    def fit(self, noise: Callable[[State], Noise]) -> Fit:
        """What a caller may know of it."""
        status = [_STATUSES[code] for code in self.status.tolist()]
        taken, objective = self.taken.cpu().numpy(), self.objective.cpu().numpy()
        return Fit(noise(self.state), status, taken, objective, np.full(len(status), np.inf))


def trailing(values: Tensor, other: Tensor) -> Tensor:
    """(B,) with as many trailing axes of length 1 as `other` (B, ...) has."""
    return values.view(-1, *[1] * (other.ndim - 1))


def _finite(tensors: Sequence[Tensor]) -> Tensor:
    """Which images have only finite numbers in all tensors, (B,): those whose sums are finite."""
    sums = [tensor.reshape(len(tensor), -1).sum(1).double() for tensor in tensors]
    return torch.stack(sums).isfinite().all(0)

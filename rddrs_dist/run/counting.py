"""The work of a method, counted while it runs; and methods cut down so that they run shortly."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rddrs_dist.methods import DDRS, RDDRS, Ancer, Method
from rddrs_dist.run.costs import Cost

# Decompositions of a d x d matrix in units of one symmetric eigendecomposition, as seen on CPUs.
_FACTORS = {
    "_linalg_eigh": 1.0,
    "linalg_qr": 0.2,
    "_linalg_slogdet": 0.1,
    "_linalg_solve_ex": 0.1,
}
_SVD = "_linalg_svd"
# Where the two factors of a matrix product stand among an operation's arguments.
_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "addmm": 1, "baddbmm": 1}


class Counter(TorchDispatchMode):
    """Counts the work of what runs inside it, as a context.

    The network's own products, forward and backward, are samples and nothing else.

    Attributes:
        amounts: What was counted so far, by the names of a cost's fields.
    """

    def __init__(self, model: nn.Module, dimension: int) -> None:
        """Prepares to count.

        Args:
            model: The network; its calls are counted by their samples.
            dimension: d, elements of an image.
        """
        super().__init__()
        self.amounts = asdict(Cost())
        self._model, self._dimension, self._inside = model, dimension, False

    @property
    def cost(self) -> Cost:
        """What was counted so far."""
        return Cost(**self.amounts)

    def __enter__(self) -> Self:
        self._hooks = (
            self._model.register_forward_pre_hook(self._enter_network),
            self._model.register_forward_hook(self._leave_network, always_call=True),
        )
        return super().__enter__()

    def __exit__(self, *problem: Any) -> None:
        super().__exit__(*problem)
        for hook in self._hooks:
            hook.remove()

    def _enter_network(self, _model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._inside = True
        differentiated = torch.is_grad_enabled() and inputs[0].requires_grad
        kind = "both" if differentiated else "forward"
        self.amounts[kind] += len(inputs[0])
        self.amounts[f"{kind}_calls"] += 1
        self.amounts["elements"] += inputs[0].numel()

    def _leave_network(self, _model: nn.Module, _inputs: object, _output: object) -> None:
        self._inside = False

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # The number of a backward pass in progress, as torch.utils.module_tracker asks for it:
        # here only networks are differentiated.
        if not self._inside and torch._C._current_graph_task_id() == -1:
            self._count(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))

    def _count(self, name: str, args: tuple[Any, ...]) -> None:
        """Adds one operation, if it is one of those that count."""
        if name in _PRODUCTS:
            left, right = args[_PRODUCTS[name] :][:2]
            sizes = (left.shape[-2], left.shape[-1], right.shape[-1] if right.ndim > 1 else 1)
            kind = "squares" if sizes == (self._dimension,) * 3 else "products"
            kind += "64" * (left.dtype == torch.float64)
            batch = left.shape[0] if left.ndim == 3 else 1
            self.amounts[kind] += 2 * batch * math.prod(sizes)
        elif name in _FACTORS or name == _SVD:
            *batch, m, n = args[0].shape
            kind = "singular" if name == _SVD else "factors"
            amount = math.prod(batch) * m * n * min(m, n)
            self.amounts[kind] += _FACTORS.get(name, 1.0) * amount


@dataclass(frozen=True)
class Short:
    """A method cut down, and what makes the whole of it.

    Attributes:
        method: A few steps of a single candidate.
        factor: How often these make all the steps.
        compared: Samples that go forward besides, to compare the candidates.
    """

    method: Method
    factor: float
    compared: int


def shortened(method: Method, samples: int) -> Short:
    """Cuts the published methods down to about so many gradient samples, RDDRS to one step.

    Their steps cost the same, all of them. The others are left whole.

    Args:
        method: As it would be run.
        samples: Gradient samples per image that are affordable.
    """
    match method:
        case DDRS():
            steps = _affordable(method.steps, samples / method.samples)
            short = replace(method, steps=steps, candidate_every=steps)
            candidates = -(-method.steps // method.candidate_every)
        case Ancer():
            steps = _affordable(method.steps, samples / method.samples)
            short = replace(method, steps=steps, learning_rates=method.learning_rates[:1])
            candidates = len(method.learning_rates)
            method = replace(method, steps=candidates * method.steps)
        case RDDRS():
            short = replace(method, steps=1, step_lengths=method.step_lengths[:1])
            candidates = len(method.step_lengths)
            method = replace(method, steps=candidates * method.steps)
        case _:
            return Short(method, 1.0, 0)
    compared = candidates * method.compare_samples if candidates > 1 else 0
    return Short(short, method.steps / short.steps, compared)


def _affordable(steps: int, wanted: float) -> int:
    """As many steps as are wanted, at least one and at most all."""
    return min(steps, max(1, round(wanted)))

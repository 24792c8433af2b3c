"""Prints the shared memory of the kernels, compiled for a Hopper GPU; none is needed for it.

Beside Triton's interpreter, which changes its language, nothing compiles: a process of its own.
"""

import json
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rddrs_dist.cuda import pooled
from rddrs_dist.smoothing.precision import multiplying
from tests.cuda.test_pooled import SHAPES, example

HOPPER = GPUTarget("cuda", 90, 32)


class Launch:
    """Stands in for a kernel and keeps what it would be launched with."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.given, self.options = kernel, {}, {}

    def __getitem__(self, grid: object) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            self.given = dict(zip(self.kernel.arg_names, args, strict=True))
            self.options = options

        return launch

    def shared(self) -> int:
        """Bytes of a block's shared memory that the compiled kernel takes."""
        constants = {
            one.name: self.given[one.name] for one in self.kernel.params if one.is_constexpr
        }
        signature = {
            name: "constexpr" if name in constants else _kind(value)
            for name, value in self.given.items()
        }
        source = ASTSource(self.kernel, signature, constants)
        return triton.compile(source, target=HOPPER, options=self.options).metadata.shared


def _kind(value: Any) -> str:
    """Triton's name for the type of an argument."""
    if isinstance(value, torch.Tensor):
        return {torch.float32: "*fp32", torch.int8: "*i8"}[value.dtype]
    return "i32"


def main() -> None:
    """One list per shape, precision and direction."""
    launches = [Launch(pooled._forward_kernel), Launch(pooled._backward_kernel)]
    pooled._forward_kernel, pooled._backward_kernel = launches
    found = []
    for shape in (SHAPES[0], SHAPES[1], SHAPES[3]):
        for precision in ("float32", "tf32"):
            images, weight, bias, slope = example(shape, "cpu")
            leaf = images.requires_grad_()
            with multiplying(precision, torch.device("cuda")):
                made = pooled.pooled_convolution(leaf, pooled.Filters.of(weight, bias, shape[3]))
                torch.autograd.grad(made, leaf, slope)
            found += [(str(shape), precision, launch.shared()) for launch in launches]
    print(json.dumps(found))


if __name__ == "__main__":
    main()

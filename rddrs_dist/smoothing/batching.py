"""How many images and samples go through the network at once.

The block of samples drawn together is a function of the image size and the kind of device alone:
what is drawn, and so every result, must not depend on how many images share a launch. That number
follows from the memory there is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Elements of network input per launch. On a CPU a launch whose activations stay in the cache is
# about 1.5 times as fast as one of a thousand MNIST images; a GPU wants tens of thousands of
# samples.
_LAUNCH = {"cpu": 100_000, "cuda": 1 << 25}
_BLOCK = {"cpu": 1024, "cuda": 2048}
_SMALLEST = 16
# Beside what the network keeps of it, a sample has its noise, its gradient and copies of both.
_COPIES = 6
# What backward passes and libraries take beyond what is kept, as a share of that.
_SURPLUS = 2.0


@dataclass(frozen=True)
class Batching:
    """How many images may share a launch, by the memory that there is.

    Half of the memory is for samples, half for the state of images. Results do not depend on it.

    Attributes:
        memory: Bytes that a launch may take; infinite where there is no bound.
        per_element: Bytes that a launch takes per element of network input.
    """

    memory: float = math.inf
    per_element: float = 1.0

    @classmethod
    def within(cls, memory: float, model: nn.Module, images: Tensor) -> "Batching":
        """For a network and images (B, *event) like those that it will see, on its device.

        Args:
            memory: Bytes.
            model: Maps (N, *event) to logits.
            images: At least one.

        Raises:
            ValueError: If not even the samples that have to be drawn together fit.
        """
        d = images[0].numel()
        per_element = _SURPLUS * kept_bytes(model, images) / d + _COPIES * images.element_size()
        least = per_element * d * _launch(images)[1]
        if memory / 2 < least:
            raise ValueError(
                f"launches of this network want at least {2 * least / 2**30:.2f} GiB, got "
                f"{memory / 2**30:.2f}: raise --memory, or take a smaller network"
            )
        return cls(memory, per_element)

    def batches(self, images: Tensor, n: int, state: int = 0) -> "Batches":
        """The partition for images (B, *event), n samples of each and a state of so many bytes."""
        rows, most = _launch(images)
        block = min(n, most)
        full, rest = divmod(n, block)
        together = rows // block
        if math.isfinite(self.memory):
            held = self.memory / 2 / (self.per_element * images[0].numel())
            together = min(together, int(held) // block)
            if state:
                together = min(together, int(self.memory / 2 / state))
        return Batches(max(1, together), (block,) * full + (rest,) * (rest > 0))


UNBOUNDED = Batching()


def kept_bytes(model: nn.Module, images: Tensor) -> float:
    """Bytes that the network keeps of one sample to go backward, on a device of any kind."""
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    totals = []
    for count in (1, 3):
        # By storage: one activation may be kept by two operations. Held until all are counted, so
        # that no storage is used twice.
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor, kept: dict[int, Tensor] = kept) -> Tensor:
            if id(tensor) not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            model(images[:1].expand(count, *images.shape[1:]).clone().requires_grad_())
        totals.append(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))
    return (totals[1] - totals[0]) / 2  # what does not grow with the samples cancels


@dataclass(frozen=True)
class Batches:
    """A partition of B images times n samples."""

    images: int  # that share a launch
    blocks: tuple[int, ...]  # samples per image in each successive launch; they add up to n

    def groups(self, count: int) -> Iterator[slice]:
        """The images 0..count in groups that share launches."""
        return (slice(i, min(i + self.images, count)) for i in range(0, count, self.images))


def _launch(images: Tensor) -> tuple[int, int]:
    """Samples per launch that are best for speed, and of one image together at most."""
    kind = "cpu" if images.device.type == "cpu" else "cuda"
    rows = max(_SMALLEST, _LAUNCH[kind] // images[0].numel())
    return rows, min(rows, _BLOCK[kind])

"""How many images and samples go through the network at once.

The block of samples drawn together is a function of the image size and the kind of device alone:
what is drawn, and so every result, must not depend on how many images share a launch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

# Elements of network input per launch. On a CPU a launch whose activations stay in the cache is
# about 1.5 times as fast as one of a thousand MNIST images; a GPU wants tens of thousands of
# samples.
_LAUNCH = {"cpu": 100_000, "cuda": 1 << 25}
_BLOCK = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Launches:
    """A partition of B images times n samples.

    Attributes:
        images: Images that share a launch.
        blocks: Samples per image in each successive launch; they add up to n.
    """

    images: int
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, images: Tensor, n: int) -> "Launches":
        """The partition for images (B, *event) and n samples of each."""
        kind = "cpu" if images.device.type == "cpu" else "cuda"
        rows = max(16, _LAUNCH[kind] // images[0].numel())
        block = min(n, rows, _BLOCK[kind])
        full, rest = divmod(n, block)
        return cls(max(1, rows // block), (block,) * full + (rest,) * (rest > 0))

    def groups(self, count: int) -> Iterator[slice]:
        """The images 0..count in groups that share launches."""
        return (slice(i, min(i + self.images, count)) for i in range(0, count, self.images))

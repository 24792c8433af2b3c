"""What the MNIST benchmarks share: a network, test images and the training set."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from rddrs_dist import Context, Neighbours, Streams, checkpoints, data


@dataclass(frozen=True)
class Source:
    """Where the network and the images come from.

    Attributes:
        checkpoint: Network trained on MNIST.
        data_root: Folder of the data.
        sigma: Standard deviation of the noise the network was trained with.
        indices: Test images.
        threads: CPU threads.
    """

    checkpoint: Path
    data_root: Path = Path("data")
    sigma: float = 0.25
    indices: tuple[int, ...] = (0, 4, 100, 200)
    threads: int = 1


@dataclass(frozen=True)
class Mnist:
    """A source, loaded.

    Attributes:
        source: Where from.
        model: Network, channels last.
        images: (B, 1, 28, 28), the test images.
        labels: Label of each.
        reference: The training set.
    """

    source: Source
    model: nn.Module = field(repr=False)
    images: Tensor = field(repr=False)
    labels: tuple[int, ...]
    reference: Neighbours = field(repr=False)

    @classmethod
    def load(cls, source: Source) -> "Mnist":
        """Reads everything and sets the number of threads."""
        torch.set_num_threads(source.threads)
        model = checkpoints.load(source.checkpoint).model.to(memory_format=torch.channels_last)
        test = data.load("mnist", "test", source.data_root)
        train = data.load("mnist", "train", source.data_root)
        chosen = list(source.indices)
        reference = Neighbours(torch.from_numpy(train.images), torch.from_numpy(train.labels))
        labels = tuple(test.labels[chosen].tolist())
        return cls(source, model, torch.from_numpy(test.images[chosen]), labels, reference)

    def context(self, row: int) -> Context:
        """The context of one image."""
        streams = Streams.of(0, [self.source.indices[row]])
        return Context(self.source.sigma, streams, neighbours=self.neighbours)

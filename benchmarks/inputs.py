"""What benchmarks read: a network with images of MNIST, or the folder of a run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rddrs_dist import ABSTAIN, METHODS, Context, Neighbours, Region, Streams, checkpoints, data
from rddrs_dist.results import read
from rddrs_dist.results.scales import Scales


def network(checkpoint: Path) -> nn.Module:
    """A trained network, channels last, as workers hold it."""
    return checkpoints.load(checkpoint).model.to(memory_format=torch.channels_last)


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
        neighbours: The training set.
    """

    source: Source
    model: nn.Module = field(repr=False)
    images: Tensor = field(repr=False)
    labels: tuple[int, ...]
    neighbours: Neighbours = field(repr=False)

    @classmethod
    def load(cls, source: Source) -> "Mnist":
        """Reads everything and sets the number of threads."""
        torch.set_num_threads(source.threads)
        test, train = (data.load("mnist", one, source.data_root) for one in ("test", "train"))
        chosen = list(source.indices)
        neighbours = Neighbours(torch.from_numpy(train.images), torch.from_numpy(train.labels))
        images, labels = torch.from_numpy(test.images[chosen]), test.labels[chosen].tolist()
        return cls(source, network(source.checkpoint), images, tuple(labels), neighbours)

    def context(self, row: int) -> Context:
        """The context of one image."""
        streams = Streams.of(0, [self.source.indices[row]])
        return Context(self.source.sigma, streams, neighbours=self.neighbours)


@dataclass(frozen=True)
class Folder:
    """A run to be certified or attacked again.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        checkpoint: The network of that run.
        data_root: Folder of the data.
        images: Images of each method; by default all.
        threads: CPU threads.
    """

    dir: Path
    checkpoint: Path
    data_root: Path = Path("data")
    images: int | None = None
    threads: int = 1


class Stored:
    """The rows and scales of a folder, the network and the test images."""

    def __init__(self, folder: Folder) -> None:
        """Reads everything and sets the number of threads."""
        torch.set_num_threads(folder.threads)
        self.folder, self.frame, self.scales = folder, read(folder.dir), Scales(folder.dir)
        self.dataset = self.frame.attrs["dataset"]
        self.test = data.load(self.dataset, "test", folder.data_root)
        self.model = network(folder.checkpoint)

    @property
    def methods(self) -> list[str]:
        """Methods of the run."""
        return [name for name in METHODS if name in set(self.frame["method"])]

    def regions(
        self, method: str, *, abstentions: bool
    ) -> Iterator[tuple[dict[str, Any], Region]]:
        """The rows of a method, with or without abstentions, each with its region, one by one."""
        rows = self.frame.loc[self.frame["method"] == method]
        rows = rows if abstentions else rows.loc[rows["prediction"] != ABSTAIN]
        for row in rows.iloc[: self.folder.images].to_dict("records"):
            image = torch.from_numpy(self.test.images[row["index"]][None])
            noise = self.scales.noise(method, [row["index"]], self.test.event_shape)
            radius, label = np.array([row["radius"]]), np.array([row["prediction"]])
            yield row, Region(image, noise, radius, label)

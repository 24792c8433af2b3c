"""What benchmarks read: a network with images of MNIST, or the folder of a run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
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
    """Where the network and the images come from."""

    checkpoint: Path  # network trained on MNIST
    data_root: Path = Path("data")  # folder of the data
    sigma: float = 0.25  # standard deviation of the noise the network was trained with
    indices: tuple[int, ...] = (0, 4, 100, 200)  # test images
    threads: int = 1  # CPU threads


class Case(NamedTuple):
    """A test image (1, 1, 28, 28), its label, and the context of its fits."""

    label: int
    image: Tensor
    context: Context


class Mnist:
    """A source, loaded: the network, the training set and the test images one by one."""

    def __init__(self, source: Source) -> None:
        """Reads everything and sets the number of threads."""
        torch.set_num_threads(source.threads)
        test, train = (data.load("mnist", one, source.data_root) for one in ("test", "train"))
        self.model = network(source.checkpoint)
        self.neighbours = Neighbours(
            torch.from_numpy(train.images), torch.from_numpy(train.labels)
        )
        self.cases: list[Case] = []
        for index in source.indices:
            image = torch.from_numpy(test.images[index][None])
            streams = Streams.of(0, [index])
            context = Context(source.sigma, streams, neighbours=self.neighbours)
            self.cases.append(Case(int(test.labels[index]), image, context))


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A run whose regions are looked at again."""

    dir: Path  # folder written by `rddrs certify --save-scales`
    data_root: Path = Path("data")  # folder of the data
    images: int | None = None  # images of each method; by default all
    threads: int = 1  # CPU threads

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All rows."""
        return read(self.dir)

    @cached_property
    def test(self) -> data.ImageSet:
        """The test images."""
        return data.load(self.frame.attrs["dataset"], "test", self.data_root)

    @cached_property
    def scales(self) -> Scales:
        """The stored scales."""
        return Scales(self.dir)

    def known(self) -> list[str]:
        """Methods of the run."""
        return [name for name in METHODS if name in set(self.frame["method"])]

    def rows(self, method: str, *, abstentions: bool = False) -> pd.DataFrame:
        """The first rows of a method, with or without abstentions."""
        own = self.frame.loc[self.frame["method"] == method]
        own = own if abstentions else own.loc[own["prediction"] != ABSTAIN]
        return own.iloc[: self.images]

    def region(self, rows: pd.DataFrame) -> Region:
        """The regions of some rows of one method."""
        indices = rows["index"].tolist()
        return Region(
            torch.from_numpy(self.test.images[indices]),
            self.scales.noise(rows["method"].iloc[0], indices, self.test.event_shape),
            rows["radius"].to_numpy(np.float64, copy=True),
            rows["prediction"].to_numpy(np.int64, copy=True),
        )

"""Attacks on certified regions: points inside them at which the smoothed class might change.

The classifier under attack is the one that the certificate speaks of, smoothed with the noise of
that image. In each region are tried: the border along its narrowest axes, both ways; the border
toward the nearest training images of other classes; the end of a projected gradient descent on
the probability of the class, with expectation over the noise. A change is confirmed where fresh
samples put the probability of the certified class below 1/2 at level 1e-6.

    rddrs certify paper-mnist --save-scales --out runs/attacked ...
    python benchmarks/attack.py --dir runs/attacked --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from torch import Tensor, linalg, nn

from rddrs_dist import FullNoise, Noise, Streams, checkpoints, data
from rddrs_dist.analysis.curves import in_order
from rddrs_dist.results import read
from rddrs_dist.results.columns import ABSTAIN
from rddrs_dist.results.scales import Scales
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, input_gradient
from rddrs_dist.stats import clopper_pearson_lower

# Just inside the border, so that rounding takes no point out of the region.
_INSIDE = 1 - 1e-6
_LEVEL = 1e-6


@dataclass(frozen=True)
class Attack:
    """What is attacked, and how hard.

    Attributes:
        dir: Folder written by `rddrs certify --save-scales`.
        checkpoint: The network of that run.
        data_root: Folder of the data.
        methods: Methods whose regions are attacked; by default all of the run.
        axes: Narrowest axes tried in each region, each both ways.
        neighbours: Nearest training images of other classes tried.
        restarts: Gradient descents per region, one from the centre, others from the border.
        steps: Steps of each.
        gradient_samples: Samples per step.
        n: Samples that look for a change at each point; a change is confirmed with 20 times more.
        images: Regions per method that are attacked; by default all.
        threads: CPU threads.
    """

    dir: Path
    checkpoint: Path
    data_root: Path = Path("data")
    methods: tuple[str, ...] = ()
    axes: int = 4
    neighbours: int = 4
    restarts: int = 2
    steps: int = 20
    gradient_samples: int = 100
    n: int = 500
    images: int | None = None
    threads: int = 1


@dataclass
class Tally:
    """What came of one method.

    Attributes:
        points: Points tried, by kind.
        weakest: Smallest share of the certified class at a point, by kind.
        changes: Confirmed changes.
        regions: Regions attacked.
    """

    points: dict[str, int] = field(default_factory=dict)
    weakest: dict[str, float] = field(default_factory=dict)
    changes: int = 0
    regions: int = 0


@dataclass(frozen=True, eq=False)
class Region:
    """A region under attack.

    Attributes:
        model: Network.
        image: x, (1, *event).
        noise: S of it.
        label: Class it was certified for.
        radius: r.
        index: Of the image.
    """

    model: nn.Module
    image: Tensor
    noise: Noise
    label: int
    radius: float
    index: int

    def at(self, directions: Tensor) -> Tensor:
        """Points x + S u with |u| just below r, for directions u (k, *event)."""
        flat = directions.flatten(1)
        u = flat / flat.norm(dim=1, keepdim=True) * self.radius * _INSIDE
        return self.image + self.noise.colour(u.view_as(directions).unsqueeze(0))[0]

    def share(self, point: Tensor, n: int, seed: int) -> int:
        """How many of n samples around a point have the certified class."""
        streams = Streams.of(seed, [self.index])
        counts = class_counts(self.model, point[None], self.noise, n, streams, Stage.ESTIMATE)
        return int(counts[0, self.label])


def along_axes(region: Region, options: Attack) -> Tensor:
    """Both ends of the narrowest axes, as points (k, *event)."""
    d, shape = region.noise.dimension, region.image.shape[1:]
    if isinstance(region.noise, FullNoise):
        whitened = linalg.svd(region.noise.scale[0].double()).Vh[-options.axes :].float()
    else:
        order = region.noise.variances()[0].argsort()[: options.axes]
        whitened = torch.eye(d)[order]
    return region.at(torch.cat([whitened, -whitened]).view(-1, *shape))


def toward_others(region: Region, training: data.ImageSet, options: Attack) -> Tensor:
    """Border points on the way to the nearest training images of other classes."""
    images = torch.from_numpy(training.images[training.labels != region.label])
    distances = (images - region.image).flatten(1).norm(dim=1)
    nearest = images[distances.argsort()[: options.neighbours]] - region.image
    found = []
    for delta in nearest:
        reach = float(region.noise.mahalanobis(delta[None])[0])
        found.append(region.image[0] + delta * min(1.0, region.radius / reach * _INSIDE))
    return torch.stack(found)


def descended(region: Region, options: Attack) -> Tensor:
    """Ends of gradient descents on the soft p of the certified class, by steps of a fifth of r."""
    generator = torch.Generator().manual_seed(region.index)
    shape = region.image.shape[1:]
    found = []
    for restart in range(options.restarts):
        u = torch.zeros(region.noise.dimension)
        if restart:
            u = nn.functional.normalize(torch.randn(len(u), generator=generator), dim=0)
            u = u * region.radius / 2
        for _ in range(options.steps):
            z = torch.randn(1, options.gradient_samples, *shape, generator=generator)
            offset = region.noise.colour(u.view(1, 1, *shape))[0]
            samples = (region.image + offset + region.noise.colour(z)[0]).requires_grad_()
            logits = region.model(samples)
            chosen = torch.eye(logits.shape[1])[region.label]
            _, gradient = input_gradient(logits / spread(logits, chosen), chosen, samples)
            slope = region.noise.adjoint(gradient.sum(0)[None, None]).flatten()
            u = u - region.radius / 5 * nn.functional.normalize(slope, dim=0)
            u = u * min(1.0, region.radius * _INSIDE / max(float(u.norm()), 1e-30))
        found.append(region.image[0] + region.noise.colour(u.view(1, 1, *shape))[0, 0])
    return torch.stack(found)


def spread(logits: Tensor, chosen: Tensor) -> float:
    """A temperature at which the softmax of logits (n, K) has a gradient at most samples.

    Under wide noise the network's own is saturated, and an attack on it follows a few samples.
    """
    others = logits.detach().masked_fill(chosen > 0, -torch.inf)
    margin = (logits.detach() * chosen).sum(1) - others.amax(1)
    return 0.6 * max(float(margin.std()), 1e-30)


def attack(region: Region, training: data.ImageSet, options: Attack, tally: Tally) -> None:
    """Tries all points of a region."""
    tally.regions += 1
    kinds = {
        "axes": along_axes(region, options),
        "neighbours": toward_others(region, training, options),
        "descent": descended(region, options),
    }
    for kind, points in kinds.items():
        for point in points:
            count = region.share(point, options.n, seed=1)
            tally.points[kind] = tally.points.get(kind, 0) + 1
            share = count / options.n
            tally.weakest[kind] = min(tally.weakest.get(kind, 1.0), share)
            if share < 0.6:
                more = 20 * options.n
                other = more - region.share(point, more, seed=2)
                tally.changes += bool(clopper_pearson_lower(other, more, _LEVEL) > 0.5)


def regions(
    frame: pd.DataFrame, method: str, images: data.ImageSet, model: nn.Module, options: Attack
) -> list[Region]:
    """The certified regions of a method."""
    stored = Scales(options.dir)
    own = frame.loc[(frame["method"] == method) & (frame["prediction"] != ABSTAIN)]
    return [
        Region(
            model,
            torch.from_numpy(images.images[row["index"]][None]),
            stored.noise(method, [row["index"]], images.event_shape),
            row["prediction"],
            row["radius"],
            row["index"],
        )
        for row in own.iloc[: options.images].to_dict("records")
    ]


def main(options: Attack) -> None:
    """Prints a line per method."""
    torch.set_num_threads(options.threads)
    frame = read(options.dir)
    images, training = (
        data.load(frame.attrs["dataset"], split, options.data_root) for split in ("test", "train")
    )
    model = checkpoints.load(options.checkpoint).model.to(memory_format=torch.channels_last)
    print("| method | regions | points | smallest share: axes | neighbours | descent | changes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for method in options.methods or in_order(set(frame["method"])):
        tally = Tally()
        for region in regions(frame, method, images, model, options):
            attack(region, training, options, tally)
        shares = " | ".join(
            f"{np.floor(1000 * tally.weakest[kind]) / 1000:.3f}" for kind in tally.weakest
        )
        points = sum(tally.points.values())
        print(
            f"| {method} | {tally.regions} | {points} | {shares} | {tally.changes} |", flush=True
        )


if __name__ == "__main__":
    main(tyro.cli(Attack, description=__doc__))

"""Attacks on certified regions: points inside them at which the smoothed class might change.

The classifier under attack is the one that the certificate speaks of, smoothed with the noise of
that image. In each region are tried: the border along its narrowest axes, both ways; the border
toward the nearest training images of other classes; the end of a projected gradient descent on
the probability of the class, with expectation over the noise. A change is confirmed where fresh
samples put the probability of the certified class below 1/2 at level 1e-6.

    rddrs certify paper-mnist --save-scales --out runs/attacked ...
    python benchmarks/attack.py --dir runs/attacked --checkpoint LeNet5_0.25.pth --data-root data
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import tyro
from inputs import Folder, Stored
from torch import Tensor, linalg, nn

from rddrs_dist import Region, Streams, data
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, input_gradient
from rddrs_dist.stats import clopper_pearson_lower

# Just inside the border, so that rounding takes no point out of the region.
_INSIDE = 1 - 1e-6
_LEVEL = 1e-6
_SUSPICIOUS = 0.6  # a share of the class below which more samples are drawn


@dataclass(frozen=True)
class Attack(Folder):
    """What is attacked, and how hard.

    Attributes:
        methods: Methods whose regions are attacked; by default all of the run.
        axes: Narrowest axes tried in each region, each both ways.
        neighbours: Nearest training images of other classes tried.
        restarts: Gradient descents per region, one from the centre, others from the border.
        steps: Steps of each.
        gradient_samples: Samples per step.
        n: Samples that look for a change at each point; a change is confirmed with 20 times more.
    """

    methods: tuple[str, ...] = ()
    axes: int = 4
    neighbours: int = 4
    restarts: int = 2
    steps: int = 20
    gradient_samples: int = 100
    n: int = 500


class Tried(NamedTuple):
    """A point that was tried.

    Attributes:
        kind: axes, neighbours or descent.
        share: Of the certified class in samples around it.
        changed: Whether another class is confirmed to win there.
    """

    kind: str
    share: float
    changed: bool


@dataclass(frozen=True, eq=False)
class Target:
    """A region under attack.

    Attributes:
        model: Network.
        region: Of one image.
        index: Of the image.
    """

    model: nn.Module
    region: Region
    index: int

    @property
    def label(self) -> int:
        """The class it was certified for."""
        return int(self.region.prediction[0])

    @property
    def reach(self) -> float:
        """|u| of the points x + S u just inside the border."""
        return float(self.region.radius[0]) * _INSIDE

    def at(self, u: Tensor) -> Tensor:
        """Points x + S u, (k, *event), of vectors u (k, d)."""
        shape = self.region.centre.shape[1:]
        return self.region.centre + self.region.noise.colour(u.view(1, -1, *shape))[0]

    def share(self, point: Tensor, n: int, seed: int) -> int:
        """How many of n samples around a point have the certified class."""
        streams, noise = Streams.of(seed, [self.index]), self.region.noise
        counts = class_counts(self.model, point[None], noise, n, streams, Stage.ESTIMATE)
        return int(counts[0, self.label])


def along_axes(target: Target, options: Attack) -> Tensor:
    """Both ends of the narrowest axes, as points (k, *event)."""
    noise = target.region.noise
    if noise.is_diagonal:
        order = noise.variances()[0].argsort()[: options.axes]
        whitened = torch.eye(noise.dimension)[order]
    else:
        whitened = linalg.svd(noise.matrix()[0]).Vh[-options.axes :].float()
    return target.at(target.reach * torch.cat([whitened, -whitened]))


def toward_others(target: Target, training: data.ImageSet, options: Attack) -> Tensor:
    """Border points on the way to the nearest training images of other classes."""
    region, centre = target.region, target.region.centre
    images = torch.from_numpy(training.images[training.labels != target.label])
    distances = (images - centre).flatten(1).norm(dim=1)
    nearest = images[distances.argsort()[: options.neighbours]]
    shares = [min(1.0, target.reach / region.distance(one[None])[0]) for one in nearest]
    return centre + centre.new_tensor(shares).view(-1, 1, 1, 1) * (nearest - centre)


def descended(target: Target, options: Attack) -> Tensor:
    """Ends of gradient descents on the soft p of the certified class, by steps of a fifth of r."""
    generator = torch.Generator().manual_seed(target.index)
    region, noise = target.region, target.region.noise
    shape, radius = region.centre.shape[1:], float(region.radius[0])
    found = []
    for restart in range(options.restarts):
        u = torch.zeros(noise.dimension)
        if restart:
            u = nn.functional.normalize(torch.randn(len(u), generator=generator), dim=0)
            u = u * radius / 2
        for _ in range(options.steps):
            z = torch.randn(1, options.gradient_samples, *shape, generator=generator)
            samples = (target.at(u) + noise.colour(z)[0]).requires_grad_()
            logits = target.model(samples)
            chosen = torch.eye(logits.shape[1])[target.label]
            _, gradient = input_gradient(logits / spread(logits, chosen), chosen, samples)
            slope = noise.adjoint(gradient.sum(0)[None, None]).flatten()
            u = u - radius / 5 * nn.functional.normalize(slope, dim=0)
            u = u * min(1.0, target.reach / max(float(u.norm()), 1e-30))
        found.append(target.at(u))
    return torch.cat(found)


def spread(logits: Tensor, chosen: Tensor) -> float:
    """A temperature at which the softmax of logits (n, K) has a gradient at most samples.

    Under wide noise the network's own is saturated, and an attack on it follows a few samples.
    """
    others = logits.detach().masked_fill(chosen > 0, -torch.inf)
    margin = (logits.detach() * chosen).sum(1) - others.amax(1)
    return 0.6 * max(float(margin.std()), 1e-30)


def attack(target: Target, training: data.ImageSet, options: Attack) -> Iterator[Tried]:
    """Tries all points of a region."""
    kinds = {
        "axes": along_axes(target, options),
        "neighbours": toward_others(target, training, options),
        "descent": descended(target, options),
    }
    for kind, points in kinds.items():
        for point in points:
            share, changed = target.share(point, options.n, seed=1) / options.n, False
            if share < _SUSPICIOUS:
                more = 20 * options.n
                other = more - target.share(point, more, seed=2)
                changed = bool(clopper_pearson_lower(other, more, _LEVEL) > 0.5)
            yield Tried(kind, share, changed)


def main(options: Attack) -> None:
    """Prints a line per method."""
    stored = Stored(options)
    training = data.load(stored.dataset, "train", options.data_root)
    print("| method | regions | points | smallest share: axes | neighbours | descent | changes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for method in options.methods or stored.methods:
        targets = [
            Target(stored.model, region, int(row["index"]))
            for row, region in stored.regions(method, abstentions=False)
        ]
        found = [one for target in targets for one in attack(target, training, options)]
        weakest = " | ".join(
            f"{np.floor(1000 * min(one.share for one in found if one.kind == kind)) / 1000:.3f}"
            for kind in dict.fromkeys(one.kind for one in found)
        )
        changes = sum(one.changed for one in found)
        print(f"| {method} | {len(targets)} | {len(found)} | {weakest} | {changes} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Attack, description=__doc__))

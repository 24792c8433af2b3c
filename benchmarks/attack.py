"""Attacks on certified regions: points inside them at which the smoothed class might change.

The classifier under attack is the one that the certificate speaks of, smoothed with the noise of
that image. In each region are tried: the border along its narrowest axes, both ways; the border
toward the nearest training images of other classes; the end of a projected gradient descent on
the probability of the class, with expectation over the noise. A change is confirmed where fresh
samples put the probability of the certified class below 1/2 at level 1e-6.

    rddrs certify paper-mnist --save-scales --out runs/attacked ...
    python benchmarks/attack.py --dir runs/attacked --checkpoint LeNet5_0.25.pth --data-root data
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from inputs import Folder, network
from torch import Tensor, linalg, nn

from rddrs_dist import Region, Streams, data
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.sample import class_counts, input_gradient
from rddrs_dist.stats import clopper_pearson_lower

# Just inside the border, so that rounding takes no point out of the region.
_INSIDE = 1 - 1e-6
_LEVEL = 1e-6
_SUSPICIOUS = 0.6  # a share of the class below which more samples are drawn


@dataclass(frozen=True, kw_only=True)
class Attack(Folder):
    """What is attacked, and how hard."""

    checkpoint: Path  # the network of that run
    methods: tuple[str, ...] = ()  # methods whose regions are attacked; by default all of the run
    axes: int = 4  # narrowest axes tried in each region, each both ways
    neighbours: int = 4  # nearest training images of other classes tried
    restarts: int = 2  # gradient descents per region, one from the centre, others from the border
    steps: int = 20  # steps of each
    gradient_samples: int = 100  # samples per step
    n: int = 500  # samples that look for a change at each point; 20 times more confirm it


class Target:
    """The region of one image under attack."""

    def __init__(self, model: nn.Module, region: Region, index: int) -> None:
        self.model, self.region, self.index = model, region, index
        self.label, self.noise = int(region.prediction[0]), region.noise
        self.reach = float(region.radius[0]) * _INSIDE  # |u| of x + S u just inside the border

    def at(self, u: Tensor) -> Tensor:
        """Points x + S u, (k, *event), of vectors u (k, d)."""
        shape = self.region.centre.shape[1:]
        return self.region.centre + self.noise.colour(u.view(1, -1, *shape))[0]

    def share(self, point: Tensor, n: int, seed: int) -> int:
        """How many of n samples around a point have the certified class."""
        streams = Streams.of(seed, [self.index])
        counts = class_counts(self.model, point[None], self.noise, n, streams, Stage.ESTIMATE)
        return int(counts[0, self.label])

    def tried(self, point: Tensor, n: int) -> tuple[float, bool]:
        """Share of the class in samples around a point; whether another is confirmed to win."""
        share, more = self.share(point, n, seed=1) / n, 20 * n
        if share >= _SUSPICIOUS:
            return share, False
        other = more - self.share(point, more, seed=2)
        return share, bool(clopper_pearson_lower(other, more, _LEVEL) > 0.5)


def along_axes(target: Target, options: Attack) -> Tensor:
    """Both ends of the narrowest axes, as points (k, *event)."""
    noise = target.noise
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
    noise, radius = target.noise, float(target.region.radius[0])
    shape, found = target.region.centre.shape[1:], []
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
    """A temperature at which logits (n, K) are not saturated: their own follows a few samples."""
    others = logits.detach().masked_fill(chosen > 0, -torch.inf)
    margin = (logits.detach() * chosen).sum(1) - others.amax(1)
    return 0.6 * max(float(margin.std()), 1e-30)


def main(options: Attack) -> None:
    """Prints a line per method."""
    torch.set_num_threads(options.threads)
    model = network(options.checkpoint)
    training = data.load(options.frame.attrs["dataset"], "train", options.data_root)
    print("| method | regions | points | smallest share: axes | neighbours | descent | changes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for method in options.methods or options.known():
        rows = options.rows(method)
        shares: list[list[float]] = [[], [], []]
        changes = 0
        for k in range(len(rows)):
            target = Target(model, options.region(rows.iloc[[k]]), int(rows["index"].iloc[k]))
            every = (
                along_axes(target, options),
                toward_others(target, training, options),
                descended(target, options),
            )
            for own, points in zip(shares, every, strict=True):
                for point in points:
                    share, changed = target.tried(point, options.n)
                    own.append(share)
                    changes += changed
        weakest = " | ".join(f"{floor_to(min(own, default=1.0), 3):.3f}" for own in shares)
        tried = sum(map(len, shares))
        print(f"| {method} | {len(rows)} | {tried} | {weakest} | {changes} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Attack, description=__doc__))

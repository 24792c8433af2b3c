"""Networks, noises and results whose regions overlap, and exact answers about regions."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rddrs_dist import Budget, Method, SmoothedClassifier, data
from rddrs_dist.disjoint.memory import Entry
from rddrs_dist.methods import Fit
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, Noise, pack
from rddrs_dist.region import ABSTAIN, Region
from rddrs_dist.results.store import Store
from rddrs_dist.smoothing import Stage
from tests.oracles import contact_factor
from tests.results.rows import row

BUDGET = Budget(n0=50, n=2000)
RADIUS = 0.17
KINDS = ("isotropic", "diagonal", "full")
# The kind of noise of each method of the results that `certify` makes up.
METHODS = {"rs": "isotropic", "ancer": "diagonal", "rddrs_tr": "full"}
INDICES = list(range(0, 240, 20))
_COPIED = ("radius", "prediction", "l2_radius", "proxy_radius", "min_axis", "mean_axis")


def noise_of(kind: str, z: Tensor, event_shape: tuple[int, ...], size: float) -> Noise:
    """Noise of very different sizes and shapes, from d + 1 times d normal numbers."""
    d, flat = int(np.prod(event_shape)), z.flatten()
    size = size * float((0.7 * flat[-1]).exp())
    if kind == "isotropic":
        return IsotropicNoise(size * (0.5 * flat[:1]).exp(), event_shape)
    axes = size * (0.5 * flat[:d]).exp()
    if kind == "diagonal":
        return DiagonalNoise(axes.view(1, *event_shape), event_shape)
    frame = torch.linalg.qr(flat[d : d + d * d].view(d, d)).Q
    return FullNoise((frame * axes)[None], event_shape).lower()


@dataclass(frozen=True)
class Wild(Method):
    """Noise drawn at random, so that regions overlap as seldom found by a fit."""

    name: ClassVar[str] = "wild"
    kind: str = "full"
    size: float = 0.5

    def _samples(self) -> int:
        return 1

    def _fit(self, model, images, context) -> Fit:
        d = images[0].numel()
        z = context.streams.normal(Stage.FIT, 0, 0, d + 1, images)
        return Fit.of(noise_of(self.kind, z, tuple(images.shape[1:]), self.size))


class Islands(nn.Module):
    """A sea of class 0 with islands of classes 1 and 2, which wide noise does not see."""

    def __init__(self, d: int, seed: int = 0, islands: int = 48) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("centres", 3 * torch.rand(islands, d, generator=generator))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        inside = RADIUS * self.centres.shape[1] ** 0.5 - torch.cdist(
            images.flatten(1), self.centres
        )
        land = inside.unflatten(1, (-1, 2)).amax(1) * 40
        return torch.cat([torch.zeros(len(land), 1), land], 1)


def images_of(count: int, d: int, seed: int = 1) -> Tensor:
    """On the islands of `Islands(d)`, at their shores and beside them."""
    generator = torch.Generator().manual_seed(seed)
    away = torch.randn(count, d, generator=generator) * RADIUS
    return (Islands(d).centres[torch.arange(count) % 48] + away).view(count, 1, 1, d)


def classifier(d: int = 4, kind: str = "full", **given) -> SmoothedClassifier:
    """An empty memory in front of islands."""
    size = given.pop("size", 0.1)
    facts = {"sigma": 0.2, "seed": 3, "event_shape": (1, 1, d), "budget": BUDGET} | given
    return SmoothedClassifier(Islands(d), Wild(kind, size), **facts)


def filled(d: int = 4, kind: str = "full", queries: int = 96) -> SmoothedClassifier:
    own = classifier(d, kind)
    own.predict_many(images_of(queries, d))
    return own


def region(centre: Tensor, prediction: int, radius: float, noise: Noise) -> Region:
    """The region of one image."""
    return Region(centre, noise, np.array([radius]), np.array([prediction]))


def shape(own: Region, row: int = 0) -> np.ndarray:
    """r^2 S S^T of one image, (d, d) float64."""
    return own.radius[row] ** 2 * own.noise[[row]].covariance()[0].numpy()


def point(own: Region, row: int = 0) -> Tensor:
    """x of one image, (d,) float64."""
    return own.centre[row].flatten().double()


def factor(one: Region, other: Region, i: int = 0, j: int = 0) -> float:
    """The exact contact factor of region i of one and region j of the other."""
    return contact_factor(
        shape(one, i), shape(other, j), (point(other, j) - point(one, i)).numpy()
    )


def exact(entry: Entry, point: Tensor) -> float:
    """||S^-1 (x' - x)|| of a well-conditioned entry."""
    delta = (point.flatten().double() - entry.point).numpy()
    return float(np.linalg.norm(np.linalg.solve(entry.region.noise.matrix()[0].numpy(), delta)))


def same(first, second) -> bool:
    """Whether two lists of answers agree bit for bit."""

    def key(a):
        count = None if a.certificate is None else a.certificate.count.tolist()
        return a.prediction, a.source, a.query, a.entry, a.radius, count

    return [key(a) for a in first] == [key(a) for a in second]


def certify(folder: Path, *, save_scales: bool = True) -> Path:
    """Writes rows, and perhaps scales, of twelve digits, of which one is an abstention."""
    images = data.load("digits", "test")
    config = {"dataset": "digits", "data_sha256": images.sha256}
    radius = np.where(np.array(INDICES) == 40, 0.0, np.linspace(2, 3, len(INDICES)))
    prediction = np.where(radius > 0, images.labels[INDICES], ABSTAIN)
    rows, scales = [], {}
    for method, kind in METHODS.items():
        z = [torch.randn(65, 64, generator=torch.Generator().manual_seed(k)) for k in INDICES]
        parts = [noise_of(kind, one, (1, 8, 8), 0.5) for one in z]
        noise = type(parts[0]).concatenate(parts)
        region = Region(torch.from_numpy(images.images[INDICES]), noise, radius, prediction)
        for k, (index, packed) in enumerate(zip(INDICES, pack(noise), strict=True)):
            cells = {name: getattr(region, name)[k].item() for name in _COPIED}
            scales[method, index] = packed
            rows.append(row(index, method, **cells, scale_sha256=packed.sha256))
            rows[-1]["correct"] = index % 60 == 0
    with Store.open(folder, run_id="made-up", config=config, metadata={}) as store:
        store.write(0, rows, scales if save_scales else None)
    return folder

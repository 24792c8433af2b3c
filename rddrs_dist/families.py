"""Families of changed images, and how far along them certified regions hold.

A family has a parameter t, and an image for each t and each way, a sign or a direction of t; at
t = 0 it is the image itself. Images are changed as torchvision changes tensors, in float64: what
moves pixels interpolates bilinearly, and black comes in from outside. Nothing is clipped to
[0, 1], so that brightness and contrast are straight lines.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rddrs_dist.noise import Noise
from rddrs_dist.noise.base import Inverse
from rddrs_dist.region import Floats

_EPS = torch.finfo(torch.float64).eps
# Units of eps by which a position of an image of one pixel, or a grey value, may be off.
_PIXEL = 16
_BLOCK = 16  # steps that are looked at in one go: most regions end within some
# Shares that are taken off a computed end until it is proven to be inside; 1 is known to be.
_TAKEN = torch.logspace(-13, 0, 14, dtype=torch.float64)


@dataclass(frozen=True)
class Family:
    """A family of changed images.

    Attributes:
        name: What a table calls it.
        unit: Of t.
        limit: Largest t.
        steps: Equal steps from 0 to the limit at which regions are asked.
        change: From images (B, C, H, W) and t to the changed images of each way.
        straight: Whether each way is straight between its steps, so that all t are known.
    """

    name: str
    unit: str
    limit: float
    steps: int
    change: Callable[[Tensor, float], Sequence[Tensor]]
    straight: bool = False

    def at(self, step: int) -> float:
        """t of a step."""
        return self.limit * step / self.steps

    def variants(self, images: Tensor, at: Sequence[float]) -> Tensor:
        """The changed images, (B, ways, len(at), C, H, W) float64.

        Args:
            images: (B, C, H, W).
            at: Values of t, above 0.

        Raises:
            ValueError: If images have another shape, or a t is not above 0 and within the limit.
        """
        if images.ndim != 4:
            raise ValueError(f"images must be (B, C, H, W), got {tuple(images.shape)}")
        if outside := [t for t in at if not 0 < t <= self.limit]:
            raise ValueError(
                f"{self.name} must be above 0 and at most {self.limit:g} {self.unit}, got "
                f"{outside[0]:g}"
            )
        changed = [torch.stack([*self.change(images.double(), t)], 1) for t in at]
        return torch.stack(changed, 2)


def _affine(
    images: Tensor, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0
) -> Tensor:
    """Images rotated about their centre, shifted and scaled."""
    # Imported here: torchvision takes its time, and most commands do not need it.
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    bilinear = InterpolationMode.BILINEAR
    return transforms.affine(images, angle, [*shift], scale, [0.0, 0.0], interpolation=bilinear)


def _rotated(images: Tensor, t: float) -> list[Tensor]:
    return [_affine(images, angle=way) for way in (t, -t)]


def _shifted(images: Tensor, t: float) -> list[Tensor]:
    return [_affine(images, shift=way) for way in ((t, 0.0), (-t, 0.0), (0.0, t), (0.0, -t))]


def _scaled(images: Tensor, t: float) -> list[Tensor]:
    return [_affine(images, scale=1 + way / 100) for way in (t, -t)]


def _brightened(images: Tensor, t: float) -> list[Tensor]:
    return [images + t, images - t]


def _contrasted(images: Tensor, t: float) -> list[Tensor]:
    away = images - images.mean((1, 2, 3), keepdim=True)
    return [images + t / 100 * away, images - t / 100 * away]


def _blurred(images: Tensor, t: float) -> list[Tensor]:
    from torchvision.transforms.v2 import functional as transforms

    # One width for all t: a kernel that grew with t would jump.
    size = [2 * min(_BLUR_REACH, side - 1) + 1 for side in (images.shape[3], images.shape[2])]
    return [transforms.gaussian_blur(images, size, [t, t])]


_BLUR_LIMIT = 2.0
_BLUR_REACH = math.ceil(3 * _BLUR_LIMIT)  # pixels

FAMILIES = (
    Family("rotation", "degrees", 45.0, 450, _rotated),
    # Left, right, up and down: bilinear interpolation is linear between whole pixels.
    Family("shift", "pixels", 4.0, 4, _shifted, straight=True),
    Family("scaling", "%", 50.0, 500, _scaled),
    Family("brightness", "pixel values", 1.0, 1, _brightened, straight=True),
    # Around the mean of all pixels and channels of the image.
    Family("contrast", "%", 100.0, 1, _contrasted, straight=True),
    Family("blur", "pixels", _BLUR_LIMIT, 100, _blurred),
)


def inside(
    noise: Noise, radius: Floats, images: Tensor, families: Sequence[Family] = FAMILIES
) -> Floats:
    """The t up to which changed images stay inside regions, (len(families), B) float64.

    It is the largest t with ||S^-1 (x_t' - x)|| < r for all t' <= t, in the worst of the ways, and
    rounded downward: where a family is straight for all t' that there are, else for those of its
    steps. No larger t than the limit is looked at. A region that is left and entered again ends
    where it is left. Rounding of float64, of the images too, is allowed for.

    Args:
        noise: S of each image, on the CPU.
        radius: r, (B,) float64; 0 holds nothing.
        images: x, (B, C, H, W).
        families: Families of changed images.

    Raises:
        ValueError: If noise, radius and images are not of as many images, or of other shapes.
    """
    shape = (len(radius), *noise.event_shape)
    if len(noise) != len(radius) or tuple(images.shape) != shape or len(shape) != 4:
        raise ValueError(
            f"noise, radius and images (B, C, H, W) must fit together, got noise of {len(noise)} "
            f"images {noise.event_shape}, {len(radius)} radii and images {tuple(images.shape)}"
        )
    found = np.zeros((len(families), len(radius)))
    for row in np.flatnonzero(radius > 0).tolist():
        region = _Ball(noise.inverse(row), float(radius[row]), images[row : row + 1].double())
        for which, family in enumerate(families):
            ends = region.end if family.straight else region.last_step
            found[which, row] = ends(family)
    return found


@dataclass(frozen=True, eq=False)
class _Ball:
    """A region in the coordinates S^-1 (p - x), in which it is a ball."""

    inverse: Inverse
    radius: float
    image: Tensor  # (1, C, H, W) float64

    def holds(self, moved: Tensor) -> Tensor:
        """Whether x + delta is inside for sure, (...), for delta (..., d)."""
        around = _PIXEL * _EPS * (8 + max(self.image.shape)) * math.sqrt(moved.shape[-1])
        return self.inverse.lengths_above(moved, around) < self.radius

    def moved(self, family: Family, steps: Sequence[int]) -> Tensor:
        """x_t - x of some steps, (ways, len(steps), d)."""
        changed = family.variants(self.image, [family.at(step) for step in steps])[0]
        return (changed - self.image).flatten(2)

    def last_step(self, family: Family) -> float:
        """t of the step before the first that is outside."""
        for start in range(0, family.steps, _BLOCK):
            steps = range(start + 1, min(start + _BLOCK, family.steps) + 1)
            outside = ~self.holds(self.moved(family, steps)).all(0)
            if bool(outside.any()):
                return family.at(start + int(outside.int().argmax()))
        return family.limit

    def end(self, family: Family) -> float:
        """The t at which the region ends on straight pieces, from below.

        A ball is convex: a piece whose ends are inside is inside, and so is a piece up to any of
        its points that is inside.
        """
        knots = self.moved(family, range(1, family.steps + 1))
        held = self.holds(knots).int().cumprod(1).sum(1)  # pieces that are inside, of each way
        knots = torch.cat([torch.zeros_like(knots[:, :1]), knots], 1)
        ways, piece = torch.arange(len(knots)), held.clamp_max(family.steps - 1)
        start, step = knots[ways, piece], knots[ways, piece + 1] - knots[ways, piece]
        tried = self._share(start, step).unsqueeze(1) * (1 - _TAKEN)  # (ways, tried)
        points = start.unsqueeze(1) + tried.unsqueeze(2) * step.unsqueeze(1)
        share = torch.where(self.holds(points), tried, 0.0).amax(1)
        found = (held + share) * (family.limit / family.steps) * (1 - 4 * _EPS)
        return torch.where(held == family.steps, family.limit, found).amin().item()

    def _share(self, start: Tensor, step: Tensor) -> Tensor:
        """s with ||S^-1 (a + s b)|| = r, to within rounding errors, for a and b (ways, d)."""
        a, b = self.inverse.times(start.mT), self.inverse.times(step.mT)
        linear, square = (a * b).sum(0), b.square().sum(0)
        left = self.radius**2 - a.square().sum(0)  # not below 0 but by rounding errors
        root = (linear.square() + left * square).clamp_min(0).sqrt()
        # Of two forms the one without a difference of near numbers.
        found = torch.where(linear > 0, left / (linear + root), (root - linear) / square)
        return found.nan_to_num(0.0).clamp(0, 1)

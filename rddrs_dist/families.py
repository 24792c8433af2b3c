"""Families of changed images, and how far along them certified regions hold.

A family has a parameter t, and an image for each t and each way, a sign or a direction of t; at
t = 0 it is the image itself. Images are changed as torchvision changes tensors, in float64: what
moves pixels interpolates bilinearly, and black comes in from outside. Nothing is clipped to
[0, 1], so that brightness and contrast are straight lines. docs/method.md, "What is inside", has
the proofs that what is found holds for all parameters from 0 to t.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

from rddrs_dist.noise import Noise
from rddrs_dist.noise.base import Inverse
from rddrs_dist.region import Floats

_EPS = torch.finfo(torch.float64).eps
# Units of eps by which a position of an image of one pixel, or a grey value, may be off.
_PIXEL = 16
# Shares of t that are left open, of straight and curved families, and one of the limit.
_FINEST, _FINE, _LEAST = 1e-8, 1e-4, 1e-12
_PIECES = 4  # that are looked at in one go
_NEAR = (-1e-1, -1e-2, -1e-4, 1e-4, 1e-2, 1e-1)  # where an end is tried around a guess
_DEGREE = math.pi / 180
_BORDER = 1e-9  # pixels; a cell as near as this counts as touched
_SHARP = 1e-3  # pixels; of a narrower kernel float64 has one number that is not 0
_BLUR_LIMIT = 2.0
# Pixels; one width for all t, since a kernel that grew with t would jump.
_BLUR_REACH = math.ceil(3 * _BLUR_LIMIT)

# From t (n,) to 2x2 matrices M and M', (n, 2, 2) each.
Maps = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Family:
    """A family of changed images: straight, or curved where it has a departure.

    Attributes:
        name: What a table calls it.
        column: Its name with its unit, as columns of results have it.
        unit: Of t.
        limit: Largest t.
        change: From images (B, C, H, W) and t (n,), from 0 on, to (B, ways, n, C, H, W).
        corners: From images and t to (B, m, C, H, W), in whose convex hull with x are all images
            up to t of a straight family; the changed images of each way where it is None.
        departure: From an image (1, C, H, W) and ends a and b (n,) of pieces to (ways, n, C, H,
            W): how far the pixels of an image on a piece may be from those of some point between
            the images at its ends.
    """

    name: str
    column: str
    unit: str
    limit: float
    change: Callable[[Tensor, Tensor], Tensor]
    corners: Callable[[Tensor, float], Tensor] | None = None
    departure: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    @property
    def heading(self) -> str:
        """Name and unit."""
        return f"{self.name}, {self.unit}"

    def variants(self, images: Tensor, at: Sequence[float]) -> Tensor:
        """The changed images, (B, ways, len(at), C, H, W) float64.

        Args:
            images: (B, C, H, W).
            at: Values of t, above 0.

        Raises:
            ValueError: If images have another shape, or a t is not above 0 and within the limit.
        """
        self._check(images, at)
        return self.change(images.double(), torch.tensor(at, dtype=torch.float64))

    def _check(self, images: Tensor, at: Sequence[float]) -> None:
        """Refuses images of another shape, and a t that is not above 0 and within the limit."""
        if images.ndim != 4:
            raise ValueError(f"images must be (B, C, H, W), got {tuple(images.shape)}")
        if outside := [t for t in at if not 0 < t <= self.limit]:
            raise ValueError(
                f"{self.name} must be above 0 and at most {self.limit:g} {self.unit}, got "
                f"{outside[0]:g}"
            )

    def hull(self, images: Tensor, t: float, steps: int = 6) -> Tensor:
        """Images that stand for all those up to t, (B, m, C, H, W) float64.

        All images up to t of a straight family are in their convex hull with x. Of a curved one
        they are those at t j / steps, j = 1 to steps, of each way.

        Raises:
            ValueError: As `variants`.
        """
        if self.corners:
            self._check(images, [t])
            return self.corners(images.double(), t)
        at = [t * j / steps for j in range(1, steps + 1)] if self.departure else [t]
        return self.variants(images, at).flatten(1, 2)


def _signs(t: Tensor) -> Tensor:
    return torch.cat([t, -t])


def _grid(images: Tensor) -> Tensor:
    """Positions x, y of pixels from the centre, (H, W, 2)."""
    y, x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in images.shape[-2:])
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _sampled(images: Tensor, at: Tensor) -> Tensor:
    """Images (B, C, ., .), black outside, at positions from the centre (n, H, W, 2)."""
    size = torch.tensor([images.shape[3], images.shape[2]], dtype=torch.float64)
    flat = (2 * at / size).flatten(0, 1).expand(len(images), -1, -1, -1)
    found = grid_sample(images, flat, padding_mode="zeros", align_corners=False)
    return found.unflatten(2, at.shape[:2]).movedim(2, 1)  # (B, n, C, H, W)


def _product_off(a: Tensor, a_off: Tensor, b: Tensor, b_off: Tensor) -> Tensor:
    """How far from a b a product may be whose factors are as far from a and b."""
    return a.abs() * b_off + a_off * (b.abs() + b_off)


def _middle(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half width of a range."""
    return (low + high) / 2, (high - low) / 2


def _slopes(image: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half width of the range of d/dx, (n, C, H, W), in boxes from low to high x, y.

    Between four pixels it does not depend on x, and is straight in y. A box of at most a pixel is
    in two columns of such cells, and has one row of pixels within.
    """
    left, top = (1 - image.shape[3]) / 2, (1 - image.shape[2]) / 2
    columns = (torch.stack([low, high])[:, None, ..., 0] - left).floor() + left + 0.5
    low, high = low[..., 1], high[..., 1]
    rows = torch.stack([low, torch.maximum((high - top).floor() + top, low), high])
    at = torch.stack(torch.broadcast_tensors(columns, rows), -1).flatten(0, 1)
    found = _sampled(pad(image, (1, 1)).diff(dim=-1), at.flatten(0, 1))[0]
    return _middle(*found.unflatten(0, at.shape[:2]).aminmax(dim=0))


def _moved(maps: Maps, images: Tensor, t: Tensor) -> Tensor:
    """Pixels at p from the centre become what is at M(t) p; there is a way for each sign of t."""
    at = _times(maps(_signs(t))[0], _grid(images))
    return _sampled(images, at).unflatten(1, (2, len(t)))


def _moved_departure(maps: Maps, image: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """See `Family`; infinite for pieces on which a position moves by more than a pixel.

    All entries of M and M' are between those at the ends of a piece, since they are monotone.
    """
    (start, end), grid = (torch.stack(maps(_signs(t))) for t in (a, b)), _grid(image)
    middle, off = _middle(start, end)
    (place, speed), (reach, change) = _times(middle, grid), _times(off.abs(), grid.abs())
    low, high = place - reach - _BORDER, place + reach + _BORDER
    slopes = _slopes(image, low, high), _slopes(image.mT, low.flip(-1), high.flip(-1))
    speeds = zip(speed.unsqueeze(1).unbind(-1), change.unsqueeze(1).unbind(-1), strict=True)
    off = sum(_product_off(*s, *v) for s, v in zip(slopes, speeds, strict=True))
    off = torch.where(high - low > 1, torch.inf, 0.0).amax(-1).unsqueeze(1) + off
    return off.unflatten(0, (2, len(a))) * ((b - a) / 2).view(-1, 1, 1, 1)


def _times(matrices: Tensor, grid: Tensor) -> Tensor:
    """M p, (..., H, W, 2), of matrices (..., 2, 2) and positions (H, W, 2)."""
    return torch.einsum("...ij,hwj->...hwi", matrices, grid)


def _matrices(*entries: Tensor) -> Tensor:
    return torch.stack(entries, -1).unflatten(-1, (2, 2))


def _rotation(t: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = (t * _DEGREE).cos(), (t * _DEGREE).sin()
    return _matrices(cos, sin, -sin, cos), _matrices(-sin, cos, -cos, -sin) * _DEGREE


def _scaling(t: Tensor) -> tuple[Tensor, Tensor]:
    inverse, none = 1 / (1 + t / 100), torch.zeros_like(t)
    speed = -inverse.square() / 100
    return _matrices(inverse, none, none, inverse), _matrices(speed, none, none, speed)


def _shear(t: Tensor) -> tuple[Tensor, Tensor]:
    tan, none, one = (t * _DEGREE).tan(), torch.zeros_like(t), torch.ones_like(t)
    speed = _DEGREE * (1 + tan.square())
    return _matrices(one, tan, none, one), _matrices(none, speed, none, none)


def _shifted(images: Tensor, t: Tensor) -> Tensor:
    ways = torch.tensor([[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y])
    moves = (ways.unsqueeze(1) * t.unsqueeze(1)).flatten(0, 1)[:, None, None]
    return _sampled(images, _grid(images) - moves).unflatten(1, (len(ways), len(t)))


def _shift_corners(images: Tensor, t: float) -> Tensor:
    """By whole pixels and by t: between these a shift is straight in x and straight in y."""
    sides = sorted({sign * side for side in (*range(math.floor(t) + 1), t) for sign in (1, -1)})
    pairs = torch.tensor([(x, y) for x in sides for y in sides if x or y], dtype=torch.float64)
    return _sampled(images, _grid(images) - pairs[:, None, None])


def _brightened(images: Tensor, t: Tensor) -> Tensor:
    return images[:, None, None] + _signs(t).view(2, -1, 1, 1, 1)


def _contrasted(images: Tensor, t: Tensor) -> Tensor:
    away = images - images.mean((1, 2, 3), keepdim=True)
    return images[:, None, None] + _signs(t).view(2, -1, 1, 1, 1) / 100 * away[:, None, None]


def _reaches(images: Tensor) -> list[int]:
    """Pixels to which kernels reach from their middle, down and across."""
    return [min(_BLUR_REACH, side - 1) for side in images.shape[2:]]


def _filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Images, reflected at their border, under kernels (n, ., .), (B, 1, n, C, H, W)."""
    down, across = _reaches(images)
    padded = pad(images, (across, across, down, down), mode="reflect").flatten(0, 1).unsqueeze(1)
    found = conv2d(padded, kernels.unsqueeze(1)).unflatten(0, images.shape[:2])
    return found.transpose(1, 2).unsqueeze(1)


def _bells(t: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """g_j = exp(-j^2 / 2 t^2) and j^2 g_j / t^3 for |j| up to the reach; t (n, 1) or of each j."""
    square, t = torch.arange(-reach, reach + 1, dtype=torch.float64).square(), t.clamp_min(_SHARP)
    bell = (-square / (2 * t.square())).exp()
    return bell, square * bell / t**3


def _blurred(images: Tensor, t: Tensor) -> Tensor:
    bells = [_bells(t.unsqueeze(1), reach)[0] for reach in _reaches(images)]
    down, across = (bell / bell.sum(1, keepdim=True) for bell in bells)
    return _filtered(images, down.unsqueeze(2) * across.unsqueeze(1))


def _kernels(a: Tensor, b: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Middle and half width of the range of k_j = g_j / Z and of k_j' for t from a to b.

    g_j and their sum Z rise. k_j' = q_j / Z - k_j M for q_j = j^2 g_j / t^3 and the sum M of all
    q_j / Z; q_j rises up to t = |j| / sqrt(3), and falls from there.
    """
    a, b = a.unsqueeze(1), b.unsqueeze(1)
    peak = torch.arange(-reach, reach + 1, dtype=torch.float64).abs() / math.sqrt(3)
    (least, start), (most, end) = _bells(a, reach), _bells(b, reach)
    few, many = least.sum(1, keepdim=True), most.sum(1, keepdim=True)
    low, high = least / many, most / few
    flow_low = torch.minimum(start, end) / many
    flow_high = _bells(peak.clamp(a, b), reach)[1] / few
    slowest = flow_low - high * flow_high.sum(1, keepdim=True)
    fastest = flow_high - low * flow_low.sum(1, keepdim=True)
    return *_middle(low, high), *_middle(slowest, fastest)


def _blur_departure(image: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """See `Family`; kernels add up to 1, so that a constant may be taken from the image."""
    down, across = (_kernels(a, b, reach) for reach in _reaches(image))
    down, across = [one.unsqueeze(2) for one in down], [one.unsqueeze(1) for one in across]
    off = _product_off(*down[:2], *across[2:]) + _product_off(*down[2:], *across[:2])
    away = (image - image.mean((2, 3), keepdim=True)).abs()
    return _filtered(away, off * ((b - a) / 2).view(-1, 1, 1))[0]


def _moving(maps: Maps, name: str, column: str, unit: str, limit: float) -> Family:
    change, departure = partial(_moved, maps), partial(_moved_departure, maps)
    return Family(name, column, unit, limit, change, departure=departure)


FAMILIES = (
    _moving(_rotation, "rotation", "rotation_deg", "degrees", 45.0),
    # By any x and y of at most t.
    Family("shift", "shift_px", "pixels", 4.0, _shifted, _shift_corners),
    _moving(_scaling, "scaling", "scaling_pct", "%", 50.0),
    _moving(_shear, "shear", "shear_deg", "degrees", 45.0),
    Family("brightness", "brightness", "pixel values", 1.0, _brightened),
    # Around the mean of all pixels and channels of the image.
    Family("contrast", "contrast_pct", "%", 100.0, _contrasted),
    Family("blur", "blur_px", "pixels", _BLUR_LIMIT, _blurred, departure=_blur_departure),
)


def inside(
    noise: Noise, radius: Floats, images: Tensor, families: Sequence[Family] = FAMILIES
) -> Floats:
    """The t up to which changed images stay inside regions, (len(families), B) float64.

    ||S^-1 (x_t' - x)|| < r is proven for all t' up to t, in all ways, with rounding of float64,
    of the images too. No larger t than the limit is looked at. A region that is left and entered
    again ends where it is left.

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
        own = _inverses(noise, row)
        region = _Ball(*own, float(radius[row]), images[row : row + 1].double())
        for which, family in enumerate(families):
            ends = region.curved_end if family.departure else region.straight_end
            found[which, row] = ends(family)
    return found


def _inverses(noise: Noise, row: int) -> tuple[Inverse, Inverse]:
    """X = S^-1 of one image up to a rotation, and |X|, which is X where that is diagonal.

    Their numbers are row by row, for which a product with a few images takes a fifth of the time.
    """
    inverse = noise.inverse(row)
    if noise.is_diagonal:
        return inverse, inverse
    if inverse.absolute is not None:
        return inverse, inverse._replace(times=inverse.absolute)
    dense = inverse.times(torch.eye(noise.dimension, dtype=torch.float64)).contiguous()
    return inverse._replace(times=dense.matmul), inverse._replace(times=dense.abs().matmul)


@dataclass(frozen=True, eq=False)
class _Ball:
    """A region in the coordinates S^-1 (p - x), in which it is a ball."""

    inverse: Inverse
    absolute: Inverse  # of |X|
    radius: float
    image: Tensor  # (1, C, H, W) float64

    @property
    def rounded(self) -> float:
        """How far a pixel of a changed image may be off."""
        grey = max(1.0, self.image.abs().max().item())
        return _PIXEL * _EPS * (8 + max(self.image.shape)) * grey

    def lengths(self, changed: Tensor) -> Tensor:
        """||S^-1 (x' - x)|| of images x' (..., C, H, W), (...), never below the truth."""
        moved = (changed - self.image[0]).flatten(-3)
        return self.inverse.lengths_above(moved, self.rounded * math.sqrt(moved.shape[-1]))

    def longest(self, family: Family, at: Sequence[float]) -> list[float]:
        """The largest length in the hull, for each t."""
        hulls = [family.hull(self.image, t)[0] for t in at]
        lengths = self.lengths(torch.cat(hulls)).split([len(hull) for hull in hulls])
        return [one.max().item() for one in lengths]

    def straight_end(self, family: Family) -> float:
        """A t whose hull is inside, at most a share of 1e-8 below one whose hull is not."""
        low, high, short, (long,) = 0.0, family.limit, 0.0, self.longest(family, [family.limit])
        if long < self.radius:
            return family.limit
        while high - low > _FINEST * low and high > _LEAST * family.limit:
            guess = (self.radius - short) / (long - short)  # as if lengths were straight in t
            shares = [guess + min(guess, 1 - guess) * near for near in _NEAR] + [0.5]
            # Lengths may be infinite, and the guess 0.
            tried = sorted(low + max(share, _LEAST) * (high - low) for share in shares)
            lengths = self.longest(family, tried)
            held = [*(length < self.radius for length in lengths), False].index(False)
            low, high = [low, *tried, high][held : held + 2]
            short, long = [short, *lengths, long][held : held + 2]
        return low

    def curved_end(self, family: Family) -> float:
        """The end of the last of adjacent pieces that are inside."""
        found, step = 0.0, family.limit / 64
        while found < family.limit and step > max(_FINE * found, _LEAST * family.limit):
            ends = found + step * torch.arange(_PIECES + 1, dtype=torch.float64)
            held = self.pieces(family, ends.clamp_(max=family.limit))
            found = ends[held].item()
            step *= _PIECES if held == _PIECES else 1 / _PIECES
        return found

    def pieces(self, family: Family, ends: Tensor) -> int:
        """How many pieces between these ends are inside for sure, before the first that is not.

        With its ends all that is straight between them is inside, and an image on the piece is
        further out by no more than it departs from there.
        """
        lengths = self.lengths(family.change(self.image, ends)[0]).amax(0)
        count = _leading(lengths[1:] < self.radius)
        if not count or family.departure is None:
            return 0
        off = family.departure(self.image, ends[:count], ends[1 : count + 1]) + self.rounded
        further = self.absolute.lengths_above(off.flatten(-3)).amax(0)  # |X e| <= |X| |e|
        total = torch.maximum(lengths[:count], lengths[1 : count + 1]) + further
        return _leading(total * (1 + 4 * _EPS) < self.radius)


def _leading(held: Tensor) -> int:
    """How many are true before the first that is not."""
    return int(held.int().cumprod(0).sum())

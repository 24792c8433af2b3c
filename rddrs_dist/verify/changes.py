"""Changed images: those that a row claims to hold are inside its region.

The changes are torchvision's own, at random parameters, and the region that of the stored scale.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from rddrs_dist.verify.certificates import LOOSE
from rddrs_dist.verify.findings import Checked, Claim, Row, bounded, each_row, key_of
from rddrs_dist.verify.folder import Case
from rddrs_dist.verify.scales import distances

# What each column claims, and the flag that names it.
COLUMNS = {
    "rotation_deg": "rotation",
    "shift_px": "shift",
    "scaling_pct": "scaling",
    "shear_deg": "shear",
    "brightness": "brightness",
    "contrast_pct": "contrast",
    "blur_px": "blur",
}
# Where nothing is named.
DEFAULT = {"rotation": 10.0}
BLUR_REACH = 6  # pixels to each side
_DRAWN = 12  # changed images of each family
# What solves in float64 may add to a distance; a share.
_ROUNDING = 1e-9


def judge_multiple(row: Row, case: Case) -> Iterator[Claim]:
    """Columns are null where aim is not in the run; aim_scale is the least share of an amount."""
    aim = case.recorded.get("config", {}).get("settings", {}).get("aim")
    wanted = aim is not None and row["error"] is None
    for name in (*COLUMNS, "aim_scale"):
        known = (row[name] is not None) == wanted
        yield known, f"a {name} where aim is in the run, and null elsewhere", row[name]
    if aim is None or any(row[name] is None for name in (*COLUMNS, "aim_scale")):
        return
    named = {flag: aim[flag] for flag in COLUMNS.values() if aim[flag]} or DEFAULT
    shares = [
        Fraction(row[column]) / Fraction(named[flag])
        for column, flag in COLUMNS.items()
        if flag in named
    ]
    least = min([*shares, Fraction(1)])
    yield from bounded("aim_scale", row["aim_scale"], float(least) * (1 - LOOSE), least)
    if row["radius"] == 0:
        held = max(row[name] for name in COLUMNS)
        yield held == 0, "no changed images in an empty region", held


def check_changes(case: Case) -> Checked:
    """Random changes within what each row claims are inside the region of its stored scale."""
    rows = [row for row in case.rows if row["radius"] > 0 and row["rotation_deg"] is not None]

    def judge(row: Row) -> Iterator[Claim]:
        image = torch.from_numpy(case.images.images[row["index"]]).double()
        scale = torch.from_numpy(case.scales.matrix(key_of(row)))
        drawn = np.random.default_rng([case.options.seed, row["index"]])
        for column in COLUMNS:
            if not row[column]:
                continue
            changed = _changed(image, column, row[column], drawn)
            delta = (changed - image).flatten(1).T  # (d, n)
            farthest = float(distances(scale, delta).max())
            inside = farthest < row["radius"] * (1 + _ROUNDING)
            yield inside, f"{column} such that images stay within {row['radius']!r}", farthest

    return each_row(rows, judge)


def _changed(image: Tensor, column: str, most: float, drawn: np.random.Generator) -> Tensor:
    """Images (n, C, H, W) whose parameter is at most so large; the largest ones among them."""
    random = drawn.uniform(-most, most, (_DRAWN, 2))
    pairs = [(most, most), (-most, -most), (most, -most), (0.0, -most), *random.tolist()]
    return torch.stack([_one(image, column, *pair) for pair in pairs])


def _one(image: Tensor, column: str, t: float, other: float) -> Tensor:
    """The image at a parameter; only a shift has two."""
    # Imported here: torchvision takes its time, and most commands do not need it.
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    angle, shift, scale, shear = 0.0, [0.0, 0.0], 1.0, [0.0, 0.0]
    if column == "brightness":
        return image + t
    if column == "contrast_pct":
        return image + t / 100 * (image - image.mean())
    if column == "blur_px":
        size = [2 * min(BLUR_REACH, side - 1) + 1 for side in (image.shape[2], image.shape[1])]
        return transforms.gaussian_blur(image, size, [abs(t), abs(t)]) if t else image
    if column == "rotation_deg":
        angle = t
    elif column == "shift_px":
        shift = [t, other]
    elif column == "scaling_pct":
        scale = 1 + t / 100
    else:
        shear = [t, 0.0]
    bilinear = InterpolationMode.BILINEAR
    return transforms.affine(image, angle, shift, scale, shear, interpolation=bilinear)  # pyright: ignore[reportArgumentType]

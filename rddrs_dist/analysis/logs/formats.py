"""The logs of other projects: their columns, as their scripts of certification write them.

One line per image, cells separated by tabs; radii and sigmas in pixels scaled to [0, 1], printed
with `{:.3}`: 3 significant digits, rounded to the nearest and so upward as often as downward.
`correct` is 0 or 1; an abstention has `predict` -1, `radius` 0.0 and `correct` 0. `time` is a
`datetime.timedelta` as text, or plain seconds in older logs, of certification without any fit.
Neither data set, split, network, sigma of the base noise, n0, n, alpha nor norm is in a log.

- cohen-tsv: code/certify.py of github.com/locuslab/smoothing, with logs under data/certify (ten of
  them with time in seconds). So also ddsmoothing/scripts/certify_dataset.py of
  github.com/MotasemAlfarra/Data_Dependent_Randomized_Smoothing, and code/certify.py of
  github.com/jh-jeong/smoothing-consistency, with logs of MNIST under data/certify/mnist.
- ddrs-tsv: certify_ds.py of github.com/MotasemAlfarra/Data_Dependent_Randomized_Smoothing;
  `sigma` is that of the image.
- ancer-tsv: scripts/certify_dataset.py of github.com/MotasemAlfarra/ANCER; `radius` is the
  smallest axis times the gap, `radius_proxy` the geometric mean of the axes times the gap.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rddrs_dist.results.columns import ABSTAIN

ROUNDED_DIGITS = 3  # of `{:.3}`
_TIME = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d{6})?)")


@dataclass(frozen=True)
class Format:
    """The columns of a kind of log.

    Attributes:
        name: As `--format` has it.
        columns: Names in the header, in order.
        sizes: For each column of sizes those of our own that it fills.
    """

    name: str
    columns: tuple[str, ...]
    sizes: Mapping[str, tuple[str, ...]]

    @property
    def header(self) -> str:
        """The first line of a log, without its end."""
        return "\t".join(self.columns)


_BALL = ("l2_radius", "proxy_radius")
COHEN = Format(
    "cohen-tsv",
    ("idx", "label", "predict", "radius", "correct", "time"),
    {"radius": _BALL},
)
DDRS = Format(
    "ddrs-tsv",
    ("idx", "label", "predict", "radius", "correct", "sigma", "time"),
    {"radius": _BALL, "sigma": ("min_axis", "mean_axis", "max_axis")},
)
ANCER = Format(
    "ancer-tsv",
    ("idx", "label", "predict", "radius", "radius_proxy", "correct", "min_sigma", "time"),
    {"radius": ("l2_radius",), "radius_proxy": ("proxy_radius",), "min_sigma": ("min_axis",)},
)
FORMATS = {one.name: one for one in (COHEN, DDRS, ANCER)}


def _whole(text: str) -> int | None:
    """A whole number, 0 or more."""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None


def _class(text: str) -> int | None:
    """A class, or an abstention."""
    return ABSTAIN if text == str(ABSTAIN) else _whole(text)


def _size(text: str) -> float | None:
    """A radius or a sigma; "nan", "inf" and "1_0" are numbers to Python, not to us."""
    if not re.fullmatch(r"\d+(\.\d*)?(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE):
        return None
    return value if math.isfinite(value := float(text)) else None


def _flag(text: str) -> bool | None:
    """Whether a prediction is right."""
    return {"0": False, "1": True}.get(text)


def _seconds(text: str) -> float | None:
    """Seconds, given as such or as hours, minutes and seconds."""
    if match := _TIME.fullmatch(text):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return _size(text)


_SIZE: tuple[Callable[[str], Any], str] = (_size, "a finite number, 0 or more")
# What reads the cells of a column, None where it cannot, and what it wants of them.
CELLS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "idx": (_whole, "a whole number, 0 or more"),
    "label": (_whole, "a whole number, 0 or more"),
    "predict": (_class, "a class, or -1 for an abstention"),
    "radius": _SIZE,
    "radius_proxy": _SIZE,
    "correct": (_flag, "0 or 1"),
    "sigma": _SIZE,
    "min_sigma": _SIZE,
    "time": (_seconds, "seconds, or H:MM:SS.ffffff"),
}


def digits(text: str) -> int:
    """Significant digits of a number's text: 3 of 0.0734, 1 of 1.0."""
    mantissa = re.split("e", text, flags=re.IGNORECASE)[0].replace(".", "")
    return len(mantissa.strip("0"))

"""What figure 1 can be told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from rddrs_dist import Budget
from rddrs_dist.methods import Method
from rddrs_dist.run.options import Run, Settings

DRAWN = ("ddrs", "ancer", "rddrs", "rddrs_tr")
RIGHT_ANGLE = 90.0


@dataclass(frozen=True)
class Options:
    """Draw figure 1: regions in the plane, and certified area as data and network turn.

    Attributes:
        out: Folder for figure and table; made if missing.
        angles: Angles from 0 to 90 degrees, equally spaced, at least 3.
        sigma: Standard deviation of the noise of training, and the start of DDRS; the data lie in
            the unit square.
        n0: Samples per region that select the class.
        n: Samples per region that estimate its probability.
        alpha: Probability with which a certificate may be wrong.
        seed: Seed of the data, the network and all samples.
        settings: Hyper-parameters of each method.
    """

    out: Path
    angles: int = 19
    sigma: float = 0.04
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    seed: int = 0
    settings: Annotated[Settings, arg(name="")] = field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=Settings
    )

    @property
    def degrees(self) -> NDArray[np.float64]:
        """The angles."""
        return np.linspace(0, RIGHT_ANGLE, self.angles)

    @property
    def drawn(self) -> tuple[float, float]:
        """The two angles whose regions are drawn: none, and the one nearest to 45 degrees."""
        return 0.0, float(min(self.degrees, key=lambda angle: abs(angle - RIGHT_ANGLE / 2)))

    @property
    def budget(self) -> Budget:
        """Samples and confidence."""
        return Budget(self.n0, self.n, self.alpha)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, DDRS first: two others start from its noise."""
        run = Run(settings=self.settings)
        return tuple(run.method(name) for name in DRAWN)

    @property
    def published(self) -> bool:
        """Whether every method has the settings it was published with."""
        return self.settings == Settings()


def check(options: Options) -> None:
    """Refuses what cannot be meant.

    Raises:
        ValueError: In one line.
    """
    if options.angles < 3:
        raise ValueError(f"--angles must be at least 3, got {options.angles}")
    if not 0 < options.sigma < float("inf"):
        raise ValueError(f"--sigma must be positive and finite, got {options.sigma}")
    if options.seed < 0:
        raise ValueError(f"--seed must not be negative, got {options.seed}")
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {options.out}")
    _ = options.budget, options.methods

"""A folder of results with regions of all kinds, made up so that some of them overlap."""

from pathlib import Path

import numpy as np
import torch

from rddrs_dist import data
from rddrs_dist.noise import Noise, pack
from rddrs_dist.region import ABSTAIN, Region
from rddrs_dist.results.store import Store
from tests.results.rows import row

from .problems import noise_of

# The kind of noise of each method.
METHODS = {"rs": "isotropic", "ancer": "diagonal", "rddrs_tr": "full"}
INDICES = list(range(0, 240, 20))
_COPIED = ("radius", "prediction", "l2_radius", "proxy_radius", "min_axis", "mean_axis")


def certify(folder: Path, *, save_scales: bool = True) -> Path:
    """Writes rows, and perhaps scales, of twelve digits, of which one is an abstention."""
    images = data.load("digits", "test")
    config = {"dataset": "digits", "data_sha256": images.sha256}
    radius = np.where(np.array(INDICES) == 40, 0.0, np.linspace(2, 3, len(INDICES)))
    prediction = np.where(radius > 0, images.labels[INDICES], ABSTAIN)
    rows, scales = [], {}
    for method, kind in METHODS.items():
        noise = _noise(kind)
        region = Region(torch.from_numpy(images.images[INDICES]), noise, radius, prediction)
        for k, (index, packed) in enumerate(zip(INDICES, pack(noise), strict=True)):
            cells = {name: getattr(region, name)[k].item() for name in _COPIED}
            scales[method, index] = packed
            rows.append(row(index, method, **cells, scale_sha256=packed.sha256))
            rows[-1]["correct"] = index % 60 == 0
    with Store.open(folder, run_id="made-up", config=config, metadata={}) as store:
        store.write(0, rows, scales if save_scales else None)
    return folder


def _noise(kind: str) -> Noise:
    """Noise of each image."""
    z = [torch.randn(65, 64, generator=torch.Generator().manual_seed(k)) for k in INDICES]
    parts = [noise_of(kind, one, (1, 8, 8), 0.5) for one in z]
    return type(parts[0]).concatenate(parts)

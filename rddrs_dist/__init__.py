"""Certified robustness of neural networks by data-dependent randomized smoothing.

A noise, a method, a certificate: a method (`methods.METHODS`) chooses the Gaussian noise of each
image, `certify` proves the region in which the network smoothed with it keeps its answer.
"""

from rddrs_dist.certify import ABSTAIN, Budget, Certificate, certify
from rddrs_dist.disjoint.classifier import Prediction, SmoothedClassifier
from rddrs_dist.methods import (
    DDRS,
    METHODS,
    RDDRS,
    RDDRSTR,
    RS,
    URS,
    Aim,
    Ancer,
    Context,
    Fit,
    Method,
    Status,
    fit_all,
)
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise, LowRankNoise, Noise
from rddrs_dist.region import Region
from rddrs_dist.smoothing import Batching, Smoothed, Streams
from rddrs_dist.version import __version__

__all__ = [
    "ABSTAIN",
    "DDRS",
    "METHODS",
    "RDDRS",
    "RDDRSTR",
    "RS",
    "URS",
    "Aim",
    "Ancer",
    "Batching",
    "Budget",
    "Certificate",
    "Context",
    "DiagonalNoise",
    "Fit",
    "FullNoise",
    "IsotropicNoise",
    "LowRankNoise",
    "Method",
    "Neighbours",
    "Noise",
    "Prediction",
    "Region",
    "Smoothed",
    "SmoothedClassifier",
    "Status",
    "Streams",
    "__version__",
    "certify",
    "fit_all",
]

"""Centred Gaussian noise on images, N(0, S S^T), batched over images."""

from rddrs_dist.noise.base import Noise
from rddrs_dist.noise.diagonal import DiagonalNoise
from rddrs_dist.noise.full import FullNoise
from rddrs_dist.noise.isotropic import IsotropicNoise

__all__ = ["DiagonalNoise", "FullNoise", "IsotropicNoise", "Noise"]

"""A network under Gaussian noise: random streams, class counts, margins and gradients."""

from rddrs_dist.smoothing.batching import Batching
from rddrs_dist.smoothing.seeds import Stage, Streams
from rddrs_dist.smoothing.smoothed import Smoothed

__all__ = ["Batching", "Smoothed", "Stage", "Streams"]

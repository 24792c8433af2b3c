"""A network under Gaussian noise: random streams, class counts, margins and gradients."""

from rddrs_dist.smoothing.seeds import Stage, Streams

__all__ = ["Stage", "Streams"]

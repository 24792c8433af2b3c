"""A network under Gaussian noise: random streams, class counts, soft margins and their gradients."""

from rddrs_dist.smoothing.seeds import Stage, Streams

__all__ = ["Stage", "Streams"]

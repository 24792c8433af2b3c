"""Labelled image sets by name, with pixels in [0, 1]."""

from rddrs_dist.data.sets import DATASETS, ImageSet, load, parse_indices

__all__ = ["DATASETS", "ImageSet", "load", "parse_indices"]

"""A page that shows what runs have found; opens from disk, fetches nothing."""

from rddrs_dist.report.gallery import gallery
from rddrs_dist.report.page import render, write

__all__ = ["gallery", "render", "write"]

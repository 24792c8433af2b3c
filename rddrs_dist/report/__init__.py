"""A page that shows what runs have found; opens from disk, fetches nothing."""

from rddrs_dist.report.gallery import gallery
from rddrs_dist.report.page import check_path, render, write

__all__ = ["check_path", "gallery", "render", "write"]

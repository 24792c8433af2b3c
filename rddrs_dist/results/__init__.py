"""Results of a run on disk: columns, files, store, scales, reading."""

from rddrs_dist.results.reading import Source, read, read_run

__all__ = ["Source", "read", "read_run"]

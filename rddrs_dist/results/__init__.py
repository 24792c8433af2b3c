"""Results of a run: schema, store, reading, sizes, curves, figures and tables."""

from rddrs_dist.results.reading import read, read_many

__all__ = ["read", "read_many"]

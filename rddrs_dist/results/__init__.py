"""Results of a run on disk: columns, files, store, scales, reading."""

from importlib import import_module


def __getattr__(name: str):
    if name in ("read", "read_many"):  # until reading knows nothing of figures
        return getattr(import_module("rddrs_dist.results.reading"), name)
    raise AttributeError(name)

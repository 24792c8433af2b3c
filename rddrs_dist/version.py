"""The version, apart from the package so that `verify` can know it and share nothing else."""

__version__ = "0.8.0.dev1"

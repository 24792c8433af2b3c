"""Certify MNIST as the papers do, on the Ray cluster this job runs in.

ray job submit --working-dir . -- python jobs/certify_mnist.py --checkpoint FILE --data-root FOLDER
--out FOLDER is `rddrs certify paper-mnist` with these and any other of its flags; see
jobs/README.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rddrs_dist import cli


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    out = parser.parse_known_args(flags)[0].out
    if not {"-h", "--help"} & set(flags) and not (out and out.is_absolute()):
        # The address of the cluster is in RAY_ADDRESS, and the working directory is temporary.
        return cli.complain(
            "--out must be an absolute path on a disk that outlives the job, got "
            f"{out}: the folder a job runs in is temporary"
        )
    return cli.main(["certify", "paper-mnist", *flags])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Certify MNIST as the papers do, on the Ray cluster this job runs in.

ray job submit --working-dir . -- python jobs/certify_mnist.py --checkpoint FILE --data-root FOLDER
--out FOLDER is `rddrs certify paper-mnist` with these and any other of its flags; see
jobs/README.md.
"""

import sys
from collections.abc import Sequence

from rddrs_dist import cli
from rddrs_dist.run.options import Run


def certify(run: Run) -> int:
    """Does a run whose results outlive the job."""
    if not run.out or not run.out.is_absolute():
        raise ValueError(
            "--out must be an absolute path on a disk that outlives the job, got "
            f"{run.out}: the folder a job runs in is temporary"
        )
    return cli.certify(run)


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    return cli.guarded(lambda: certify(cli.parse(["certify", "paper-mnist", *flags])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

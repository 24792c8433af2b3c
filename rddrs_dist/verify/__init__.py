"""An independent check of a folder of results.

Definitions are shared with what wrote the folder: columns, files, the configuration, the format of
scales and the matrix that each stands for, data sets, networks, and which random stream belongs to
which image. Computations are not: what a certificate claims is computed here in another way, and
held against what is stored.
"""

from rddrs_dist.verify.findings import Finding, Outcome, Severity, as_text, is_sound
from rddrs_dist.verify.folder import Verify
from rddrs_dist.verify.verify import UNSOUND, command, verify

__all__ = [
    "UNSOUND",
    "Finding",
    "Outcome",
    "Severity",
    "Verify",
    "as_text",
    "command",
    "is_sound",
    "verify",
]

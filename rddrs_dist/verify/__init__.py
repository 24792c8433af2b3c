"""An independent check of a folder of results.

Nothing that certifies is shared with the producer: what a certificate claims is written down once
more here, computed in another way, and held against what is stored. Shared are definitions alone:
data sets, networks, and which random stream belongs to which image (`smoothing.seeds`,
`smoothing.launch`).
"""

from rddrs_dist.verify.findings import Finding, Outcome, Severity
from rddrs_dist.verify.report import as_text, is_sound
from rddrs_dist.verify.verify import verify

__all__ = ["Finding", "Outcome", "Severity", "as_text", "is_sound", "verify"]

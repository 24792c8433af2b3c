"""Whether certified regions of different predictions overlap, and how they become disjoint.

`contacts` finds hyperplanes between regions, `narrowed`, `order_free` and `in_order` make regions
smaller; `rddrs disjoint` does both for all images of a run, and `SmoothedClassifier` for one image
after the other.
"""

from rddrs_dist.disjoint.contact import Contacts, contacts, preconditioner
from rddrs_dist.disjoint.narrowing import bounds, in_order, narrowed, order_free

__all__ = [
    "Contacts",
    "bounds",
    "contacts",
    "in_order",
    "narrowed",
    "order_free",
    "preconditioner",
]

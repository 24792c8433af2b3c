"""Whether certified regions of different predictions overlap, and how they become smaller."""

from rddrs_dist.disjoint.blocks import Block, Found, Narrowed, block_of_pairs, narrow, together
from rddrs_dist.disjoint.contact import Touch, touch
from rddrs_dist.disjoint.narrowing import narrowed, support
from rddrs_dist.disjoint.regions import Regions, mean_inverse
from rddrs_dist.disjoint.rules import Bounds, Conflicts, in_order, order_free

__all__ = [
    "Block",
    "Bounds",
    "Conflicts",
    "Found",
    "Narrowed",
    "Regions",
    "Touch",
    "block_of_pairs",
    "in_order",
    "mean_inverse",
    "narrow",
    "narrowed",
    "order_free",
    "support",
    "together",
    "touch",
]

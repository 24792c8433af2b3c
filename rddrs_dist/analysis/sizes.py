"""Sizes of certified regions: one entry per size, read by every curve, table and figure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A size of certified regions, in pixels scaled to [0, 1].

    Attributes:
        name: What a command line and the names of files call it.
        column: Column of the rows that holds it.
        title: What tables and captions call it.
        axis: What it is called beside an axis.
        radii: Radii at which tables give certified accuracy.
        before: Size that a figure shows beside it as a thin line.
        wants: What rows without it lack; empty where every run has it.
    """

    name: str
    column: str
    title: str
    axis: str
    radii: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0)
    before: str | None = None
    wants: str = ""


SIZES = {
    one.name: one
    for one in (
        # Of the ball with the region's volume.
        Size("proxy", "proxy_radius", "Proxy radius", "Proxy radius R"),
        Size(
            "capped",
            "capped_proxy_radius",
            "Capped proxy radius",
            "Proxy radius R, semi-axes cut at the diameter of the domain",
        ),
        # Of the largest Euclidean ball inside the region.
        Size("l2", "l2_radius", "l2 radius", "l2 radius", (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)),
        Size(
            "disjoint",
            "disjoint_proxy_radius",
            "Disjoint proxy radius",
            "Proxy radius R of the disjoint region",
            before="proxy",
            wants="run `rddrs disjoint` first",
        ),
        Size(
            "simultaneous",
            "simultaneous_proxy_radius",
            "Proxy radius, all images at once",
            "Proxy radius R, certified for all images at once",
            wants="ask for --simultaneous",
        ),
    )
}


def size_of(name: str) -> Size:
    """The size of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {name!r}; choose one")
    return SIZES[name]

"""Sizes of certified regions: one entry per size, read by every curve, table and figure."""

from dataclasses import dataclass

from rddrs_dist.families import FAMILIES

_BALL = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
_VOLUME = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0)
_NO_AIM = "certify with aim among --methods"
# Parameters of families of changed images at which tables give certified accuracy.
_CHANGES = {
    "rotation": (1.0, 2.0, 5.0, 10.0, 15.0),
    "shift": (0.1, 0.25, 0.5, 1.0, 2.0),
    "scaling": (1.0, 2.0, 5.0, 10.0, 20.0),
    "shear": (1.0, 2.0, 5.0, 10.0, 15.0),
    "brightness": (0.02, 0.05, 0.1, 0.2, 0.3),
    "contrast": (2.0, 5.0, 10.0, 20.0, 50.0),
    "blur": (0.2, 0.4, 0.6, 0.8, 1.0),
}
_UNMEASURED = "certify with training images and --sight-samples above 0"


@dataclass(frozen=True)
class Size:
    """A size of certified regions, in pixels scaled to [0, 1] if nothing else is said.

    Attributes:
        name: What a command line and the names of files call it.
        column: Column of the rows that holds it.
        title: What tables and captions call it.
        axis: What it is called beside an axis.
        radii: Radii at which tables give certified accuracy.
        before: Size that a figure shows beside it as a thin line.
        wants: What rows without it lack; empty where every run has it.
        default: Whether it is shown where no size is asked for.
        of_volume: Whether it is the radius of the ball with the region's volume, which the volume
            of the pixel cube puts into proportion.
    """

    name: str
    column: str
    title: str
    axis: str
    radii: tuple[float, ...] = _VOLUME
    before: str | None = None
    wants: str = ""
    default: bool = True
    of_volume: bool = False


SIZES = {
    one.name: one
    for one in (
        # Of the largest Euclidean ball inside the region.
        Size("l2", "l2_radius", "l2 radius", "l2 radius", _BALL),
        # Of the ball with the volume of the region's section with principal directions.
        Size(
            "data",
            "data_radius",
            "Data radius",
            "Data radius (95 % of the training images' variance)",
            wants=_UNMEASURED,
        ),
        Size(
            "data99",
            "data_radius_99",
            "Data radius, 99 %",
            "Data radius (99 % of the training images' variance)",
            wants=_UNMEASURED,
            default=False,
        ),
        # Of the ball with the region's volume.
        Size("proxy", "proxy_radius", "Proxy radius", "Proxy radius R", of_volume=True),
        Size(
            "disjoint",
            "disjoint_proxy_radius",
            "Disjoint proxy radius",
            "Proxy radius R of the disjoint region",
            before="proxy",
            wants="run `rddrs disjoint` first",
            of_volume=True,
        ),
        Size(
            "simultaneous",
            "simultaneous_proxy_radius",
            "Proxy radius, all images at once",
            "Proxy radius R, certified for all images at once",
            wants="ask for --simultaneous",
            of_volume=True,
        ),
        # The multiple of what the method aim names.
        Size(
            "aim",
            "aim_scale",
            "Named changes",
            "Multiple of the named changes",
            (0.1, 0.25, 0.5, 0.7, 1.0),
            wants=_NO_AIM,
        ),
        *(
            Size(
                family.name,
                family.column,
                family.heading.capitalize(),
                family.heading.capitalize(),
                _CHANGES[family.name],
                wants=_NO_AIM,
                default=False,
            )
            for family in FAMILIES
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

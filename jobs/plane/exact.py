"""Class probabilities in the plane under Gaussian noise, in closed form and without a sample.

A network with one hidden layer of ReLUs is linear on the cells between the lines on which a ReLU
bends, so that the decision region of a class is made of convex polygons. The Gaussian measure of
a polygon is a sum over its edges, by Owen's T function. Nothing here calls the
certification of the package.

References:
    Owen 1956, Tables for computing bivariate normal probabilities.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, owens_t

from .problem import CENTRE, Network

Floats = NDArray[np.float64]

# Half the side of the square that is cut into cells: a hundred standard deviations of any noise
# that fits the unit square.
_FAR = 100.0
_POINTS = 128  # points whose probabilities are computed at once


def decision_region(network: Network, label: int) -> Floats:
    """Where a class wins: the edges of convex polygons side by side.

    Returns:
        (E, 2, 2), from and to, counter-clockwise around each polygon.
    """
    polygons = _cells(network)
    for other in range(len(network.out)):
        if other != label:
            polygons = [_clipped(one, _margin(network, one, label, other)) for one in polygons]
            polygons = [one for one in polygons if len(one) > 2]
    edges = [np.stack([corners, np.roll(corners, -1, 0)], 1) for corners in polygons]
    return np.concatenate([np.zeros((0, 2, 2)), *edges])


def probability(edges: Floats, points: Floats, scale: Floats) -> Floats:
    """Probability of a class under noise S z centred at points, (P,).

    Args:
        edges: Of its decision region, (E, 2, 2).
        points: (P, 2).
        scale: S, (2, 2).
    """
    whitening = np.linalg.inv(scale).T
    edges, centres = edges @ whitening, points @ whitening
    blocks = np.array_split(centres, math.ceil(len(centres) / _POINTS))
    measure = [triangles(edges - block[:, None, None]).sum(1) for block in blocks]
    # A scale that mirrors turns the polygons clockwise.
    return np.sign(np.linalg.det(scale)) * np.concatenate(measure)


def triangles(edges: Floats) -> Floats:
    """Standard normal measure of the triangles between the origin and edges.

    With h the distance of the edge's line from the origin and t the position on it, counted from
    the foot of h, a triangle is the difference of two right-angled ones at its ends t, which have
    measure atan(t / h) / 2 pi - T(h, t / h).

    Args:
        edges: (..., 2, 2), from and to.

    Returns:
        (...), negative where the edge runs clockwise about the origin.
    """
    along = edges[..., 1, :] - edges[..., 0, :]
    tiny = np.finfo(float).tiny  # an edge without length has no triangle
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), tiny)
    ends = (edges * along[..., None, :]).sum(-1)  # (..., 2)
    across = edges[..., 0, 0] * along[..., 1] - edges[..., 0, 1] * along[..., 0]
    height = np.maximum(np.abs(across), tiny)[..., None]
    with np.errstate(over="ignore"):
        slope = ends / height
    measure = np.arctan(slope) / (2 * np.pi) - owens_t(height, slope)
    return np.sign(across) * (measure[..., 1] - measure[..., 0])


def _cells(network: Network) -> list[Floats]:
    """The polygons of a large square on which the network is linear, corners (V, 2) each."""
    square = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    cells = [CENTRE + _FAR * square]
    for *normal, offset in network.hidden.double().tolist():
        sides = [(cell, cell @ normal + offset) for cell in cells]
        parts = [_clipped(cell, sign * side) for cell, side in sides for sign in (1, -1)]
        cells = [part for part in parts if len(part) > 2]
    return cells


def _margin(network: Network, points: Floats, label: int, other: int) -> Floats:
    """Logit of a class minus that of another in float64, (P,)."""
    hidden, out = network.hidden.double().numpy(), network.out.double().numpy()
    active = np.maximum(points @ hidden[:, :2].T + hidden[:, 2], 0)
    lead = out[label] - out[other]
    return active @ lead[:-1] + lead[-1]


def _clipped(corners: Floats, values: Floats) -> Floats:
    """The part of a convex polygon (V, 2) in which a linear function, (V,) there, is positive.

    References:
        Sutherland, Hodgman 1974, Reentrant polygon clipping.
    """
    inside = values > 0
    if inside.all() or not inside.any():
        return corners[inside]
    crossing = inside != np.roll(inside, -1)
    steps = np.roll(corners, -1, 0) - corners
    change = np.where(crossing, values - np.roll(values, -1), 1.0)
    points = corners + (values / change)[:, None] * steps
    both = np.stack([corners, points], 1).reshape(-1, 2)
    return both[np.stack([inside, crossing], 1).ravel()]


def disc(radius: float, rings: int = 16, directions: int = 48) -> Floats:
    """Points that fill a disc about the origin, its centre first, its edge last, (P, 2)."""
    angles = np.linspace(0, 2 * np.pi, directions, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    rims = [radius * ring / rings * circle for ring in range(1, rings + 1)]
    return np.concatenate([np.zeros((1, 2)), *rims])


def exact_radius(p: float) -> float:
    """Phi^-1(p), the radius that the exact probability certifies; 0 where p <= 1/2."""
    return max(0.0, float(ndtri(p)))


def ellipse_area(scale: Floats, radius: float) -> float:
    """Area of {S u : |u| < radius}."""
    return math.pi * radius**2 * abs(float(np.linalg.det(scale)))

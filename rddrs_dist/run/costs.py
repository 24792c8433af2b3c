"""What the work for an image is made of, and the seconds and memory that it takes on a machine.

seconds = samples / network rate + calls * overhead + elements / noise rate + (d^2 n products)
/ product rate + (d^3 products, decompositions) / their rates. Nothing is fitted: rates are
measured on their own, amounts are counted.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Any, Self

import torch

from rddrs_dist.smoothing.batching import Batches

# Matrices of d x d single-precision numbers that are held beside the scale: 10 were seen at the
# peak of a fit; a certificate has a float64 copy and that of the decomposition.
_FIT_MATRICES, _CERTIFY_MATRICES = 10, 4
# Training images that are looked at together, in float64, and what comes of the product.
_LOOKED, _LOOK_BYTES = 8192, 16.0


@dataclass(frozen=True)
class Cost:
    """Amounts of work, of one image or of several.

    Attributes:
        forward: Samples that go forward alone through the network.
        both: Samples that go forward and backward.
        forward_calls: Batches of the former.
        both_calls: Batches of the latter.
        elements: Numbers of all these samples, whose noise is drawn and added.
        products: Operations of float32 matrix products that are not d x d x d.
        products64: The same in float64.
        squares: Operations of float32 d x d x d products.
        squares64: The same in float64.
        factors: Eigendecompositions, in units of d^3; others as their equivalents.
        singular: Singular value decompositions, in units of d^3.
    """

    forward: float = 0.0
    both: float = 0.0
    forward_calls: float = 0.0
    both_calls: float = 0.0
    elements: float = 0.0
    products: float = 0.0
    products64: float = 0.0
    squares: float = 0.0
    squares64: float = 0.0
    factors: float = 0.0
    singular: float = 0.0

    def __add__(self, other: Self) -> Self:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return replace(self, **_named(a + b for a, b in pairs))

    def __mul__(self, factor: float) -> Self:
        return replace(self, **_named(factor * a for a in astuple(self)))

    def rescaled(self, ratio: float) -> Self:
        """The amounts for images with `ratio` times as many pixels and as many samples."""
        powers = astuple(_POWERS)
        return replace(
            self, **_named(a * ratio**k for a, k in zip(astuple(self), powers, strict=True))
        )


def _named(values: Any) -> dict[str, float]:
    """Values by the names of a cost's fields."""
    return dict(zip((field.name for field in fields(Cost)), values, strict=True))


# How amounts grow with the dimension.
_POWERS = Cost(0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 3)

# What the kinds of work are summed up as.
TERMS: dict[str, tuple[str, ...]] = {
    "network": ("forward", "both"),
    "calls": ("forward_calls", "both_calls"),
    "noise": ("elements",),
    "d2n": ("products", "products64"),
    "d3": ("squares", "squares64", "factors", "singular"),
}


@dataclass(frozen=True)
class Rates:
    """What a worker does per second of each kind of work; the fields are those of `Cost`."""

    forward: float
    both: float
    forward_calls: float
    both_calls: float
    elements: float
    products: float
    products64: float
    squares: float
    squares64: float
    factors: float
    singular: float

    def __post_init__(self) -> None:
        if bad := {name: rate for name, rate in asdict(self).items() if not rate > 0}:
            raise ValueError(f"rates must be positive, got {bad}")

    @classmethod
    def of_device(cls, told: Mapping[str, Any]) -> Self:
        """Rates from a few known numbers of a device.

        Args:
            told: `forward` and `both`, samples per second of the network; `matrix_flops`, float32
                operations per second of matrix products; `eigh_seconds` of a float64 matrix of
                `dimension` d. Optional: `matrix_flops64` (half of the former), `svd_seconds`
                (those of eigh), `elements`, numbers drawn per second, and `call_seconds`, what a
                launch of the network takes beside its samples (neither takes time).

        Raises:
            ValueError: If a number is absent, not known here, or not positive.
        """
        wanted = {"forward", "both", "matrix_flops", "eigh_seconds", "dimension"}
        more = {"matrix_flops64", "svd_seconds", "elements", "call_seconds", "name"}
        missing, strange = wanted - told.keys(), told.keys() - wanted - more
        if missing or strange:
            problem = f"lack {sorted(missing)}" if missing else f"have unknown {sorted(strange)}"
            raise ValueError(
                f"device rates {problem}: wanted {sorted(wanted)} and, if known, {sorted(more)}"
            )
        numbers = {key: value for key, value in told.items() if key != "name"}
        for key, value in numbers.items():
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(
                    f"device rate {key} must be a positive number, got {value!r}: correct the file"
                )
        flops, cube = float(told["matrix_flops"]), float(told["dimension"]) ** 3
        calls = 1 / float(told["call_seconds"]) if "call_seconds" in told else math.inf
        double = float(told.get("matrix_flops64", flops / 2))
        return cls(
            forward=float(told["forward"]),
            both=float(told["both"]),
            forward_calls=calls,
            both_calls=calls,
            elements=float(told.get("elements", math.inf)),
            products=flops,
            products64=double,
            squares=flops,
            squares64=double,
            factors=cube / float(told["eigh_seconds"]),
            singular=cube / float(told.get("svd_seconds", told["eigh_seconds"])),
        )


def seconds(cost: Cost, rates: Rates) -> dict[str, float]:
    """Predicted seconds of each of `TERMS`."""
    parts = {
        name: amount / rate
        for (name, amount), rate in zip(asdict(cost).items(), astuple(rates), strict=True)
    }
    return {term: sum(parts[kind] for kind in kinds) for term, kinds in TERMS.items()}


def memory(
    shape: tuple[int, ...],
    images: int,
    samples: int,
    n: int,
    *,
    activations: float,
    weights: float,
    training: float,
    device: str,
) -> dict[str, float]:
    """Bytes that a worker holds at most while it fits and certifies full covariances.

    Args:
        shape: Shape of an image, d elements.
        images: Images in a shard.
        samples: Samples per image in one launch of the fit.
        n: Samples of a certificate.
        activations: Bytes of all activations of the network for one sample.
        weights: Bytes of the network.
        training: Bytes of the training images.
        device: cpu, or cuda, whose launches are larger.

    Returns:
        Bytes of the `scales` (4 d^2 per image), of the `buffers` of d x d numbers beside them, of
        one `launch` of samples with its activations, of the `look` at training images, and of
        what is there all the time (`fixed`): the network and the training images.
    """
    d = math.prod(shape)
    # Only its sizes are read; anything but a CPU counts as a GPU.
    image = torch.empty(1, *shape, device="cpu" if device == "cpu" else "meta")
    fit, certificate = Batches.of(image, samples), Batches.of(image, n)
    together = min(fit.images, images)
    rows = max(together * fit.blocks[0], min(certificate.images, images) * certificate.blocks[0])
    matrix = 4.0 * d * d
    return {
        "scales": images * matrix,
        "buffers": max(together * _FIT_MATRICES, images * _CERTIFY_MATRICES) * matrix,
        "launch": rows * (3 * 4.0 * d + activations),
        "look": _LOOKED * _LOOK_BYTES * d if training else 0.0,
        "fixed": weights + training,
    }

"""Arrays as pictures that a page carries in itself."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Blue and red of equal lightness, through white: signs tell apart with any colour vision.
_BELOW, _ABOVE = np.array([33, 102, 172]), np.array([178, 24, 43])


def shown(pixels: NDArray[np.floating]) -> str:
    """An image with pixels in [0, 1], others clipped.

    Args:
        pixels: (C, H, W), C of 1 or 3.

    Returns:
        Its PNG as a data URI.
    """
    return _uri(np.clip(np.moveaxis(pixels, 0, -1), 0, 1) * 255)


def magnitudes(values: NDArray[np.floating]) -> str:
    """Values above zero, the largest white.

    Args:
        values: (C, H, W).
    """
    largest = float(values.max())
    return shown(values / largest if largest > 0 else values)


def signed(values: NDArray[np.floating]) -> str:
    """Values of either sign: blue below zero, red above, white at zero; colours for colours.

    Args:
        values: (C, H, W).
    """
    scaled = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    if len(values) > 1:
        return shown(0.5 + 0.5 * scaled)
    share = np.abs(scaled[0])[..., None]
    ends = np.where(scaled[0][..., None] < 0, _BELOW, _ABOVE)
    return _uri(255 * (1 - share) + ends * share)


def _uri(pixels: NDArray[np.floating]) -> str:
    """(H, W, C) of 0 to 255 as a data URI."""
    content = io.BytesIO()
    rounded = np.rint(pixels).astype(np.uint8)
    Image.fromarray(rounded[..., 0] if rounded.shape[-1] == 1 else rounded).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()

"""The shapes of images against the shape of the network's input."""

import numpy as np
import numpy.typing as npt

CROPPED = 0.2
"""Share of an image removed by the centre crop above which there is a warning."""
MULTIPLE = 32
"""The total stride of most backbones, which ignore the remainder of other sizes."""
LONGEST = 4
"""Largest ratio of the longer side to the shorter."""

Sizes = npt.NDArray[np.int64]
"""(n, 2) heights and widths in pixels."""


def cropped(sizes: Sizes, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the share of each image that is cropped when it covers ``size``: (n,), in 0..1."""
    ratios = sizes[:, 0] / sizes[:, 1] * size[1] / size[0]
    kept: npt.NDArray[np.float64] = np.minimum(ratios, 1 / ratios)
    return 1 - kept


def fitting_size(sizes: Sizes, shorter: int) -> tuple[int, int]:
    """Return the size with a given shorter side that crops images least.

    Args:
        sizes: The sizes of the images, at least one.
        shorter: The shorter side in pixels.

    Returns:
        (height, width): a square, or about the shape of the median image if a square would remove
        more than a fifth of it, and this shape removes at most half as much on average.
    """
    square = shorter, shorter
    removed = cropped(sizes, square)
    aspect = float(np.median(sizes[:, 0] / sizes[:, 1]))
    ratio = min(max(aspect, 1 / aspect), LONGEST)
    longer = max(shorter, MULTIPLE * round(shorter * ratio / MULTIPLE))
    shape = (longer, shorter) if aspect > 1 else (shorter, longer)
    if np.median(removed) > CROPPED and cropped(sizes, shape).mean() <= removed.mean() / 2:
        return shape
    return square

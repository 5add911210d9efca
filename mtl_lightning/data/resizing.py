"""RGB pixels of any shape, scaled to the size that training uses."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from mtl_lightning.data.images import MAX_PIXELS, Pixels
from mtl_lightning.system.errors import UserError

Resize = Literal["cover", "contain", "stretch"]
"""How images of another shape get the network's size, see `resize`."""


def image_shape(size: int | Sequence[int]) -> tuple[int, int]:
    """Return the (height, width) in pixels for a config's ``image_size``.

    Raises:
        UserError: Unless it is one or two positive integers.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise UserError(
            f"image_size should be pixels: one number, or [height, width]. Found {size}"
        )
    return sides[0], sides[1]


def resize(
    image: Pixels, size: tuple[int, int], max_pixels: int = MAX_PIXELS, mode: Resize = "cover"
) -> Pixels:
    """Scale an image to the network's size.

    Args:
        image: (height, width, 3), uint8.
        size: The (height, width) of the network's input.
        max_pixels: Limit of the result: to cover 128 x 128, a strip of 1 x 100,000 grows
            16,384-fold.
        mode: ``cover``: until it just covers ``size``, keeping its aspect ratio; ``contain``:
            until it just fits into ``size``, keeping its aspect ratio, between black bars;
            ``stretch``: to ``size``, whatever its aspect ratio.

    Returns:
        (h, w, 3), uint8, antialiased: of exactly that size, but for ``cover`` with h >= height,
        w >= width and one of them equal; the same array if it has that size already.

    Raises:
        UserError: If the result would have more pixels than allowed.
    """
    height, width = image.shape[:2]
    target = size if mode == "stretch" else _scaled((height, width), size, mode)
    scaled = image if target == (height, width) else _scale(image, target, size, max_pixels)
    if mode != "contain" or target == size:
        return scaled
    whole = np.zeros((*size, 3), dtype=np.uint8)
    top, left = (size[0] - target[0]) // 2, (size[1] - target[1]) // 2
    whole[top : top + target[0], left : left + target[1]] = scaled
    return whole


def _scaled(
    shape: tuple[int, int], size: tuple[int, int], mode: Literal["cover", "contain"]
) -> tuple[int, int]:
    """Return the (height, width) of an image that covers ``size``, or fits into it."""
    ratios = size[0] / shape[0], size[1] / shape[1]
    if mode == "cover":
        scale = max(ratios)
        return max(size[0], round(shape[0] * scale)), max(size[1], round(shape[1] * scale))
    scale = min(ratios)
    fitting = [min(side, max(1, round(own * scale))) for side, own in zip(size, shape, strict=True)]
    return fitting[0], fitting[1]


def _scale(
    image: Pixels, target: tuple[int, int], size: tuple[int, int], max_pixels: int
) -> Pixels:
    height, width = image.shape[:2]
    if target[0] * target[1] > max_pixels:
        raise UserError(
            f"{height} x {width} pixels, which cover {size[0]} x {size[1]} as {target[0]} x "
            f"{target[1]}, and data.max_pixels allows {max_pixels:,}"
        )
    # Torch's kernel for uint8: within 1 of Pillow's, in a fifth of its time.
    whole = torch.from_numpy(image if image.flags.writeable else image.copy())
    # With this batch dimension the strides are channels_last, and so are the result's.
    batch = whole[None].permute(0, 3, 1, 2)
    scaled = F.interpolate(batch, target, mode="bilinear", antialias=True)
    pixels: Pixels = scaled.permute(0, 2, 3, 1)[0].contiguous().numpy()
    return pixels

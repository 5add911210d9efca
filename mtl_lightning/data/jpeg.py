"""Decoding JPEG files with libjpeg-turbo: the same pixels as Pillow's, in about half the time."""

import math
from collections.abc import Callable
from typing import IO

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

Pixels = npt.NDArray[np.uint8]

_ENOUGH = ("RGB", "L")
"""Modes that are decoded here; files for printing (CMYK) are rare."""

_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""Operations that turn an image upright, by its EXIF orientation."""


def covering(size: tuple[int, int], cover: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest (width, height) that covers a (height, width), rotated or not."""
    scale = max(max(cover) / side for side in size)
    return math.ceil(size[0] * scale), math.ceil(size[1] * scale)


def decoded(image: Image.Image, file: IO[bytes], cover: tuple[int, int] | None) -> Pixels | None:
    """Return the pixels of a JPEG file as it is displayed.

    Args:
        image: The image with the header read by Pillow; its size has been checked.
        file: The open file; its position is not changed.
        cover: See `images.decode`.

    Returns:
        RGB, (height, width, 3), uint8; None for files that are left to Pillow: other formats and
        modes, and files with any defect, which Pillow may still read or else gives a reason for.
    """
    if image.format != "JPEG" or image.mode not in _ENOUGH:
        return None
    width, height = image.size
    factor = 1
    if cover is not None:
        least_width, least_height = covering(image.size, cover)
        while factor < 8 and (
            -(-width // (2 * factor)) >= least_width and -(-height // (2 * factor)) >= least_height
        ):
            factor *= 2
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    try:
        if simplejpeg.decode_jpeg_header(content)[:2] != (height, width):
            return None  # the two readers see images of different sizes
        pixels: Pixels = simplejpeg.decode_jpeg(
            content, min_height=-(-height // factor), min_width=-(-width // factor)
        )
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # whatever is wrong with the file
        return None
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))

"""From an image file to RGB pixels, and down to the size that training wants."""

import os
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mtl_lightning.errors import UserError

Pixels = npt.NDArray[np.uint8]

_WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}


def decode(path: str | os.PathLike[str], content: bytes | None = None) -> Pixels:
    """Read an image file as the eye sees it.

    The EXIF orientation is applied; transparency (alpha, or a transparent colour) is laid on
    white; 16-bit greys are scaled by 1/257; CMYK, palette, grey and 1-bit images become RGB. Of
    an animation the first frame is taken.

    Args:
        path: A file of any format that Pillow reads.
        content: What the file holds, if it does not lie at ``path``, which then only names it.

    Returns:
        RGB pixels, (height, width, 3), uint8, writable.

    Raises:
        UserError: If the file cannot be read, is broken or is not an image.
    """
    try:
        with Image.open(path if content is None else BytesIO(content)) as image:
            return pixels_of(image)
    except FileNotFoundError:
        raise UserError(f"image {os.fspath(path)} does not exist") from None
    except Exception as error:  # Pillow's readers let a broken file surface as any type there is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"image {os.fspath(path)} cannot be read ({reason}); "
            "expected an intact JPEG, PNG, WebP or BMP file"
        ) from error


def pixels_of(image: Image.Image) -> Pixels:
    """Return a Pillow image as the eye sees it, see `decode`: (height, width, 3) RGB, uint8."""
    ImageOps.exif_transpose(image, in_place=True)
    return np.array(_rgb(image))


def image_shape(size: int | Sequence[int]) -> tuple[int, int]:
    """Return the (height, width) in pixels that a config's ``image_size`` asks for.

    Raises:
        UserError: Unless it is one positive whole number, or two.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise UserError(f"image_size is {size}, expected pixels: one number, or [height, width]")
    return sides[0], sides[1]


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale an image until it just covers ``size``, keeping its aspect: nothing is distorted.

    Args:
        image: (height, width, 3), uint8.
        size: The (height, width) to cover.

    Returns:
        (h, w, 3), uint8, with h >= height, w >= width and one of them equal, antialiased; the
        same array if it has that size already.
    """
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    target = max(size[0], round(height * scale)), max(size[1], round(width * scale))
    if target == (height, width):
        return image
    scaled = Image.fromarray(image).resize((target[1], target[0]), Image.Resampling.BILINEAR)
    return np.array(scaled)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; save it with 8 or 16 bits")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")

"""From an image file to RGB pixels."""

import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from mtl_lightning.data import jpeg
from mtl_lightning.data.intensity import Intensity, Stored, UnknownRangeError, colours, grey
from mtl_lightning.system.errors import UserError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 89_478_485
"""Pillow's own threshold: 256 MiB of RGB. Few cameras exceed it, and each worker can hold one."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
"""The formats that are read, by content and not by name. Pillow knows more, but one of them runs a
program (EPS) and others allocate memory without any limit."""

_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WITH_ALPHA = {"RGBA", "RGBa", "LA", "La", "PA"}


@cache
def suffixes() -> tuple[str, ...]:
    """Return the file suffixes that are read, in lower case: ``.jpg``, ..."""
    known = Image.registered_extensions()  # only those that this build of Pillow can read
    return tuple(suffix for kind in FORMATS for suffix, own in known.items() if own == kind)


def decode(
    path: str | os.PathLike[str],
    max_pixels: int = MAX_PIXELS,
    content: bytes | None = None,
    cover: tuple[int, int] | None = None,
    intensity: Intensity | None = None,
) -> Pixels:
    """Read an image file as it is displayed.

    The EXIF orientation is applied; transparency (alpha, or a transparent colour) is composited
    on white; 16-bit greys are scaled by 1/257, unless their range may be that of 12 bits; CMYK,
    palette, grey and 1-bit images become RGB. An animation yields its first frame.

    Args:
        path: A file of one of `FORMATS`, whatever its name.
        max_pixels: A larger image is refused by its header, before it is decoded.
        content: The content of the file, if it is not at ``path``, which then only names it.
        cover: The (height, width) needed in the end, see `resizing.resize`. A JPEG file that is
            at least twice as large is decoded at a half, quarter or eighth of its size, which still
            covers it: most of its data is then never computed. (Not with ``intensity``.)
        intensity: The values that are black and white, if the format does not define them.

    Returns:
        RGB pixels, (height, width, 3), uint8, writable.

    Raises:
        UserError: If the file cannot be read, is broken, is not an image, is too large, or if its
            white value is not known.
    """
    with reading(os.fspath(path), max_pixels):
        if content is None:
            _check_file(os.stat(path))
        with (
            open(path, "rb") if content is None else BytesIO(content) as file,
            _opened(file) as image,
        ):
            _check_size(image, max_pixels)
            pixels = jpeg.decoded(image, file, cover) if intensity is None else None
            return pixels_of(image, max_pixels, cover, intensity) if pixels is None else pixels


def content_of(path: str, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return the bytes of an image file without decoding it.

    Raises:
        UserError: If the file cannot be read.
    """
    with reading(path, max_pixels):
        return file_content(path)


def file_content(path: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is empty, or no regular file.
    """
    _check_file(os.stat(path))
    with open(path, "rb") as file:
        return file.read()


def encode(pixels: Pixels | npt.NDArray[np.uint16]) -> bytes:
    """Encode pixels, (height, width, 3) RGB or grey, as a PNG file, which is lossless."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


class _Limit:
    """Pillow's own limit, which is global to the process: lifted while any thread reads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before = Image.MAX_IMAGE_PIXELS

    def enter(self, max_pixels: int) -> None:
        """Set the limit."""
        with self.lock:
            if not self.inside:
                self.before = Image.MAX_IMAGE_PIXELS
            self.inside += 1
            Image.MAX_IMAGE_PIXELS = max_pixels

    def leave(self) -> None:
        """Restore the limit if no other thread reads."""
        with self.lock:
            self.inside -= 1
            if not self.inside:
                Image.MAX_IMAGE_PIXELS = self.before


_LIMIT = _Limit()


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Have Pillow refuse larger images, where it looks before there is an image."""
    _LIMIT.enter(max_pixels)
    try:
        yield
    finally:
        _LIMIT.leave()


@contextmanager
def reading(name: str, max_pixels: int) -> Iterator[None]:
    """Turn any error while an image is read into a ``UserError`` of one line.

    Args:
        name: The name of the image for the message.
        max_pixels: The limit for Pillow, which checks some images itself before they are opened.
    """
    try:
        with pixel_limit(max_pixels):
            yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"image {name} does not exist") from None
    except UnknownRangeError as error:
        raise UserError(
            f"image {name} has {error}; set which values are black and white: "
            f"`intensity: {{min: 0, max: 4095}}` or `intensity: {{percentiles: [1, 99]}}` of its "
            f"source (--intensity of predict)"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise UserError(
            f"image {name} has {pixels:,} pixels, and data.max_pixels allows {max_pixels:,}"
        ) from error
    except Exception as error:  # Pillow's readers raise errors of any type for a broken file
        if isinstance(error, OSError) and error.strerror is not None:  # not about its content
            raise UserError(f"image {name} cannot be read: {error.strerror}") from error
        raise UserError(
            f"image {name} cannot be read ({reason_of(error)}); "
            "expected an intact JPEG, PNG, WebP, BMP, GIF or TIFF file"
        ) from error


def reason_of(error: Exception) -> str:
    """Return in one line why a file could not be read or decoded, without its name."""
    if isinstance(error, UnidentifiedImageError):  # Pillow's message names the file object
        return "not an image, or broken at its start"
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or " ".join(str(error).split()) or type(error).__name__


def _opened(file: IO[bytes]) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:] in _HEIC:
            raise ValueError("a HEIC photo, which is not read; convert it to JPEG") from None
        if head[:4] in _TIFF:
            kind = "a TIFF file broken at its start, or of a kind that is not read"
            raise ValueError(f"{kind}; save it with 8 or 16 bits, unsigned, zero black") from None
        raise


def _check_file(found: os.stat_result) -> None:
    """Refuse what cannot be an image; opening a pipe would block until something writes to it."""
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file")
    if not found.st_size:
        raise ValueError("an empty file")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    tags = getattr(image, "tag_v2", {})  # a TIFF's, whose tiles may be larger than the image
    tile = int(tags.get(TILEWIDTH, 0)) * int(tags.get(TILELENGTH, 0))
    pixels = max(image.width * image.height, tile)
    if pixels > max_pixels:
        raise Image.DecompressionBombError(str(pixels))
    if not pixels:
        raise ValueError("no pixels")


def pixels_of(
    image: Image.Image,
    max_pixels: int,
    cover: tuple[int, int] | None = None,
    intensity: Intensity | None = None,
) -> Pixels:
    """Return a Pillow image as it is displayed, see `decode`; call it within `reading`."""
    _check_size(image, max_pixels)
    stored = Stored.of(image)
    if cover is not None and intensity is None:
        # It may be rotated, so cover both orientations. Pillow returns at least that size.
        image.draft(None, jpeg.covering(image.size, cover))
    ImageOps.exif_transpose(image, in_place=True)
    values = grey(image, stored, intensity)
    if values is not None:
        return np.array(Image.fromarray(values).convert("RGB"))
    return colours(np.array(_rgb(image)), stored, intensity)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")

"""Grey values of more than 8 bits, and how they become bytes: which is black, and which white."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from mtl_lightning.system.errors import UserError

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[Any]

TWELVE_BITS = 4095
"""If no value of a 16-bit image is above it, its range may not be that of 16 bits: cameras,
scanners and detectors of 10 and 12 bits write such files, which would keep 5 and 17 grey levels."""

_WHITE_IS_ZERO = 0
_SIGNED = 2


class UnknownRangeError(ValueError):
    """The black and white values of an image are not known."""


@dataclass(frozen=True)
class Intensity:
    """The values of an image file that become black and white; those between follow linearly.

    It applies to every image of a source, in the file's own values, also to 8-bit files; all
    channels of a colour image are mapped alike. If a TIFF file says that its zero is white, the
    result is inverted.

    Args:
        min: This value and all below it are black.
        max: This value and all above it are white.
        percentiles: Instead of ``min`` and ``max``, percentiles of each image, such as
            ``[1, 99]``; the overall brightness of an image is then lost.

    Raises:
        UserError: Unless it is ``min`` below ``max``, or two rising percentiles in 0..100.
    """

    min: float | None = None
    max: float | None = None
    percentiles: list[float] | None = None

    def __post_init__(self) -> None:
        if self.percentiles is None:
            bounds, least, most = [self.min, self.max], -math.inf, math.inf
        else:
            bounds, least, most = list(self.percentiles), 0.0, 100.0
        known = [bound for bound in bounds if bound is not None and math.isfinite(bound)]
        rising = len(known) == len(bounds) == 2 and least <= known[0] < known[1] <= most
        if not rising or (self.percentiles is not None and (self.min, self.max) != (None, None)):
            raise UserError(
                f"intensity should be {{min: ..., max: ...}} with min below max, or {{percentiles: "
                f"[1, 99]}}, rising in 0..100. Found {self}"
            )

    def __str__(self) -> str:
        """Return it as written in a config."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return "{" + ", ".join(f"{name}: {_written(value)}" for name, value in given.items()) + "}"

    def limits(self, values: Values) -> tuple[float, float]:
        """Return the values of an image that become black and white."""
        if self.percentiles is None:
            assert self.min is not None
            assert self.max is not None
            return self.min, self.max
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 0.0
        low, high = np.percentile(finite, self.percentiles)
        return float(low), float(high)


@dataclass(frozen=True)
class Stored:
    """The format of a file's pixels.

    Attributes:
        bits: Number of bits of a value.
        signed: Whether values may be below zero.
        white_is_zero: Whether zero is white.
        known: Whether the format defines white.
    """

    bits: int
    signed: bool
    white_is_zero: bool
    known: bool

    @classmethod
    def of(cls, image: Image.Image) -> "Stored":
        """Read it from an image that is open but not loaded yet."""
        tags = getattr(image, "tag_v2", {})
        if tags:
            bits = max(tags.get(BITSPERSAMPLE, (1,)))
            signed = _SIGNED in tags.get(SAMPLEFORMAT, ())
            inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
            return cls(bits, signed, inverted, bits <= 16 and not signed)
        colours = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
        # Pillow scales PGM files to 16 bits; in other formats, mode "I" does not define the range.
        known = image.mode != "I" or image.format == "PPM"
        return cls(16 if _is_deep(image) or colours else 8, not known, False, known)


def grey(image: Image.Image, stored: Stored, intensity: Intensity | None) -> Pixels | None:
    """Return the grey values of an image as bytes, (height, width).

    Args:
        image: The upright image.
        stored: The format of its file.
        intensity: The setting of its source.

    Returns:
        None for colours, and for 8-bit images without a setting.

    Raises:
        UnknownRangeError: If neither defines black and white.
    """
    is_grey = image.mode == "L" and (stored.signed or intensity is not None)
    if not (is_grey or _is_deep(image)):
        return None
    values = _values(image, stored)
    limits = intensity.limits(values) if intensity else (0.0, _white(image, stored, values))
    pixels = scaled(values, *limits)
    return 255 - pixels if stored.white_is_zero else pixels


def colours(pixels: Pixels, stored: Stored, intensity: Intensity | None) -> Pixels:
    """Apply a source's setting to 8-bit colours, (height, width, 3).

    Raises:
        ValueError: If the file has 16-bit colours, of which Pillow reads the upper 8 bits, and
            these are not enough.
    """
    if stored.bits > 8:
        save = "save it with 8 bits"
        if intensity is not None:
            raise ValueError(
                f"its colours have {stored.bits} bits, of which 8 are read, so that `intensity` "
                f"cannot apply; {save}"
            )
        most = int(pixels.max())
        if 0 < most <= TWELVE_BITS >> 8:
            raise ValueError(
                f"its colours have {stored.bits} bits and stay below {(most + 1) << 8:,}, as if "
                f"of 12 bits; {save}"
            )
    return pixels if intensity is None else scaled(pixels, *intensity.limits(pixels))


def scaled(values: Values, low: float, high: float) -> Pixels:
    """Map values to bytes: ``low`` to 0, ``high`` to 255, NaN to 0."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        every = np.arange(2.0 ** (8 * values.dtype.itemsize))
        return np.asarray(scaled(every, low, high)[values], dtype=np.uint8)
    if low >= high:
        return np.where(values > low, 255, 0).astype(np.uint8)
    # 32-bit integers are exact only in double precision.
    shares = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / (high - low)
    pixels: Pixels = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _values(image: Image.Image, stored: Stored) -> Values:
    """Return the values of the file: Pillow does not have modes for all kinds of numbers."""
    values = np.asarray(image)
    if image.mode == "L" and stored.signed:
        return values.view(np.int8)
    if image.mode == "L" and stored.white_is_zero:
        return 255 - values  # as in the file: Pillow inverts only 8-bit values
    if image.mode == "I" and stored.bits == 32 and not stored.signed:
        return values.view(np.uint32)
    return values


def _white(image: Image.Image, stored: Stored, values: Values) -> float:
    if image.mode == "F":
        raise UnknownRangeError("pixels that are floats")
    low, high = int(values.min()), int(values.max())
    if not stored.known:
        kind = "signed" if stored.signed else "unsigned"
        raise UnknownRangeError(f"{stored.bits}-bit {kind} pixels, from {low:,} to {high:,}")
    if stored.bits == 16 and 0 < high <= TWELVE_BITS:
        raise UnknownRangeError(f"16-bit pixels, none above {high:,}, as if of 12 bits or fewer")
    return float(2**stored.bits - 1)


def _written(value: float | list[float]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(f'{bound:g}' for bound in value)}]"
    return f"{value:g}"

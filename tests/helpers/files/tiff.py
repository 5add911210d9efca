"""TIFF files of kinds that Pillow reads and does not write."""

import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

WHITE_IS_ZERO, BLACK_IS_ZERO, COLOURS = 0, 1, 2
_FORMATS = {"u": 1, "i": 2, "f": 3}
_SHORT, _LONG = 3, 4


def tiff(
    pixels: npt.NDArray[np.generic],
    photometric: int = BLACK_IS_ZERO,
    order: str = "<",
    packed: tuple[int, bytes] | None = None,
) -> bytes:
    """Return a TIFF file of one strip.

    Args:
        pixels: (height, width) or (height, width, channels), of the file's own type.
        photometric: What zero is.
        order: Of the bytes, ``<`` or ``>``.
        packed: The bits of a value and the file's data, where no type of numpy has so many.
    """
    height, width, channels = (*pixels.shape, 1)[:3]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    bits, data = packed or (8 * pixels.dtype.itemsize, data)
    tags: Mapping[int, tuple[int, list[int]]] = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [bits] * channels),
        259: (_SHORT, [1]),  # no compression
        262: (_SHORT, [photometric]),
        273: (_LONG, [0]),  # where the data begin, below
        277: (_SHORT, [channels]),
        278: (_LONG, [height]),
        279: (_LONG, [len(data)]),
        339: (_SHORT, [_FORMATS[pixels.dtype.kind]] * channels),
    }
    beside = 8 + 2 + 12 * len(tags) + 4
    more = sum(2 * len(values) for kind, values in tags.values() if kind == _SHORT)
    entries, long = b"", b""
    for tag, (kind, values) in tags.items():
        own = [beside + more] if tag == 273 else values
        value = struct.pack(f"{order}{len(own)}{'H' if kind == _SHORT else 'I'}", *own)
        if len(value) > 4:
            place = struct.pack(f"{order}I", beside + len(long))
            long += value
            value = place
        entries += struct.pack(f"{order}HHI", tag, kind, len(own)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return (head + entries + bytes(4) + long).ljust(beside + more, b"\0") + data

"""Image files of some kilobytes that unpack to gigabytes, by format."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

SIDE = 30_000
"""Of images of 2.7 GB of RGB."""


def zeros(length: int) -> bytes:
    """Return ``length`` zero bytes as zlib packs them, without making them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = packer.compress(bytes(length % (1 << 20))) + packer.flush()
    checksum = struct.pack(">L", length % 65521 << 16 | 1)
    return b"\x78\xda" + block * (length >> 20) + rest + checksum


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 8, color: int = 2, *extra: bytes) -> bytes:
    """Return a whole, black PNG: colour type 2 is RGB, 3 a palette."""
    header = struct.pack(">LLBBBBB", width, height, bits, color, 0, 0, 0)
    row = 1 + (width * bits * (3 if color == 2 else 1) + 7) // 8
    data = chunk(b"IDAT", zeros(row * height))
    parts = (chunk(b"IHDR", header), *extra, data, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _palette() -> bytes:
    return png(4 * SIDE, SIDE, 1, 3, chunk(b"PLTE", bytes(6)))


def _text(kind: bytes, start: bytes) -> bytes:
    return png(16, 16, 8, 2, chunk(kind, start + zeros(1 << 30)))


def _saved(kind: str, **options: object) -> bytearray:
    file = io.BytesIO()
    Image.new("P" if kind == "GIF" else "RGBA" if kind == "WEBP" else "RGB", (16, 16)).save(
        file, kind, **options
    )
    return bytearray(file.getvalue())


def _gif() -> bytes:
    """Its screen is small, the frame on it is not."""
    content = _saved("GIF")
    struct.pack_into("<HH", content, content.rindex(b"\x2c") + 5, 65535, 65535)
    return bytes(content)


def _webp() -> bytes:
    """Its frame is small, the canvas that the decoder makes at once is not."""
    content = _saved("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    start = content.index(b"VP8X") + 12
    content[start : start + 6] = (16383).to_bytes(3, "little") * 2
    return bytes(content)


def tiff(width: int, height: int, tile: int) -> bytes:
    """Return a whole, black grey TIFF of one square tile."""
    data = zeros(tile * tile)
    data += bytes(len(data) % 2)
    longs = {256: width, 257: height, 322: tile, 323: tile, 324: 8, 325: len(data)}
    shorts = {258: 8, 259: 8, 262: 1, 277: 1}
    entries = [struct.pack("<HHLL", tag, 4, 1, value) for tag, value in longs.items()]
    entries += [struct.pack("<HHLHH", tag, 3, 1, value, 0) for tag, value in shorts.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<L", 8 + len(data)) + data + directory


def tags(claims: int = 3000, size: int = 700_000) -> bytes:
    """Return EXIF of ``size`` bytes with ``claims`` tags, each of which is all of it."""
    entries = (struct.pack("<HHLL", 1000 + i, 7, size - 8, 8) for i in range(claims))
    content = b"II*\0\x08\0\0\0" + struct.pack("<H", claims) + b"".join(entries)
    return content + bytes(size - len(content))


def _jpeg() -> bytes:
    """Without the header that would make Pillow look for the resolution elsewhere."""
    content, exif = _saved("JPEG"), tags()
    parts = [b"Exif\0\0" + exif[i : i + 65000] for i in range(0, len(exif), 65000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    return content[:2] + segments + content[4 + struct.unpack_from(">H", content, 4)[0] :]


BOMBS: dict[str, Callable[[], bytes]] = {
    "rgb.png": lambda: png(SIDE, SIDE),
    "palette.png": _palette,
    "frame.gif": _gif,
    "canvas.webp": _webp,
    "tile.tiff": lambda: tiff(16, 16, 1 << 15),
    "text.png": lambda: _text(b"zTXt", b"a\0\0"),
    "unicode.png": lambda: _text(b"iTXt", b"a\0\1\0\0\0"),
    "profile.png": lambda: _text(b"iCCP", b"a\0\0"),
    "pixels.png": lambda: png(16, 16)[:33] + chunk(b"IDAT", zeros(1 << 30)) + chunk(b"IEND", b""),
}
TAGS: dict[str, Callable[[], bytes]] = {
    "tags.jpg": _jpeg,
    "tags.png": lambda: bytes(_saved("PNG", exif=tags())),
    "tags.webp": lambda: bytes(_saved("WEBP", exif=tags())),
}
"""What Pillow guards against since 13.0, the first for Python 3.11 and newer alone."""

"""Run-length encoded masks, as in COCO (Lin et al. 2014, "Microsoft COCO: Common Objects")."""

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BEGINNING = re.compile(r'\s*(?:\{\s*"|\[\s*\{|\[\s*\]$)')
_LARGEST = np.iinfo(np.uint16).max
_DIGITS = 12
"""Characters of a count in compressed text: 60 bits."""


def is_rle(text: str) -> bool:
    """Whether a text is an encoded mask, right or wrong, and not the name of a file."""
    return _BEGINNING.match(text) is not None


def read_rle(text: str) -> NDArray[np.int64]:
    """Return the values of an encoded mask, ``(height, width)``.

    A mask ``{"size": [height, width], "counts": ...}`` is 1 inside and 0 outside. A list of
    annotations ``[{"category_id": 7, "segmentation": {"size": ..., "counts": ...}}, ...]`` has
    their categories, later ones over earlier ones, and 0 where there is none. Counts are the
    lengths of runs down the columns, outside and inside by turns: a list of numbers, or the
    compressed text of the COCO API.

    Raises:
        ValueError: If it is none, or has more pixels than Pillow may read.
    """
    try:
        stated = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deep, expected a run-length encoding") from None
    if not isinstance(stated, list):
        stated = [{"category_id": 1, "segmentation": stated}]
    if not stated:
        raise ValueError("an empty list, expected annotations with masks; leave the cell empty")
    values = np.zeros(_annotation(stated[0])[1].shape, dtype=np.int64)
    for annotation in stated:
        category, inside = _annotation(annotation)
        if inside.shape != values.shape:
            sizes = f"{list(values.shape)} and {list(inside.shape)}"
            raise ValueError(f"masks of the sizes {sizes}, expected one size")
        values[inside] = category
    return values


def _annotation(annotation: Any) -> tuple[int, NDArray[np.bool_]]:
    """Return the category of an annotation, and which pixels it has."""
    if not isinstance(annotation, dict) or not {"category_id", "segmentation"} <= set(annotation):
        raise ValueError("an annotation should have category_id and segmentation")
    category, encoding = annotation["category_id"], annotation["segmentation"]
    if type(category) is not int or not 0 <= category <= _LARGEST:
        raise ValueError(f"category_id should be in 0..{_LARGEST}. Found {str(category)[:20]}")
    if isinstance(encoding, list):
        raise ValueError("a mask of polygons, expected a run-length encoding (size and counts)")
    if not isinstance(encoding, dict) or not {"size", "counts"} <= set(encoding):
        raise ValueError("a run-length encoding should have size and counts")
    return category, _decoded(encoding["size"], encoding["counts"])


def _decoded(size: Any, counts: Any) -> NDArray[np.bool_]:
    if not isinstance(size, list) or len(size) != 2 or not all(_is_count(n) and n for n in size):
        raise ValueError("size should be [height, width] in pixels")
    height, width = size
    # Runs of any length fit into a short text: checked before any pixel is made.
    if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{height} x {width} pixels are more than {Image.MAX_IMAGE_PIXELS:,}")
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(map(_is_count, runs)):
        raise ValueError("counts should be whole numbers from 0 on, or their compressed text")
    if sum(runs) != height * width:
        raise ValueError(
            f"counts of {sum(runs):,} pixels, expected {height * width:,} for the size "
            f"[{height}, {width}]"
        )
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape((height, width), order="F")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _decompressed(text: str) -> list[int]:
    """Return the counts of the COCO API's compressed text.

    A count has six bits a character, from ``0`` on, the lowest first: five of the number, and one
    that says whether more follow. From the fourth on, they are differences to the last but one.
    """
    counts: list[int] = []
    value = place = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or place == _DIGITS:
            raise ValueError("counts should be compressed text of the COCO API")
        value |= (bits & 31) << 5 * place
        place += 1
        if bits & 32:
            continue
        if bits & 16:  # a negative number
            value -= 1 << 5 * place
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = place = 0
    if place:
        raise ValueError("counts end within a number")
    return counts

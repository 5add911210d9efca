"""Columns of files with a label for each pixel: masks of classes, depth, normals."""

import os
from collections import Counter
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from mtl_lightning.audit.images import read_size
from mtl_lightning.commands.proposal.columns import Column, Kind
from mtl_lightning.data.images import file_content
from mtl_lightning.tasks.dense import read_png
from mtl_lightning.tasks.rle import is_rle, read_rle
from mtl_lightning.tasks.segmentation import MOST_CLASSES

READ = 100
"""Number of files of a column that are read."""
FEW_VALUES = 40
"""Distinct values of most files of masks are fewer, those of a grey photo more."""
IGNORED = 255
SHAPES_DIFFER = 0.02
"""Relative difference of aspect ratios above which a file is not of its image's shape."""
UNIT = 0.1
"""Largest difference from 1 of the length of a surface normal, as bytes round it."""
_OTHER = "it names files that are neither masks of classes nor maps of numbers"


def classify_maps(root: str, images: Sequence[str], cells: Sequence[str | None]) -> Column:
    """Classify a column whose cells name files, or hold run-length encoded masks.

    Args:
        root: The folder that its paths are relative to.
        images: The path of each row's image.
        cells: Its cells.

    Returns:
        A column of `Kind.MASKS`, `Kind.DEPTH` or `Kind.NORMALS`; otherwise of `Kind.NOTHING`, with
        the reason.
    """
    filled = [row for row, cell in enumerate(cells) if cell is not None]
    chosen = filled[:: max(1, len(filled) // READ)][:READ]
    maps = []
    for row in chosen:
        try:
            values = _read(root, str(cells[row]))
        except Exception:  # whatever it is, it is no map
            return Column(Kind.NOTHING, reason=_OTHER)
        if values.ndim not in (2, 3) or not _same_shape(values, images[row]):
            return Column(Kind.NOTHING, reason="it names files of another shape than its images")
        maps.append(values)
    return _kind(maps, len(filled))


def _read(root: str, cell: str) -> NDArray[np.generic]:
    if is_rle(cell):
        return read_rle(cell)
    content = file_content(os.path.join(root, cell))
    if content.startswith(b"\x93NUMPY"):
        array: NDArray[np.generic] = np.load(BytesIO(content), allow_pickle=False)
        return array
    text = content[:READ].decode("utf-8-sig", "replace")
    return read_rle(content.decode("utf-8-sig")) if is_rle(text) else read_png(content)


def _same_shape(values: NDArray[np.generic], image: str) -> bool:
    size = read_size(image)
    ratio = values.shape[0] / values.shape[1]
    return size is not None and abs(ratio * size[1] / size[0] - 1) <= SHAPES_DIFFER


def _kind(maps: Sequence[NDArray[np.generic]], labels: int) -> Column:
    if {values.ndim for values in maps} == {3}:
        if all(map(_are_normals, maps)):
            return Column(Kind.NORMALS, labels=labels)
        return Column(Kind.NOTHING, reason="it names pictures in colour")
    if {values.ndim for values in maps} != {2}:
        return Column(Kind.NOTHING, reason=_OTHER)
    distinct = [np.unique(values, return_counts=True) for values in maps]
    if all(values.dtype.kind in "bui" for values in maps):
        few = float(np.median([len(values) for values, _ in distinct])) <= FEW_VALUES
        if few:
            return _masks(distinct, len(maps), labels)
        if all(values.dtype.itemsize == 1 for values in maps):
            reason = "it names grey pictures of 8 bits; if they are depth or the like: "
            return Column(Kind.NOTHING, reason=reason + "{class_path: DenseRegression}")
    low, high = (f(v for values, _ in distinct for v in values[values != 0]) for f in (min, max))
    note = f"values of {low:g} to {high:g}; if they are mm: init_args: {{unit: m, scale: 0.001}}"
    return Column(Kind.DEPTH, labels=labels, reason=note)


def _masks(
    distinct: Sequence[tuple[NDArray[np.generic], NDArray[np.int64]]], read: int, labels: int
) -> Column:
    pixels: Counter[int] = Counter()
    for values, counts in distinct:
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            pixels[int(value)] += count
    others = set(pixels) - {IGNORED}
    ignored = IGNORED in pixels and max(others, default=0) < IGNORED - 1
    known = {str(value): pixels[value] for value in sorted(others if ignored else pixels)}
    if not 2 <= len(known) <= MOST_CLASSES or min(pixels) < 0:
        reason = f"it names files with the values {', '.join(known)}, which are not classes"
        return Column(Kind.NOTHING, reason=reason)
    some = f"{read:,} of {labels:,}" if read < labels else f"all {read:,}"
    note = f"the values in {some} masks; give them names"
    return Column(Kind.MASKS, known, labels, reason=note)


def _are_normals(values: NDArray[np.generic]) -> bool:
    """Whether most vectors of ``(height, width, 3)`` have the length 1, or are 0."""
    if values.shape[2] != 3:
        return False
    numbers = values.astype(np.float64)
    known = values.any(-1)
    if values.dtype == np.uint8:
        numbers = numbers / 127.5 - 1
    lengths = np.linalg.norm(numbers, axis=-1)[known]
    return bool(len(lengths)) and float((np.abs(lengths - 1) < UNIT).mean()) > 1 - UNIT

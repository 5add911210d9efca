"""Rows divided by the cells of a column."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.tasks.cells import moments, number

MOST = 20
"""The most values of a column that are slices of their own."""
RANGES = 5
"""The number of ranges that more numbers or dates are divided into."""


@dataclass(frozen=True)
class Slicing:
    """How a column divides rows.

    Attributes:
        names: The value, or values, of each slice; None for the rows without one.
        slices: (N,) int64, the slice of each row, -1 for rows that are not divided.
    """

    names: Sequence[str | None]
    slices: NDArray[np.int64]

    @classmethod
    def of(cls, cells: Texts, rows: NDArray[np.int64]) -> "Slicing":
        """Divide some rows by the cells of a column.

        Each value is a slice. Of more than `MOST` numbers, or dates (ISO 8601), each of `RANGES`
        ranges with about as many rows is one; of more other values, the most frequent are, and the
        rest is one. Rows without a value are a slice of their own.

        Args:
            cells: (N,) str or None.
            rows: The rows to divide.
        """
        codes, found = pd.factorize(cells[rows])
        texts = found.tolist()
        places = _places(texts)
        if places is not None:  # in their order; what is written in two ways is one value
            places, first, same = np.unique(places, return_index=True, return_inverse=True)
            texts = [texts[i] for i in first]
            codes = np.where(codes < 0, -1, same[codes])
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        names: list[str | None]
        if places is not None and len(texts) > MOST:
            slice_of, names = _ranges(texts, counts)
        elif places is not None:
            names, slice_of = [*texts], np.arange(len(texts))
        else:
            slice_of, names = _frequent(texts, counts)
        if (codes < 0).any():
            slice_of, names = np.append(slice_of, len(names)), [*names, None]  # code -1, the last
        slices = np.full(len(cells), -1, dtype=np.int64)
        slices[rows] = slice_of[codes]
        return cls(names, slices)


def _places(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return where texts are on a line if all are numbers, or all are dates."""
    numbers = [number(text) for text in texts]
    if None not in numbers:
        return np.array(numbers, dtype=np.float64)
    dates = moments(np.array(texts, dtype=object), None)
    return None if np.isnat(dates).any() else dates.astype(np.int64).astype(np.float64)


def _ranges(
    texts: Sequence[str], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str | None]]:
    """Divide different values, in their order, at the quantiles of the rows."""
    middle = np.cumsum(counts) - counts / 2  # of the rows of each value
    cuts = np.minimum((RANGES * middle / counts.sum()).astype(np.int64), RANGES - 1)
    used, slice_of = np.unique(cuts, return_inverse=True)
    names: list[str | None] = []
    for each in range(len(used)):
        own = np.flatnonzero(slice_of == each)
        first, last = texts[own[0]], texts[own[-1]]
        names.append(first if len(own) == 1 else f"{first} to {last}")
    return slice_of, names


def _frequent(
    texts: Sequence[str], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str | None]]:
    """Divide by value, the most frequent first; the rest is one slice."""
    order = sorted(range(len(texts)), key=lambda i: (-counts[i], texts[i]))
    kept = order if len(texts) <= MOST else order[: MOST - 1]
    slice_of = np.full(len(texts), len(kept), dtype=np.int64)
    slice_of[kept] = np.arange(len(kept))
    names: list[str | None] = [texts[i] for i in kept]
    if len(kept) < len(texts):
        names.append(f"{len(texts) - len(kept):,} other values")
    return slice_of, names

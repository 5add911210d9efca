"""The rows of all sources in one sequence, before rows about the same image are merged."""

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.identity import SameBy, identities
from mtl_lightning.data.sources.base import SourceTable, Texts
from mtl_lightning.data.splits import OnContradiction, raise_contradiction
from mtl_lightning.system.errors import quoted, short

Rows = npt.NDArray[np.int64]

Meaning = Callable[[str], Hashable]
"""Returns what a task reads in a text, see `Task.meaning`."""

OnConflict = Literal["error", "first", "drop"]
"""What happens to an image's label for a task if two rows contradict each other."""


class Resolved(NamedTuple):
    """One value for each image.

    Attributes:
        values: (images,) str or None.
        rows: (images,) the row of each value, or -1.
        conflicts: The number of images whose rows have different values.
    """

    values: Texts
    rows: Rows
    conflicts: int


class SourceRows:
    """The rows of all sources, numbered consecutively.

    Args:
        tables: The tables of the sources.
        same_by: Which rows are about the same image.

    Attributes:
        starts: (sources + 1,) the number of the first row of each source.
        images: (images,) str: the distinct images, in order of first appearance.
        image_of_row: (rows,) the number of each row's image.
        distinct: Whether all rows are about different images.
    """

    def __init__(self, tables: Sequence[SourceTable], same_by: SameBy) -> None:
        self.tables = tables
        self.starts = np.cumsum([0, *(len(table.images) for table in tables)])
        self.images: Texts = np.concatenate([table.images for table in tables])
        identity = identities(tables, same_by)
        self.image_of_row: Rows = np.arange(len(identity))
        self.distinct = len(set(identity)) == len(identity)  # the usual case, which is fast
        if not self.distinct:
            codes, _ = pd.factorize(identity)  # numbered by first occurrence
            self.image_of_row = codes.astype(np.int64)
            self.images = self.images[np.unique(codes, return_index=True)[1]]

    @property
    def without_image(self) -> npt.NDArray[np.bool_]:
        """The rows that have no image, (rows,)."""
        lacks = np.zeros(int(self.starts[-1]), dtype=bool)
        for source, table in enumerate(self.tables):
            if table.without_image is not None:
                lacks[self.slice(source)] = table.without_image
        return lacks

    def slice(self, source: int) -> slice:
        """Return the rows of a source."""
        return slice(int(self.starts[source]), int(self.starts[source + 1]))

    def source_of(self, row: int) -> int:
        """Return the number of the source that a row is from."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def location(self, row: int, task: str | None = None, column: int | None = None) -> str:
        """Return the location of a row, and of one or all columns of a task, for a message."""
        source = self.source_of(row)
        return self.tables[source].location(row - int(self.starts[source]), task, column)

    def concatenate(self, columns: Sequence[Texts | None]) -> Texts:
        """Concatenate the columns of the sources, None for a source that has none.

        Returns:
            (rows,), or (rows, columns) if a source has several.
        """
        rows = int(self.starts[-1])
        widths = [column.shape[1] for column in columns if column is not None and column.ndim > 1]
        out = np.full((rows, max(widths, default=1)), None, dtype=object)
        for source, column in enumerate(columns):
            if column is not None:
                column = column.reshape(len(column), -1)
                out[self.slice(source), : column.shape[1]] = column
        return out if widths else out[:, 0]

    def first(self, codes: npt.NDArray[np.integer]) -> Rows:
        """Return the position of each image's first code that is not negative, or -1.

        Args:
            codes: (rows,), or (rows * columns,) with the columns of each row next to each other.
        """
        images = np.repeat(self.image_of_row, len(codes) // max(1, len(self.image_of_row)))
        known = np.flatnonzero(codes >= 0)
        first = np.full(len(self.images), -1, dtype=np.int64)
        first[images[known[::-1]]] = known[::-1]  # the last assignment wins
        return first

    def resolve(
        self,
        values: Texts,
        on_contradiction: OnContradiction,
        task: str | None = None,
        on_conflict: OnConflict = "error",
        meaning: Meaning | None = None,
        about: str | None = None,
    ) -> Resolved:
        """Return one value for each image: the first one in its rows.

        Args:
            values: The value of each row, or None; see `concatenate`.
            on_contradiction: Called for each contradiction if ``on_conflict`` is ``error``.
            task: The task whose labels they are; None if they are no labels.
            on_conflict: Which value an image gets if its rows, or columns, have different ones.
            meaning: The meaning of a text: different texts that mean the same do not contradict.
            about: What the values are, by default ``split`` or the task.
        """
        if self.distinct and values.ndim == 1:
            return Resolved(values, np.where(pd.notna(values), self.image_of_row, -1), 0)
        width = 1 if values.ndim == 1 else values.shape[1]
        values = values.ravel()
        codes = _codes(values, meaning)
        first = self.first(codes)
        known = np.flatnonzero(codes >= 0)
        images = self.image_of_row[known // width]
        clash = known[codes[known] != codes[first[images]]]
        contradicted = np.unique(self.image_of_row[clash // width])
        if on_conflict == "error":
            about = about or ("split" if task is None else f'task "{task}"')
            self._report(clash, values, first, width, on_contradiction, task, about)
        elif on_conflict == "drop":
            first[contradicted] = -1
        has_value = first >= 0
        out = np.full(len(self.images), None, dtype=object)
        out[has_value] = values[first[has_value]]
        return Resolved(out, first // width, len(contradicted))

    def _report(
        self,
        clash: Rows,
        values: Texts,
        first: Rows,
        width: int,
        on_contradiction: OnContradiction,
        task: str | None,
        about: str,
    ) -> None:
        only_first = on_contradiction is raise_contradiction and len(clash) > 1
        more = f", and {len(clash) - 1:,} more like this" if only_first else ""

        def says(position: int) -> str:
            row, column = divmod(position, width)
            location = self.location(row, task, None if width == 1 else column)
            return f"{location} says {quoted(values[position])}"

        for position in clash.tolist():
            image = self.image_of_row[position // width]
            on_contradiction(
                about,
                f"{says(int(first[image]))}, {says(position)} for {short(self.images[image])} "
                f"({about}{more}); expected one answer"
                + (", or data.on_conflict: first or drop" if task else ""),
            )


def _codes(values: Texts, meaning: Meaning | None) -> npt.NDArray[np.integer]:
    """Number the values; those that mean the same have one number, None has -1."""
    codes, texts = pd.factorize(values)
    if meaning is not None:
        numbers: dict[Hashable, int] = {}
        of_text = [numbers.setdefault(meaning(text), len(numbers)) for text in texts]
        codes = np.array([*of_text, -1], dtype=np.int64)[codes]
    return codes

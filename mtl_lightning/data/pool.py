"""The rows of all sources, before those about one image become one."""

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.identity import SameBy, identities
from mtl_lightning.data.sources.base import SourceTable, Texts
from mtl_lightning.data.splits import Complain, refuse
from mtl_lightning.system.errors import quoted, short

Rows = npt.NDArray[np.int64]

Meaning = Callable[[str], Hashable]
"""Gives what a task reads in a text, see `Task.meaning`."""

OnConflict = Literal["error", "first", "drop"]
"""What becomes of an image's label for a task where two rows contradict each other."""


class Pool:
    """The rows of all sources in one sequence: what a row says, and which image it is about."""

    def __init__(self, tables: Sequence[SourceTable], same_by: SameBy) -> None:
        self.tables = tables
        self.starts = np.cumsum([0, *(len(table.images) for table in tables)])
        self.images: Texts = np.concatenate([table.images for table in tables])
        identity = identities(tables, same_by)
        self.image_of_row: Rows = np.arange(len(identity))
        self.distinct = len(set(identity)) == len(identity)  # mostly: the rest is then soon done
        if not self.distinct:
            codes, _ = pd.factorize(identity)  # numbered as they first occur
            self.image_of_row = codes.astype(np.int64)
            self.images = self.images[np.unique(codes, return_index=True)[1]]

    def slice(self, source: int) -> slice:
        """Return the rows of a source."""
        return slice(int(self.starts[source]), int(self.starts[source + 1]))

    def where(self, row: int, task: str | None = None, column: int | None = None) -> str:
        """Name a pooled row, and a task's columns or one of them, for a message."""
        source = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.tables[source].where(row - int(self.starts[source]), task, column)

    def gather(self, columns: Sequence[Texts | None]) -> Texts:
        """Put the columns of the sources in sequence, None where a source has none.

        Returns:
            (rows,), or (rows, columns) where a source has several.
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
        """Return the first answer about each image whose code is not negative, or -1.

        Args:
            codes: (rows,), or of several columns one after the other in each row.
        """
        images = np.repeat(self.image_of_row, len(codes) // max(1, len(self.image_of_row)))
        answers = np.flatnonzero(codes >= 0)
        first = np.full(len(self.images), -1, dtype=np.int64)
        first[images[answers[::-1]]] = answers[::-1]  # the last assignment stays
        return first

    def agree(
        self,
        values: Texts,
        complain: Complain,
        task: str | None = None,
        on_conflict: OnConflict = "error",
        meaning: Meaning | None = None,
    ) -> tuple[Texts, Rows, int]:
        """Return what is said of each image, the row that says it first, and the conflicts.

        Args:
            values: What each row says, or None; see `gather`.
            complain: Hears of each contradiction, where it is an error.
            task: Whose labels they are; None: they are splits.
            on_conflict: What holds where two rows, or columns, say different things of one image.
            meaning: What is read in a text: different texts that mean the same do not contradict.

        Returns:
            What is said, or None; the row, or -1; of how many images there are two answers.
        """
        if self.distinct and values.ndim == 1:
            return values, np.where(pd.notna(values), self.image_of_row, -1), 0
        width = 1 if values.ndim == 1 else values.shape[1]
        values = values.ravel()
        codes, texts = pd.factorize(values)
        if meaning is not None:
            numbers: dict[Hashable, int] = {}
            read = [numbers.setdefault(meaning(text), len(numbers)) for text in texts]
            codes = np.array([*read, -1], dtype=np.int64)[codes]
        first = self.first(codes)
        answers = np.flatnonzero(codes >= 0)
        images = self.image_of_row[answers // width]
        clash = answers[codes[answers] != codes[first[images]]]
        contradicted = np.unique(self.image_of_row[clash // width])
        if on_conflict == "error":
            self._tell(clash, values, first, width, complain, task)
        elif on_conflict == "drop":
            first[contradicted] = -1
        said = first >= 0
        out = np.full(len(self.images), None, dtype=object)
        out[said] = values[first[said]]
        return out, first // width, len(contradicted)

    def _tell(
        self,
        clash: Rows,
        values: Texts,
        first: Rows,
        width: int,
        complain: Complain,
        task: str | None,
    ) -> None:
        what = "split" if task is None else f'task "{task}"'
        alone = complain is refuse and len(clash) > 1  # the others are not heard of
        more = f", and {len(clash) - 1:,} more like this" if alone else ""

        def says(answer: int) -> str:
            row, column = divmod(answer, width)
            where = self.where(row, task, None if width == 1 else column)
            return f"{where} says {quoted(values[answer])}"

        for answer in clash.tolist():
            image = self.image_of_row[answer // width]
            complain(
                what,
                f"{says(int(first[image]))}, {says(answer)} for {short(self.images[image])} "
                f"({what}{more}); expected one answer"
                + (", or data.on_conflict: first or drop" if task else ""),
            )

"""The rows of all sources, before those about one image become one."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.identity import SameBy, identities
from mtl_lightning.data.sources.base import SourceTable, Texts
from mtl_lightning.data.splits import Complain, refuse
from mtl_lightning.system.errors import quoted, short

Rows = npt.NDArray[np.int64]

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

    def where(self, row: int, task: str | None = None) -> str:
        """Name a pooled row, and a task's column, for a message."""
        source = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.tables[source].where(row - int(self.starts[source]), task)

    def gather(self, columns: Sequence[Texts | None]) -> Texts:
        """Put one column a source in sequence, None where a source has no such column."""
        out = np.full(int(self.starts[-1]), None, dtype=object)
        for source, column in enumerate(columns):
            if column is not None:
                out[self.slice(source)] = column
        return out

    def first(self, codes: npt.NDArray[np.integer]) -> Rows:
        """Return each image's first row whose code is not negative, or -1."""
        rows = np.flatnonzero(codes >= 0)
        first = np.full(len(self.images), -1, dtype=np.int64)
        first[self.image_of_row[rows[::-1]]] = rows[::-1]  # the last assignment stays
        return first

    def agree(
        self,
        values: Texts,
        complain: Complain,
        task: str | None = None,
        on_conflict: OnConflict = "error",
    ) -> tuple[Texts, Rows, int]:
        """Return what is said of each image, the row that says it first, and the conflicts.

        Args:
            values: What each row says, or None.
            complain: Hears of each contradiction, where it is an error.
            task: Whose labels they are; None: they are splits.
            on_conflict: What holds where two rows say different things of one image.

        Returns:
            What is said, or None; the row, or -1; of how many images there are two answers.
        """
        if self.distinct:
            return values, np.where(pd.notna(values), self.image_of_row, -1), 0
        codes, _ = pd.factorize(values)
        first = self.first(codes)
        rows = np.flatnonzero(codes >= 0)
        clash = rows[codes[rows] != codes[first[self.image_of_row[rows]]]]
        contradicted = np.unique(self.image_of_row[clash])
        if on_conflict == "error":
            self._tell(clash, values, first, complain, task)
        elif on_conflict == "drop":
            first[contradicted] = -1
        said = first >= 0
        out = np.full(len(self.images), None, dtype=object)
        out[said] = values[first[said]]
        return out, first, len(contradicted)

    def _tell(
        self, clash: Rows, values: Texts, first: Rows, complain: Complain, task: str | None
    ) -> None:
        what = "split" if task is None else f'task "{task}"'
        alone = complain is refuse and len(clash) > 1  # the others are not heard of
        more = f", and {len(clash) - 1:,} more like this" if alone else ""
        for row in clash.tolist():
            image = self.image_of_row[row]
            other = int(first[image])
            complain(
                what,
                f"{self.where(other, task)} says {quoted(values[other])}, {self.where(row, task)} "
                f"says {quoted(values[row])} for {short(self.images[image])} ({what}{more}); "
                "expected one answer" + (", or data.on_conflict: first or drop" if task else ""),
            )

"""The merged table: a row per image, with a text label or none for each task."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.dates import Dates
from mtl_lightning.data.images import Pixels
from mtl_lightning.data.source_rows import OnConflict, Rows, SourceRows
from mtl_lightning.data.sources.base import Source, Texts
from mtl_lightning.data.splits import SPLITS, Splits
from mtl_lightning.system.errors import UserError, image_error

HOLDS = {"first": "the first holds", "drop": "none holds"}
"""Which of several contradicting labels holds, if they are not an error."""


@dataclass(frozen=True)
class Counts:
    """Numbers of images and labels; what two sources share is counted in both.

    Attributes:
        images: (source, split) to distinct images.
        labelled: (source, task, split) to distinct images that the source labels for the task.
            Tasks that a source has no label column for are left out.
    """

    images: dict[tuple[str, str], int]
    labelled: dict[tuple[str, str, str], int]


@dataclass(frozen=True)
class MergedTable:
    """All images of all sources, one row per image, in order of first appearance.

    Attributes:
        images: (N,) str: the resolved path, or the source's own key.
        cells: Column to its labels, (N,) str or None.
        splits: (N,) int8: positions in `splits.SPLITS`.
        named_splits: (N,) str: the split that a source names for the image, or None.
        source: (N,) int16: the position in `names` of the source that loads the image.
        keys: (N,) str: a name of the image that is the same on all machines.
        shard: (N,) int64: the number of the file that holds this image and others, -1 if the image
            is a file of its own; no two sources share a number.
        names: The sources' names, in the config's order.
        sources: The sources.
        dates: (N,) datetime64[us], NaT for an image without one; None if no image has one.
        val_from_train: Whether `val` had to be taken from rows that a table names train.
        conflicts: Task to the number of images whose labels contradict each other, if any do.
        on_conflict: How these conflicts were resolved.
        inputs: Input to its cells, (N,) str or None.
        slices: Column to its cells, likewise, of those that divide the results.
        has_image: (N,) bool, the rows that have an image; ``images`` of others are only names.
    """

    images: Texts
    cells: dict[str, Texts]
    splits: Splits
    named_splits: Texts
    source: npt.NDArray[np.int16]
    keys: Texts
    shard: Rows
    names: tuple[str, ...]
    sources: tuple[Source, ...]
    dates: Dates | None
    val_from_train: bool
    conflicts: dict[str, int]
    on_conflict: OnConflict
    inputs: dict[str, Texts]
    slices: dict[str, Texts]
    has_image: npt.NDArray[np.bool_]
    _source_rows: SourceRows
    _first: Rows
    _labelled_by: dict[str, Rows]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_sharded(self) -> bool:
        """Whether any image is in a file that holds others, too."""
        return bool((self.shard >= 0).any())

    def in_split(self, split: str) -> npt.NDArray[np.bool_]:
        """Return the mask of the rows in a split, ``(N,)``."""
        inside: npt.NDArray[np.bool_] = self.splits == SPLITS.index(split)
        return inside

    def location(self, row: int, task: str | None = None) -> str:
        """Return the location of an image for a message: ``type.csv row 17``.

        Args:
            row: The row of the image.
            task: Name the row that labels the image for this task (or has this input), if there is
                one, instead of the first that mentions it.
        """
        source_row = -1 if task is None else int(self._labelled_by[task][row])
        if source_row < 0:
            source_row = int(self._first[row])
        return self._source_rows.location(source_row, task)

    def name(self, row: int) -> str:
        """Return the image's path, or its source's own key."""
        return str(self.images[row])

    def load(self, row: int) -> Pixels:
        """Return the image of a row as (height, width, 3) RGB, uint8.

        Raises:
            UserError: If the image cannot be read; names the row as `location` does.
            SourceError: If its source fails as a whole.
        """
        with self._naming(row):
            pixels: Pixels = self.sources[self.source[row]].load(self.images[row])
            return pixels

    def content(self, row: int) -> bytes:
        """Return the image of a row as a file; see `Source.content`.

        Raises:
            UserError: If the image cannot be read; names the row as `location` does.
            SourceError: If its source fails as a whole.
        """
        with self._naming(row):
            content: bytes = self.sources[self.source[row]].content(self.images[row])
            return content

    def target_content(self, row: int, task: str) -> bytes:
        """Return the file that is the label of a row for a task which loads its targets."""
        source = self._source_rows.source_of(int(self._labelled_by[task][row]))
        content: bytes = self.sources[source].target_content(self.cells[task][row])
        return content

    @contextmanager
    def _naming(self, row: int) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.location(row)}: {image_error(error)}") from error

    def notes(self) -> list[str]:
        """Return notes for the user on the sources, before training, one line each."""
        notes = [
            f"data.sources.{name}: {note}"
            for name, table in zip(self.names, self._source_rows.tables, strict=True)
            for note in table.notes
        ]
        if self.on_conflict != "error":
            notes += [f"{line} (data.on_conflict)" for line in self.contradicted()]
        return notes

    def contradicted(self) -> list[str]:
        """Return a line for each task, or input, with cells that contradict each other."""
        holds = HOLDS.get(self.on_conflict, "the first holds")
        return [
            f"rows with values that contradict each other, input {name}: {count:,}; {holds}"
            if name in self.inputs
            else f"images with labels that contradict each other, task {name}: {count:,}; {holds}"
            for name, count in self.conflicts.items()
        ]

    def counts(self, fields: Mapping[str, Sequence[str]]) -> Counts:
        """Count images and labels by source and split.

        Args:
            fields: Task to the names of its columns; an image with a label in any of them counts.
        """
        images, labelled = {}, {}
        for position, name in enumerate(self.names):
            of_row = self._source_rows.image_of_row[self._source_rows.slice(position)]
            for split, count in self._by_split(self._present(of_row)):
                images[name, split] = count
            for task, names in fields.items():
                own = self._labelled_in(position, names)
                if own is not None:
                    for split, count in self._by_split(own):
                        labelled[name, task, split] = count
        return Counts(images, labelled)

    def labelled_in(self, fields: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the images that each source labels for a task, (N,); several may label one.

        Args:
            fields: The names of the task's columns. Sources without any of them are left out.
        """
        found = {name: self._labelled_in(i, fields) for i, name in enumerate(self.names)}
        return {name: mask for name, mask in found.items() if mask is not None}

    def _labelled_in(self, source: int, fields: Sequence[str]) -> npt.NDArray[np.bool_] | None:
        columns = self._source_rows.tables[source].labels
        own = [_answered(columns[field]) for field in fields if field in columns]
        of_row = self._source_rows.image_of_row[self._source_rows.slice(source)]
        return self._present(of_row[np.any(own, axis=0)]) if own else None

    def _present(self, images: Rows) -> npt.NDArray[np.bool_]:
        present = np.zeros(len(self), dtype=np.bool_)
        present[images] = True
        return present

    def _by_split(self, present: npt.NDArray[np.bool_]) -> list[tuple[str, int]]:
        counts = np.bincount(self.splits[present], minlength=len(SPLITS))
        return list(zip(SPLITS, counts.tolist(), strict=True))


def _answered(cells: Texts) -> npt.NDArray[np.bool_]:
    """Return the mask of rows with an answer in any column, (n,)."""
    answered: npt.NDArray[np.bool_] = np.any(pd.notna(cells).reshape(len(cells), -1), axis=1)
    return answered

"""Several sources become one table: a row per image, a text label or none for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.images import Pixels
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.splits import (
    SPLITS,
    Complain,
    Splits,
    assign,
    check_fractions,
    refuse,
)
from mtl_lightning.errors import UserError, quoted, short

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What was merged; an image or label that two sources have counts in both.

    Attributes:
        images: (source, split) to distinct images.
        labelled: (source, task, split) to distinct images that the source labels for the task.
            Tasks that a source has no label column for are left out.
    """

    images: dict[tuple[str, str], int]
    labelled: dict[tuple[str, str, str], int]


class _Pool:
    """The rows of all sources in one sequence: what a row says, and which image it is about."""

    def __init__(self, tables: Sequence[SourceTable]) -> None:
        self.tables = tables
        self.starts = np.cumsum([0, *(len(table.images) for table in tables)])
        images: Texts = np.concatenate([table.images for table in tables])
        self.distinct = len(set(images)) == len(images)
        if self.distinct:  # as most are: the rest is then soon done
            self.image_of_row: Rows = np.arange(len(images))
            self.images: Texts = images
        else:
            codes, self.images = pd.factorize(images)
            self.image_of_row = codes.astype(np.int64)

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
        self, values: Texts, complain: Complain, task: str | None = None
    ) -> tuple[Texts, Rows]:
        """Return what is said of each image and the row that says it first.

        Where two rows say different things of one image, ``complain`` hears of it.

        Args:
            values: What each row says, or None.
            complain: Hears of each contradiction.
            task: Whose labels they are; None: they are splits.
        """
        if self.distinct:
            return values, np.where(pd.notna(values), self.image_of_row, -1)
        codes, _ = pd.factorize(values)
        first = self.first(codes)
        rows = np.flatnonzero(codes >= 0)
        clash = rows[codes[rows] != codes[first[self.image_of_row[rows]]]]
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
                "expected one answer",
            )
        said = first >= 0
        out = np.full(len(self.images), None, dtype=object)
        out[said] = values[first[said]]
        return out, first


@dataclass(frozen=True)
class MergedTable:
    """All images of all sources, one row an image, in order of first appearance.

    Attributes:
        images: (N,) str: the resolved path, or the source's own key.
        cells: Task to its labels, (N,) str or None.
        splits: (N,) int8: positions in `splits.SPLITS`.
        source: (N,) int16: the position in `names` of the source that loads the image.
        names: The sources' names, in the config's order.
        sources: The sources.
        val_from_train: Whether `val` had to be taken from rows that a table names train.
    """

    images: Texts
    cells: dict[str, Texts]
    splits: Splits
    source: npt.NDArray[np.int16]
    names: tuple[str, ...]
    sources: tuple[Source, ...]
    val_from_train: bool
    _pool: _Pool
    _first: Rows
    _said_by: dict[str, Rows]

    def __len__(self) -> int:
        return len(self.images)

    def where(self, row: int, task: str | None = None) -> str:
        """Name an image for a message: ``type.csv row 17``.

        Args:
            row: The image's position.
            task: Name the row that labels the image for this task, if there is one, instead of
                the first that mentions it.
        """
        said_by = -1 if task is None else int(self._said_by[task][row])
        return self._pool.where(said_by if said_by >= 0 else int(self._first[row]), task)

    def name(self, row: int) -> str:
        """Return the image's path, or its source's own key."""
        return str(self.images[row])

    def load(self, row: int) -> Pixels:
        """Return the image of a row as (height, width, 3) RGB, uint8.

        Raises:
            UserError: If the image cannot be read; names the row as `where` does.
        """
        try:
            pixels: Pixels = self.sources[self.source[row]].load(self.images[row])
            return pixels
        except UserError as error:
            raise UserError(f"{self.where(row)}: {error}") from error

    def notes(self) -> list[str]:
        """Return what the sources want the user to know before training, a line each."""
        return [
            f"data.sources.{name}: {note}"
            for name, table in zip(self.names, self._pool.tables, strict=True)
            for note in table.notes
        ]

    def counts(self, fields: Mapping[str, Sequence[str]]) -> Counts:
        """Count images and labels by source and split.

        Args:
            fields: Task to the names of its columns; an image counts that has a label in any.
        """
        images, labelled = {}, {}
        for position, name in enumerate(self.names):
            of_row = self._pool.image_of_row[self._pool.slice(position)]
            for split, count in self._by_split(of_row):
                images[name, split] = count
            columns = self._pool.tables[position].labels
            for task, names in fields.items():
                own = [pd.notna(columns[field]) for field in names if field in columns]
                if own:
                    for split, count in self._by_split(of_row[np.any(own, axis=0)]):
                        labelled[name, task, split] = count
        return Counts(images, labelled)

    def _by_split(self, images: Rows) -> list[tuple[str, int]]:
        present = np.zeros(len(self), dtype=np.bool_)
        present[images] = True
        counts = np.bincount(self.splits[present], minlength=len(SPLITS))
        return list(zip(SPLITS, counts.tolist(), strict=True))


def merge(
    sources: Mapping[str, Source],
    tasks: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    complain: Complain = refuse,
) -> MergedTable:
    """Read the sources and join what they say of each image.

    Rows that share a group in any source stay in one split, whatever other groups their images
    have; the same group name in two sources is the same group.

    Args:
        sources: The sources by name.
        tasks: The names of all tasks, and ``task/label`` for each label of one that has many.
        fractions: Share of `val` and `test` of the images that no table gives a split.
        seed: For that division.
        complain: What to do about a contradiction; if it returns, what is said first holds.

    Returns:
        One row per distinct image, images without any label included.

    Raises:
        UserError: If there is no source, a source cannot be read, or two rows contradict each
            other about an image's label or split, or a group's split.
    """
    if not sources:
        raise UserError("data.sources is empty; expected at least one source")
    check_fractions(fractions)
    tables = [_read(name, source, tasks) for name, source in sources.items()]
    pool = _Pool(tables)
    cells, said_by = {}, {}
    for task in tasks:
        labels = pool.gather([table.labels.get(task) for table in tables])
        cells[task], said_by[task] = pool.agree(labels, complain, task)
    named, _ = pool.agree(pool.gather([table.splits for table in tables]), complain)
    first = pool.first(pool.image_of_row)
    splits, val_from_train = assign(
        named,
        _united(pool, pool.gather([table.groups for table in tables])),
        _keys(pool, first),
        fractions,
        seed,
        where=lambda image: pool.where(int(first[image])),
        complain=complain,
    )
    source = np.searchsorted(pool.starts, first, side="right") - 1
    return MergedTable(
        images=pool.images,
        cells=cells,
        splits=splits,
        source=source.astype(np.int16),
        names=tuple(sources),
        sources=tuple(sources.values()),
        val_from_train=val_from_train,
        _pool=pool,
        _first=first,
        _said_by=said_by,
    )


def _read(name: str, source: Source, tasks: Sequence[str]) -> SourceTable:
    try:
        return source.read(tasks)
    except UserError as error:
        raise UserError(f"data.sources.{name}: {error}") from error


def _keys(pool: _Pool, first: Rows) -> Texts:
    """Return each image's key: the least that any row has, whatever the order of the sources."""
    row_keys = pool.gather([table.keys for table in pool.tables])
    keys = row_keys[first]
    again = np.flatnonzero(first[pool.image_of_row] != np.arange(len(row_keys)))
    for image, key in zip(pool.image_of_row[again], row_keys[again], strict=True):
        keys[image] = min(keys[image], key)
    return keys


def _united(pool: _Pool, groups: Texts) -> Texts | None:
    """Return a group for each image, the same for all whose groups an image links, or None."""
    codes, names = pd.factorize(groups)
    if not len(names):
        return None
    first = pool.first(codes)
    rows = np.flatnonzero(codes >= 0)
    own = codes[first[pool.image_of_row[rows]]]
    links = np.unique(np.stack([own, codes[rows]], axis=1)[own != codes[rows]], axis=0)
    parents = list(range(len(names)))

    def root(group: int) -> int:
        while parents[group] != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    for one, other in links.tolist():
        # The least name stands for all, so that the order of the rows does not matter.
        low, high = sorted((root(one), root(other)), key=names.__getitem__)
        parents[high] = low
    united = names[[root(group) for group in range(len(names))]]
    out = np.full(len(pool.images), None, dtype=object)
    grouped = first >= 0
    out[grouped] = united[codes[first[grouped]]]
    return out

"""Several sources become one table: a row per image, a text label or none for each task."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.identity import SameBy
from mtl_lightning.data.images import Pixels
from mtl_lightning.data.pool import Meaning, OnConflict, Pool, Rows
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import (
    SPLITS,
    Complain,
    Splits,
    assign,
    check_fractions,
    refuse,
)
from mtl_lightning.system.errors import UserError, fault
from mtl_lightning.tasks.cells import identifier, normalised

HOLDS = {"first": "the first holds", "drop": "none holds"}
"""What becomes of labels that contradict each other, where that is no error."""


@dataclass(frozen=True)
class MergeOptions:
    """How sources become one table.

    Attributes:
        fractions: Share of `val` and `test` of the images that no table gives a split.
        seed: Of that division.
        stratify: Whether each split gets its share of each label.
        same_by: Which rows are about the same image, see `identities`.
        on_conflict: ``first`` and ``drop``: contradicting labels are no error, but the first one in
            the order of sources and rows holds, or none. Splits that contradict are always one.
    """

    fractions: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    stratify: bool = False
    same_by: SameBy = "path"
    on_conflict: OnConflict = "error"


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


@dataclass(frozen=True)
class MergedTable:
    """All images of all sources, one row an image, in order of first appearance.

    Attributes:
        images: (N,) str: the resolved path, or the source's own key.
        cells: Task to its labels, (N,) str or None.
        splits: (N,) int8: positions in `splits.SPLITS`.
        source: (N,) int16: the position in `names` of the source that loads the image.
        keys: (N,) str: what the image is called on every machine.
        shard: (N,) int64: the number of the file that holds the image beside others, -1 where it
            is found by itself; no two sources share a number.
        names: The sources' names, in the config's order.
        sources: The sources.
        val_from_train: Whether `val` had to be taken from rows that a table names train.
        conflicts: Task to the number of images whose labels contradict each other, if any do.
        on_conflict: What became of them.
    """

    images: Texts
    cells: dict[str, Texts]
    splits: Splits
    source: npt.NDArray[np.int16]
    keys: Texts
    shard: Rows
    names: tuple[str, ...]
    sources: tuple[Source, ...]
    val_from_train: bool
    conflicts: dict[str, int]
    on_conflict: OnConflict
    _pool: Pool
    _first: Rows
    _said_by: dict[str, Rows]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_sharded(self) -> bool:
        """Whether any image lies in a file that holds others, too."""
        return bool((self.shard >= 0).any())

    def in_split(self, split: str) -> npt.NDArray[np.bool_]:
        """Return which rows are in a split, ``(N,)``."""
        inside: npt.NDArray[np.bool_] = self.splits == SPLITS.index(split)
        return inside

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
            SourceError: If its source fails as a whole.
        """
        with self._naming(row):
            pixels: Pixels = self.sources[self.source[row]].load(self.images[row])
            return pixels

    def content(self, row: int) -> bytes:
        """Return the image of a row as a file, see `Source.content`.

        Raises:
            UserError: If the image cannot be read; names the row as `where` does.
            SourceError: If its source fails as a whole.
        """
        with self._naming(row):
            content: bytes = self.sources[self.source[row]].content(self.images[row])
            return content

    @contextmanager
    def _naming(self, row: int) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.where(row)}: {fault(error)}") from error

    def notes(self) -> list[str]:
        """Return what the sources want the user to know before training, a line each."""
        notes = [
            f"data.sources.{name}: {note}"
            for name, table in zip(self.names, self._pool.tables, strict=True)
            for note in table.notes
        ]
        if self.on_conflict != "error":
            notes += [f"{line} (data.on_conflict)" for line in self.contradicted()]
        return notes

    def contradicted(self) -> list[str]:
        """Return a line for each task some of whose labels contradict each other."""
        holds = HOLDS.get(self.on_conflict, "the first holds")
        return [
            f"images with labels that contradict each other, task {task}: {count:,}; {holds}"
            for task, count in self.conflicts.items()
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
                own = [_answered(columns[field]) for field in names if field in columns]
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
    options: MergeOptions,
    complain: Complain = refuse,
    meanings: Mapping[str, Meaning] | None = None,
) -> MergedTable:
    """Read the sources and join what they say of each image.

    Rows that share a group in any source stay in one split, whatever other groups their images
    have; the same group name in two sources is the same group.

    Args:
        sources: The sources by name.
        tasks: The names of all tasks, and ``task/label`` for each label of one that has many.
        options: How.
        complain: What to do about a contradiction; if it returns, what is said first holds.
        meanings: Task (or ``task/label``) to what it reads in a text, where different texts may
            mean the same.

    Returns:
        One row per distinct image, images without any label included.

    Raises:
        UserError: If there is no source, a source cannot be read, or two rows contradict each
            other about an image's label or split, or a group's split.
    """
    if not sources:
        raise UserError("data.sources is empty; expected at least one source")
    check_fractions(options.fractions)
    tables = [_read(name, source, tasks) for name, source in sources.items()]
    pool = Pool(tables, options.same_by)
    cells, said_by, conflicts = {}, {}, {}
    for task in tasks:
        labels = pool.gather([table.labels.get(task) for table in tables])
        cells[task], said_by[task], conflicts[task] = pool.agree(
            labels, complain, task, options.on_conflict, (meanings or {}).get(task)
        )
    named, _, _ = pool.agree(pool.gather([table.splits for table in tables]), complain)
    first = pool.first(pool.image_of_row)
    keys = _keys(pool, first)
    splits, val_from_train = assign(
        named,
        _united(pool, pool.gather([table.groups for table in tables])),
        keys,
        options.fractions,
        options.seed,
        where=lambda image: pool.where(int(first[image])),
        complain=complain,
        labels=cells if options.stratify else None,
    )
    source = np.searchsorted(pool.starts, first, side="right") - 1
    _check_intensities(sources, pool, first)
    return MergedTable(
        images=pool.images,
        cells=cells,
        splits=splits,
        source=source.astype(np.int16),
        keys=keys,
        shard=_shards(tables)[first],
        names=tuple(sources),
        sources=tuple(sources.values()),
        val_from_train=val_from_train,
        conflicts={task: n for task, n in conflicts.items() if n},
        on_conflict=options.on_conflict,
        _pool=pool,
        _first=first,
        _said_by=said_by,
    )


def _read(name: str, source: Source, tasks: Sequence[str]) -> SourceTable:
    try:
        table = source.read(tasks)
    except UserError as error:
        raise UserError(f"data.sources.{name}: {error}") from error
    labels = {task: normalised(cells) for task, cells in table.labels.items()}
    groups = None if table.groups is None else normalised(table.groups, identifier)
    keys = table.keys
    if not "".join(keys).isascii():  # systems write one name in several ways
        keys = texts([normalize("NFC", key) for key in keys])
    return replace(table, labels=labels, groups=groups, keys=keys)


def _answered(cells: Texts) -> npt.NDArray[np.bool_]:
    """Return which rows have an answer in any column, (n,)."""
    answered: npt.NDArray[np.bool_] = np.any(pd.notna(cells).reshape(len(cells), -1), axis=1)
    return answered


def _check_intensities(sources: Mapping[str, Source], pool: Pool, first: Rows) -> None:
    """Refuse images that two sources would load differently: only one of them loads each."""
    names, codes = (
        list(sources),
        pd.factorize(pd.Series([str(source.intensity) for source in sources.values()]))[0],
    )
    if pool.distinct or not codes.any():
        return
    of_row = np.repeat(np.arange(len(names)), np.diff(pool.starts))
    loaded_by = of_row[first[pool.image_of_row]]
    differ = np.flatnonzero(codes[of_row] != codes[loaded_by])
    if differ.size:
        row = int(differ[0])
        one, other = names[loaded_by[row]], names[of_row[row]]
        raise UserError(
            f"data.sources.{one} and data.sources.{other} both have {pool.where(row)}, and their "
            f"`intensity` differs: {sources[one].intensity} and {sources[other].intensity}; give "
            f"both the same"
        )


def _shards(tables: Sequence[SourceTable]) -> Rows:
    """Return the shard of each row of all tables, -1 where there is none."""
    numbers, before = [], 0
    for table in tables:
        if table.shards is None:
            numbers.append(np.full(len(table.images), -1, dtype=np.int64))
        else:
            numbers.append(table.shards + before)
            before += int(table.shards.max(initial=-1)) + 1
    return np.concatenate(numbers)


def _keys(pool: Pool, first: Rows) -> Texts:
    """Return each image's key: the least that any row has, whatever the order of the sources."""
    row_keys = pool.gather([table.keys for table in pool.tables])
    keys = row_keys[first]
    again = np.flatnonzero(first[pool.image_of_row] != np.arange(len(row_keys)))
    for image, key in zip(pool.image_of_row[again], row_keys[again], strict=True):
        keys[image] = min(keys[image], key)
    return keys


def _united(pool: Pool, groups: Texts) -> Texts | None:
    """Return a group for each image, the same for all whose groups an image links, or None."""
    if pool.distinct:  # nothing links two groups
        return groups if pd.notna(groups).any() else None
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

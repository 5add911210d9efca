"""Merging the tables of several sources into one, with one row per image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.data.dates import Dates, date_texts
from mtl_lightning.data.fields import Field
from mtl_lightning.data.identity import SameBy
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.source_rows import Meaning, OnConflict, Rows, SourceRows
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import (
    By,
    OnContradiction,
    assign,
    check_fractions,
    raise_contradiction,
)
from mtl_lightning.data.train_classes import Occurrences
from mtl_lightning.system.errors import UserError, quoted
from mtl_lightning.tasks.cells import identifier, normalised


@dataclass(frozen=True)
class MergeOptions:
    """How sources become one table.

    Attributes:
        fractions: Shares of `val` and `test` among the images without a split in any table.
        seed: The seed of the random splits.
        stratify: Whether each split gets its share of each label.
        by: Whether these images are divided at random or by date.
        same_by: Which rows are about the same image, see `identities`.
        on_conflict: ``first`` and ``drop``: contradicting labels are not an error; the first one in
            the order of sources and rows holds, or none. Contradicting splits always are an error.
    """

    fractions: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    stratify: bool = False
    same_by: SameBy = "path"
    on_conflict: OnConflict = "error"
    by: By = "random"


def merge(
    sources: Mapping[str, Source],
    tasks: Sequence[str],
    options: MergeOptions,
    on_contradiction: OnContradiction = raise_contradiction,
    columns: Mapping[str, Field] | None = None,
    inputs: Mapping[str, Meaning] = MappingProxyType({}),
    slices: Sequence[str] = (),
) -> MergedTable:
    """Read the sources and merge their rows about each image.

    Rows that share a group in any source stay in one split, whatever other groups their images
    have; the same group name in two sources is the same group.

    Args:
        sources: The sources by name.
        tasks: The names of all tasks, and ``task/label`` for each label of a multi-label task.
        options: How to divide and merge.
        on_contradiction: Called for each contradiction; if it returns, the first value holds.
        columns: How tasks read their columns: different texts may mean the same, or one may be
            doubtful, or name a file. By default texts are compared literally.
        inputs: Input to what its cells mean; their names are not those of tasks.
        slices: Columns whose values divide the results; if the rows of an image differ, the first
            holds.

    Returns:
        One row per distinct image, including images without any label.

    Raises:
        UserError: If there is no source, a source cannot be read, or two rows contradict each
            other about an image's label or split, or a group's split.
    """
    if not sources:
        raise UserError("data.sources should name at least one source. Found none")
    check_fractions(options.fractions)
    tables = [_read(name, source, tasks, columns or {}) for name, source in sources.items()]
    for name, table in zip(sources, tables, strict=True):
        _check_doubts(name, table, columns or {}, on_contradiction)
    source_rows = SourceRows(tables, options.same_by)
    cells, labelled_by, conflicts = {}, {}, {}
    for task in tasks:
        labels = source_rows.concatenate([table.labels.get(task) for table in tables])
        cells[task], labelled_by[task], conflicts[task] = source_rows.resolve(
            labels,
            on_contradiction,
            task,
            options.on_conflict,
            columns[task].meaning if columns else None,
        )
    read = {}
    for name, meaning in inputs.items():
        found = source_rows.concatenate([table.inputs.get(name) for table in tables])
        read[name], labelled_by[name], conflicting = source_rows.resolve(
            found, on_contradiction, name, options.on_conflict, meaning, f'input "{name}"'
        )
        if conflicting:
            conflicts[name] = conflicting
    divided = {
        name: source_rows.resolve(_slices(name, source_rows), on_contradiction, on_conflict="first")
        for name in slices
    }
    named, _, _ = source_rows.resolve(
        source_rows.concatenate([table.splits for table in tables]), on_contradiction
    )
    dates = _dates(source_rows, on_contradiction)
    first = source_rows.first(source_rows.image_of_row)
    keys = _keys(source_rows, first)
    splits, val_from_train = assign(
        named,
        _joined_groups(source_rows, source_rows.concatenate([table.groups for table in tables])),
        keys,
        options.fractions,
        options.seed,
        location=lambda image: source_rows.location(int(first[image])),
        on_contradiction=on_contradiction,
        labels=cells if options.stratify else None,
        classes=partial(Occurrences.of, cells, columns) if columns else None,
        dates=dates if options.by == "date" else None,
    )
    images, loaded, has_image = _loaded(source_rows, first)
    source = np.searchsorted(source_rows.starts, loaded, side="right") - 1
    _check_intensities(sources, source_rows, loaded)
    return MergedTable(
        images=images,
        cells=cells,
        splits=splits,
        named_splits=named,
        source=source.astype(np.int16),
        keys=keys,
        shard=_shards(tables)[loaded],
        names=tuple(sources),
        sources=tuple(sources.values()),
        dates=None if np.isnat(dates).all() else dates,
        val_from_train=val_from_train,
        conflicts={task: n for task, n in conflicts.items() if n},
        on_conflict=options.on_conflict,
        inputs=read,
        slices={name: found.values for name, found in divided.items()},
        has_image=has_image,
        _source_rows=source_rows,
        _first=first,
        _labelled_by=labelled_by,
    )


def _loaded(source_rows: SourceRows, first: Rows) -> tuple[Texts, Rows, npt.NDArray[np.bool_]]:
    """Return the image of each merged row, the row that it is loaded for, and if there is one.

    That is the first row about it, or the first with an image if some have none.
    """
    lacks = source_rows.without_image
    if not lacks.any():
        return source_rows.images, first, np.ones(len(first), dtype=bool)
    found = source_rows.first(np.where(lacks, -1, source_rows.image_of_row))
    loaded = np.where(found >= 0, found, first)
    images = np.concatenate([table.images for table in source_rows.tables])[loaded]
    return images, loaded, found >= 0


def _read(
    name: str, source: Source, tasks: Sequence[str], columns: Mapping[str, Field]
) -> SourceTable:
    files = {task for task in tasks if task in columns and columns[task].names_files}
    try:
        table = source.read(tasks)
        labels = {
            task: source.target_files(table, task) if task in files else normalised(cells)
            for task, cells in table.labels.items()
        }
    except UserError as error:
        raise UserError(f"data.sources.{name}: {error}") from error
    _check_apart(name, table)
    groups = None if table.groups is None else normalised(table.groups, identifier)
    keys = table.keys
    if not "".join(keys).isascii():  # systems normalise the same name differently
        keys = texts([normalize("NFC", key) for key in keys])
    return replace(table, labels=labels, groups=groups, keys=keys)


def _check_apart(name: str, table: SourceTable) -> None:
    """Refuse a column that is both an input and a label: the network would only copy it."""
    asked = {column: task for task in table.labels for column in table.columns.get(task, ())}
    for read in table.inputs:
        for column in table.columns.get(read, ()):
            if column in asked:
                raise UserError(
                    f"data.sources.{name}: column {quoted(column)} should be an input or a label. "
                    f'Found both: input "{read}" and task "{asked[column]}"; leave one of them out'
                )


def _check_doubts(
    name: str,
    table: SourceTable,
    columns: Mapping[str, Field],
    on_contradiction: OnContradiction,
) -> None:
    """Tell the columns of a source in which a cell could mean two things."""
    for task, cells in table.labels.items():
        answers = [cells] if cells.ndim == 1 else cells.T
        for number, own in enumerate(answers if task in columns else ()):
            found = columns[task].doubt({cell for cell in pd.unique(own) if cell is not None})
            if found is not None:
                cell, question = found
                where = table.location(int(np.flatnonzero(own == cell)[0]), task, number)
                on_contradiction(
                    "doubt", f"data.sources.{name}: {where}: {quoted(cell)} {question}"
                )


def _check_intensities(
    sources: Mapping[str, Source], source_rows: SourceRows, loaded: Rows
) -> None:
    """Refuse images that two sources would load differently: only one of them loads each."""
    names, intensities = list(sources), [str(source.intensity) for source in sources.values()]
    codes, _ = pd.factorize(pd.Series(intensities))
    if source_rows.distinct or not codes.any():
        return
    of_row = np.repeat(np.arange(len(names)), np.diff(source_rows.starts))
    loaded_by = of_row[loaded[source_rows.image_of_row]]
    differ = np.flatnonzero((codes[of_row] != codes[loaded_by]) & ~source_rows.without_image)
    if differ.size:
        row = int(differ[0])
        one, other = names[loaded_by[row]], names[of_row[row]]
        raise UserError(
            f"data.sources.{one} and data.sources.{other} both have {source_rows.location(row)}, "
            f"and their `intensity` differs: {sources[one].intensity} and "
            f"{sources[other].intensity}; give both the same"
        )


def _slices(name: str, source_rows: SourceRows) -> Texts:
    """Return the cells of a column in the rows of all sources, None in one without the column."""
    columns = [table.slices.get(name) for table in source_rows.tables]
    if all(column is None for column in columns):
        raise UserError(
            f"data.slices: a source should have a column {quoted(name)}. Found none; leave it "
            f"out, or correct it"
        )
    return normalised(source_rows.concatenate(columns), identifier)


def _shards(tables: Sequence[SourceTable]) -> Rows:
    """Return the shard of each row of all tables, -1 if there is none."""
    numbers, before = [], 0
    for table in tables:
        if table.shards is None:
            numbers.append(np.full(len(table.images), -1, dtype=np.int64))
        else:
            numbers.append(table.shards + before)
            before += int(table.shards.max(initial=-1)) + 1
    return np.concatenate(numbers)


def _dates(source_rows: SourceRows, on_contradiction: OnContradiction) -> Dates:
    """Return each image's date, NaT if no row has one."""
    if source_rows.distinct:
        return np.concatenate(
            [
                np.full(len(table.images), np.datetime64("NaT", "us"))
                if table.dates is None
                else table.dates
                for table in source_rows.tables
            ]
        )
    columns = [
        None if table.dates is None else date_texts(table.dates) for table in source_rows.tables
    ]
    resolved = source_rows.resolve(source_rows.concatenate(columns), on_contradiction, about="date")
    return resolved.values.astype("datetime64[us]")


def _keys(source_rows: SourceRows, first: Rows) -> Texts:
    """Return each image's key: the smallest of its rows, whatever the order of the sources."""
    row_keys = source_rows.concatenate([table.keys for table in source_rows.tables])
    keys = row_keys[first]
    repeated = np.flatnonzero(first[source_rows.image_of_row] != np.arange(len(row_keys)))
    for image, key in zip(source_rows.image_of_row[repeated], row_keys[repeated], strict=True):
        keys[image] = min(keys[image], key)
    return keys


def _joined_groups(source_rows: SourceRows, groups: Texts) -> Texts | None:
    """Return a group for each image, the same for groups that share an image, or None."""
    if source_rows.distinct:  # nothing links two groups
        return groups if pd.notna(groups).any() else None
    codes, names = pd.factorize(groups)
    if not len(names):
        return None
    first = source_rows.first(codes)
    rows = np.flatnonzero(codes >= 0)
    own = codes[first[source_rows.image_of_row[rows]]]
    links = np.unique(np.stack([own, codes[rows]], axis=1)[own != codes[rows]], axis=0)
    parents = list(range(len(names)))

    def root(group: int) -> int:
        while parents[group] != group:
            parents[group] = parents[parents[group]]
            group = parents[group]
        return group

    for one, other in links.tolist():
        # The smallest name stands for all, so that the order of the rows does not matter.
        low, high = sorted((root(one), root(other)), key=names.__getitem__)
        parents[high] = low
    joined = names[[root(group) for group in range(len(names))]]
    out = np.full(len(source_rows.images), None, dtype=object)
    grouped = first >= 0
    out[grouped] = joined[codes[first[grouped]]]
    return out

"""Labels from the columns of a table, images from the files that it names."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.locate import Path, relative_keys, texts
from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.data.sources.tabular import TableFile, open_table
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.errors import UserError, did_you_mean, listed, quoted


class TableSource(Source):
    """A CSV, TSV, JSON Lines or Parquet file with a row an image.

    Args:
        path: The table; its suffix says what it is (.csv, .tsv, .jsonl, .ndjson, .parquet).
        image: The column of image paths.
        root: The folder that the paths are relative to; by default the one in which the table
            stands by the name given.
        labels: Task to column, or for a multi-label task label to column; by default every column
            that bears the name of a task or of a label.
        split: The column of splits (train, val, test; empty: undecided); by default the column
            ``split`` if there is one that is no label.
        group: The column of groups, whose rows are never in two splits; by default the column
            ``group`` if there is one that is no label.
        missing: Texts that mean "not labelled", besides the empty cell.
        allow_outside_root: Whether images may be elsewhere than below ``root``, by ``../``, an
            absolute path or a link; say so only of a table that you trust.
    """

    def __init__(
        self,
        path: Path,
        image: str = "image",
        root: Path | None = None,
        labels: dict[str, str | dict[str, str]] | None = None,
        split: str | None = None,
        group: str | None = None,
        missing: list[str] | None = None,
        allow_outside_root: bool = False,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.image = image
        self.root = os.path.dirname(self.path) if root is None else os.path.expanduser(root)
        self.labels = labels
        self.split = split
        self.group = group
        self.missing = missing or []
        self.allow_outside_root = allow_outside_root

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the table and find its images; see `Source.read`."""
        return self.read_rows(open_table(self.path), tasks)

    def read_rows(self, table: TableFile, tasks: Sequence[str]) -> SourceTable:
        """Do what `read` does with the rows of a table that is open already, all or some."""
        columns = self._label_columns(table, tasks)
        paths, images = self._located(table)
        taken = {self.image, *columns.values()}
        split = _optional(table, self.split, "split", taken)
        group = _optional(table, self.group, "group", taken)
        return SourceTable(
            origin=self.path,
            images=images,
            keys=relative_keys(self.root, paths),
            labels={task: self._labels(table, column) for task, column in columns.items()},
            splits=None if split is None else _splits(table, split),
            groups=None if group is None else table.column(group),
            rows=table.rows,
            columns=columns,
        )

    def read_images(self) -> tuple[Texts, Texts]:
        """Return the image paths as the table writes them, and resolved, without any label."""
        paths, images = self._located(open_table(self.path))
        return texts(paths), images

    def _located(self, table: TableFile) -> tuple[list[str], Texts]:
        cells = table.column(_required(table, self.image, "image"))
        empty = np.flatnonzero(cells == None)  # noqa: E711 (elementwise)
        if empty.size:
            raise UserError(
                f"{table.where(empty[0], self.image)} is empty; expected the path of an image"
            )
        paths: list[str] = cells.tolist()
        where = partial(table.where, column=self.image)
        return paths, rooted(self.root, paths, where, self.allow_outside_root)

    def _label_columns(self, table: TableFile, tasks: Sequence[str]) -> dict[str, str]:
        if self.labels is None:
            columns = {t: c for t in tasks if (c := _bearing(t, tasks, table)) and c != self.image}
            if not columns:
                raise UserError(
                    f"{self.path} has no column named after a task; tasks: {listed(tasks)}; "
                    f"columns: {listed(table.names)}; say `labels: {{<task>: <column>}}`"
                )
            return columns
        if not self.labels:
            raise UserError(f"{self.path}: `labels` is empty; expected {{<task>: <column>}}")
        columns = {}
        for task, column in self.labels.items():
            if isinstance(column, str):
                columns[task] = column
            else:
                columns |= {f"{task}/{label}": own for label, own in column.items()}
        for task in columns:
            if task not in tasks:
                raise UserError(
                    f'{self.path}: `labels` names the task "{task}", expected one of '
                    f"{listed(tasks)}{did_you_mean(task, tasks)}"
                )
        return {t: _required(table, c, f'labels of task "{t}"') for t, c in columns.items()}

    def _labels(self, table: TableFile, column: str) -> Texts:
        cells = table.column(column)
        for text in self.missing:
            cells[cells == text] = None
        return cells


def _bearing(task: str, tasks: Sequence[str], table: TableFile) -> str | None:
    """Return the column that bears the name of a task, or of a label as ``task/label``."""
    if task in table.names:
        return task
    label = task.rpartition("/")[2]
    return label if label in table.names and label not in tasks else None


def _required(table: TableFile, column: str, purpose: str) -> str:
    if column not in table.names:
        raise UserError(
            f'{table.path} has no column "{column}" ({purpose}); '
            f"columns: {listed(table.names)}{did_you_mean(column, table.names)}"
        )
    return column


def _optional(table: TableFile, column: str | None, default: str, taken: set[str]) -> str | None:
    if column is not None:
        return _required(table, column, default)
    return default if default in table.names and default not in taken else None


def _splits(table: TableFile, column: str) -> Texts:
    codes, distinct = pd.factorize(table.column(column))
    for code, text in enumerate(distinct):
        if text.lower() not in SPELLINGS:
            rows = np.flatnonzero(codes == code)
            more = f" ({len(rows):,} cells like this)" if len(rows) > 1 else ""
            raise UserError(
                f"{table.where(rows[0], column)}: {quoted(text)} is no split{more}; expected "
                f"train, val, test or an empty cell{did_you_mean(text, SPELLINGS)}"
            )
    return texts([*(SPELLINGS[text.lower()] for text in distinct), None])[codes]

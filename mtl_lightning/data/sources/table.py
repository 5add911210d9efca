"""Labels, image paths and inputs from the columns of a table."""

import os
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources.base import Source, SourceTable, Texts
from mtl_lightning.data.sources.columns import Columns, Labels, Values
from mtl_lightning.data.sources.locate import Path, locate, relative_keys, texts
from mtl_lightning.data.sources.rooted import rooted
from mtl_lightning.data.sources.tabular import TableFile, open_header, open_table
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.cells import decimal_point, identifier, normalised
from mtl_lightning.tasks.rle import is_rle

IMAGELESS = "set `image: null` if rows have no image"


class TableSource(Source):
    """A CSV, TSV, JSON Lines or Parquet file with one row per image, or without images.

    Args:
        path: The table; its suffix gives the format (.csv, .tsv, .jsonl, .ndjson, .parquet).
        image: The column of image paths; null if rows have no image. Where there are
            ``data.inputs``, a cell may be empty: that row has no image.
        root: The folder that the paths are relative to; by default the folder of the table
            as it was named.
        labels: Task to column, or for a multi-label task label to column; by default every column
            named like a task or a label. Of several columns (``[new, old]``), the first that is
            not empty is the label; it is an error if another contradicts it.
        split: The column of splits (train, val, test; empty: see ``data.splits``); by default the
            column ``split`` if it exists and is not a label.
        group: The column of groups, whose rows are never in two splits; by default the column
            ``group`` if it exists and is not a label. (``""`` for no groups, or no splits.)
        missing: Further texts that mean "not labelled", like the empty cell.
        values: Meanings of texts, null for "not labelled": either for one task, such as ``{gender:
            {m: male, f: female}}``, which must then contain every text that occurs (as a text or a
            meaning), or for all tasks, ``{m: male}``, which leaves other texts as they are.
        allow_outside_root: Whether images may be outside ``root``, by ``../``, an
            absolute path or a link; only for a table that you trust.
        decimal: ``,`` if numbers are written with a decimal comma: ``12,5``, ``1.234,5``.
        key: The column with a name of the image that is the same in all tables, for
            ``data.same_by: key`` and for random splits; by default its path relative to ``root``,
            or without an image the name of the table and the row.
        date: The column of dates, for ``data.splits: {by: date}`` and `TimeOrder`.
        date_format: How it writes them, as in Python's ``strptime`` (``%d.%m.%Y``); by default
            ISO 8601: ``2024-03-01``, ``2024-03``, ``2024-03-01 12:30``.
        inputs: Input to column, for ``data.inputs``; by default every column named like an input.
        intensity: The values of the image files that are black and white, see `Intensity`: ``{min:
            -1000, max: 2000}`` or ``{percentiles: [1, 99]}``; by default those of the format, and
            an image whose format does not define them (signed, float, 12 bits in 16) is refused.
    """

    def __init__(
        self,
        path: Path,
        image: str | None = "image",
        root: Path | None = None,
        labels: Labels | None = None,
        split: str | None = None,
        group: str | None = None,
        missing: list[str] | None = None,
        values: Values | None = None,
        allow_outside_root: bool = False,
        key: str | None = None,
        decimal: Literal[".", ","] = ".",
        intensity: Intensity | None = None,
        date: str | None = None,
        date_format: str | None = None,
        inputs: dict[str, str] | None = None,
    ) -> None:
        self.path = os.path.expanduser(path)
        self.image = image
        self.root = os.path.dirname(self.path) if root is None else os.path.expanduser(root)
        self.labels = labels
        self.split = split
        self.group = group
        self.missing = missing or []
        self.values = values
        self.allow_outside_root = allow_outside_root
        self.key = key
        self.decimal = decimal
        self.intensity = intensity
        self.date = date
        self.date_format = date_format
        self.inputs = inputs

    def check_files(self) -> None:
        """Check the table and its columns; see `Source.check_files`."""
        header = open_header(self.path)
        if header is None:
            return
        columns = self._columns(header)
        columns.check(self.labels)
        if self.image is not None:
            columns.required(self.image, "image")
        for input_name, column in (self.inputs or {}).items():
            columns.required(column, f'input "{input_name}"')
        for purpose in ("key", "split", "group", "date"):
            if name := getattr(self, purpose):
                columns.required(name, purpose)

    def read(self, tasks: Sequence[str]) -> SourceTable:
        """Read the table and find its images; see `Source.read`."""
        return self._read(open_table(self.path), tasks)

    def missing_images(self) -> dict[int, str]:
        """Find the images of all rows; see `Source.missing_images`."""
        if self.image is None:
            return {}
        try:
            table = open_table(self.path)
            paths = table.column(self.image) if self.image in table.names else texts([])
            named = np.array([path is not None for path in paths], dtype=bool)
            exists = np.zeros(len(paths), dtype=bool)
            exists[named] = locate(self.root, paths[named].tolist(), self.allow_outside_root)[1]
        except UserError:
            return {}
        return {
            int(i): f"{table.path} row {table.rows[i]}: {paths[i] or 'an empty cell'}"
            for i in np.flatnonzero(~exists)
        }

    def read_without(self, rows: Collection[int], tasks: Sequence[str]) -> SourceTable | None:
        """Read the other rows; see `Source.read_without`."""
        table = open_table(self.path)
        kept = np.setdiff1d(np.arange(len(table.rows)), list(rows))
        return self._read(table.take(kept), tasks) if len(kept) else None

    def _read(self, table: TableFile, tasks: Sequence[str]) -> SourceTable:
        columns = self._columns(table)
        read = columns.of_inputs(self.inputs_wanted, self.inputs)
        chosen = columns.of_tasks(tasks, self.labels, self._no_labels(), required=not read)
        paths, images = self._located(columns)
        keys = self._keys(columns, paths, table.rows.tolist())
        without = pd.isna(paths)
        if without.any():
            where = os.path.abspath(self.path)
            names = [f"row {row} of {where}" for row in table.rows[without].tolist()]
            images[without] = keys[without] if self.key else texts(names)
        taken = {*self._no_labels(), *(name for names in chosen.values() for name in names)}
        return SourceTable(
            origin=self.path,
            images=images,
            keys=keys,
            labels=columns.labels(chosen, tasks, self.values, self.missing, read.values()),
            splits=columns.splits(self.split, taken),
            groups=columns.optional(self.group, "group", taken),
            dates=columns.dates(self.date, self.date_format),
            rows=table.rows,
            columns=chosen | {name: [column] for name, column in read.items()},
            notes=columns.notes,
            inputs=columns.cells(read, self.missing),
            slices=columns.slices(self.slices_wanted),
            without_image=without if without.any() else None,
        )

    def read_images(self) -> tuple[Texts, Texts]:
        """Return the image paths as written in the table, and resolved, without any label.

        Where a row has no image, both are None.
        """
        return self._located(self._columns(open_table(self.path)))

    def _columns(self, table: TableFile) -> Columns:
        def fetch(name: str) -> Texts:
            cells = table.column(name)
            if self.decimal == "." or name == self.image:
                return cells
            return normalised(cells, decimal_point)

        return Columns(table.path, table.names, fetch, table.location, num_rows=len(table.rows))

    def target_files(self, table: SourceTable, task: str) -> Texts:
        """Resolve the files that a task's columns name, as images; see `Source.target_files`.

        A cell that holds a run-length encoded mask is returned as it is.
        """
        cells = table.labels[task]
        files = cells.flatten()
        named = np.flatnonzero([cell is not None and not is_rle(cell) for cell in files])

        def location(i: int) -> str:
            row, column = divmod(int(named[i]), cells[0].size if cells.ndim > 1 else 1)
            return table.location(row, task, column)

        paths = files[named].tolist()
        what = f"target files of task {task}"
        files[named] = rooted(self.root, paths, location, self.allow_outside_root, what)
        return files.reshape(cells.shape)

    def target_content(self, target: str) -> bytes:
        """Return the content of a file, or the mask in a cell; see `Source.target_content`."""
        return target.encode() if is_rle(target) else super().target_content(target)

    def _located(self, columns: Columns) -> tuple[Texts, Texts]:
        image = self.image
        if image is None:
            nothing = texts([None] * columns.num_rows)
            return nothing, nothing.copy()
        column = columns.required(image, "image", IMAGELESS if self.inputs_wanted else "")
        if self.inputs_wanted:
            paths = columns.fetch(column)
        else:
            paths = _filled(columns, column, "the path of an image")
        named = np.flatnonzero(pd.notna(paths))
        images = texts([None] * len(paths))
        images[named] = rooted(
            self.root,
            paths[named].tolist(),
            lambda i: columns.location(int(named[i]), image),
            self.allow_outside_root,
        )
        return paths, images

    def _no_labels(self) -> list[str]:
        return [name for name in (self.image, self.key) if name is not None]

    def _keys(self, columns: Columns, paths: Texts, rows: Sequence[int]) -> Texts:
        if self.key is None:
            named = np.flatnonzero(pd.notna(paths))
            name = os.path.basename(self.path)
            keys = texts([f"{name}:{row}" for row in rows])
            keys[named] = relative_keys(self.root, paths[named].tolist())
            return keys
        keys = _filled(columns, columns.required(self.key, "key"), "the name of the image")
        return normalised(keys, identifier)


def _filled(columns: Columns, name: str, expected: str) -> Texts:
    """Return the cells of a column in which none may be empty."""
    cells = columns.fetch(name)
    empty = np.flatnonzero(pd.isna(cells))
    if empty.size:
        raise UserError(f"{columns.location(int(empty[0]), name)} is empty; expected {expected}")
    return cells

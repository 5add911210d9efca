"""Files of rows and columns, read as text: CSV, TSV, JSON Lines and Parquet."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.images import suffixes
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.content import LONGEST_CELL, Cells
from mtl_lightning.data.sources.delimited import read_delimited, read_header
from mtl_lightning.data.sources.json_lines import read_json_lines
from mtl_lightning.data.sources.locate import url
from mtl_lightning.data.sources.parquet import read_parquet
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
)
from mtl_lightning.tasks.cells import text_of

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*_SEPARATORS, *_JSON_LINES, ".parquet")
"""The suffixes of the files that `open_table` reads."""

_LOOKED_AT = 100  # cells that are checked to be paths
_FEW = 10_000  # different cells of a column


@dataclass(frozen=True)
class TableFile:
    """An opened table.

    Attributes:
        path: The file as the user named it.
        names: The columns, in order.
        rows: The number of each row for messages, (N,), see `SourceTable.rows`.
        fetch: Returns the N cells of a column as in the file.
    """

    path: str
    names: list[str]
    rows: npt.NDArray[np.int64]
    fetch: Callable[[str], Cells]

    def location(self, i: int | np.integer, column: str) -> str:
        """Return the place of the cell of row ``i`` (a position in ``rows``) for a message."""
        return f"{self.path} row {self.rows[i]}, column {quoted(column)}"

    def take(self, chosen: npt.NDArray[np.int64]) -> "TableFile":
        """Return a table of some rows, by their positions in ``rows``."""

        def fetch(name: str) -> Cells:
            cells = self.fetch(name)
            return [cells[i] for i in chosen.tolist()]

        return TableFile(self.path, self.names, self.rows[chosen], fetch)

    def column(self, name: str) -> Texts:
        """Return a column as stripped text, None where a cell is empty or null.

        Numbers, truth values and lists of typed files follow `text_of`.

        Raises:
            UserError: If a cell is an object, bytes, a list of lists or far too long, or the file
                is broken there.
        """
        cells = self.fetch(name)
        if isinstance(cells, np.ndarray):
            return cells
        try:
            if set(map(type, cells)) <= {str, type(None)}:
                raw = cast("Sequence[str | None]", cells)
            else:
                raw = list(map(text_of, cells))
        except TypeError:
            nested = next(i for i, value in enumerate(cells) if not _is_flat(value))
            raise UserError(
                f"{self.location(nested, name)}: "
                "expected text, a number, a truth value or a list of these, not a nested or binary "
                "value"
            ) from None
        few = _few(raw)
        try:
            # Equal texts share one object from here on: a million labels take little memory.
            own = _stripped if few is None else {text: _stripped(text) for text in few}.get
            return np.fromiter(map(own, raw), dtype=object, count=len(raw))
        except OverflowError:
            i, text = next((i, t) for i, t in enumerate(raw) if t and len(t) > LONGEST_CELL)
            raise UserError(
                f"{self.location(i, name)}: there are {len(text):,} characters in this cell; "
                f"expected at most {LONGEST_CELL:,}"
            ) from None


def _few(cells: Sequence[str | None]) -> set[str | None] | None:
    """Return the distinct cells, or None if there are many."""
    different: set[str | None] = set()
    for start in range(0, len(cells), _FEW):
        different.update(cells[start : start + _FEW])
        if len(different) > _FEW:
            return None
    return different


def _stripped(text: str | None) -> str | None:
    if not text:
        return None
    if len(text) > LONGEST_CELL:
        raise OverflowError
    return text.strip() or None


def _is_flat(value: object) -> bool:
    try:
        text_of(value)
    except TypeError:
        return False
    return True


def open_table(path: str | os.PathLike[str]) -> TableFile:
    """Open a table in the format of its suffix.

    CSV and TSV are UTF-8 with or without a byte-order mark, with any line ends; a quoted cell may
    contain line breaks. Blank rows are skipped.

    Args:
        path: A .csv, .tsv, .jsonl, .ndjson or .parquet file.

    Returns:
        The table, with at least one row and distinct names of columns.

    Raises:
        UserError: If the file does not exist, is of another kind, broken or empty, or has a column
            twice.
    """
    path = os.fspath(path)
    suffix = _checked_suffix(path)
    try:
        if suffix in _SEPARATORS:
            table = TableFile(path, *read_delimited(path, _SEPARATORS[suffix]))
        elif suffix in _JSON_LINES:
            table = TableFile(path, *read_json_lines(path))
        else:
            table = TableFile(path, *read_parquet(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if suffix in _SEPARATORS:
        _check_header(table)
    table = _composed(table)
    twice = _twice(table.names)
    if twice:
        raise UserError(f"{path} has two columns named {quoted(twice[0])}; rename one of them")
    if not len(table.rows):
        raise UserError(f"{path} has no rows; expected at least one below the header")
    return table


def open_header(path: str | os.PathLike[str]) -> TableFile | None:
    """Return a table without its rows, None if its columns are not known without reading them.

    Raises:
        UserError: If the file does not exist, is of another kind or empty.
    """
    path = os.fspath(path)
    suffix = _checked_suffix(path)
    if suffix in _JSON_LINES:
        return None
    try:
        names = read_header(path, _SEPARATORS[suffix]) if suffix in _SEPARATORS else None
        names = read_parquet(path).names if names is None else names
    except (OSError, ValueError, csv.Error):
        return None  # `open_table` says what is wrong, and where
    table = _composed(TableFile(path, names, np.zeros(0, dtype=np.int64), lambda _: []))
    images = suffix in _SEPARATORS and any(name.lower().endswith(suffixes()) for name in names)
    return None if images or _twice(table.names) else table


def _checked_suffix(path: str) -> str:
    """Return the suffix of a table that exists, in lower case."""
    suffix = os.path.splitext(path)[1].lower()
    if url(path):
        raise UserError(f"{path} is a URL; download the table and give its path")
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is not a table that can be read: expected {listed(SUFFIXES)}")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, expected a file")
    if not os.path.isfile(path):
        raise UserError(f"{path} does not exist or is not a file{_neighbour(path)}")
    try:
        if os.path.getsize(path) == 0:
            raise UserError(f"{path} is empty; expected columns and rows")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return suffix


def _twice(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def no_header(path: str, image: str) -> str:
    """Return the message about a table whose first row is not the names of its columns."""
    return (
        f"{path} has no header: its first row names the image {quoted(image)}; put a row with the "
        f"names of the columns above it, such as image,label"
    )


def _check_header(table: TableFile) -> None:
    """Refuse a header that names an image, as the cells below it do."""
    for name in table.names:
        if name.lower().endswith(suffixes()):
            cells = table.column(name)[:_LOOKED_AT]
            if any(cell is not None and cell.lower().endswith(suffixes()) for cell in cells):
                raise UserError(no_header(table.path, name))


def _composed(table: TableFile) -> TableFile:
    """Return the table with the names of its columns in Unicode's normal form C."""
    written = {normalize("NFC", name): name for name in table.names}
    if list(written) == table.names:
        return table
    names = [normalize("NFC", name) for name in table.names]
    return replace(table, names=names, fetch=lambda name: table.fetch(written[name]))


def _neighbour(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return ""
    others = (other for other in os.listdir(folder or ".") if other.lower().endswith(SUFFIXES))
    return did_you_mean(name, (other for other in others if other != name))

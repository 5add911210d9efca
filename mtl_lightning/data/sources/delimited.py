"""CSV and TSV, read strictly: tolerating a stray quote would silently lose rows."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter

import numpy as np

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.content import (
    LONGEST_CELL,
    Cells,
    Content,
    check_text,
    first_fault,
    holds_nul,
)
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.system.errors import UserError, quoted

_CHUNK = 256  # rows; the garbage collector would see more of larger ones
_REMEMBERED = 10_000  # texts of a column
_LONGEST = 2**31 - 1  # the largest limit that csv accepts on every system
_NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}


def read_delimited(path: str, separator: str) -> Content:
    """Read CSV or TSV in UTF-8; see `tabular.open_table`.

    Rows are numbered as in a spreadsheet. If a row is shorter than the header, the missing cells
    are empty.

    Raises:
        UserError: If the file is not UTF-8 text or has no header, a quote is out of place, or a row
            is longer than the header.
    """
    check_text(path)
    if holds_nul(path):  # refused by csv in Python 3.10 and accepted later
        raise UserError(_undecodable(path, separator))
    with open(path, encoding="utf-8-sig", newline="") as file, _long_cells():
        reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True)
        try:
            header = _header(f"{path} row 1", next(reader, []), separator)
            numbers, columns, longest = _body(path, reader, len(header), separator)
        except UnicodeDecodeError:
            raise UserError(_undecodable(path, separator)) from None
        except csv.Error:
            raise UserError(_stray_quote(path, separator)) from None
    at = {name: i for i, name in enumerate(header) if name}

    def fetch(name: str) -> Cells:
        cells: Texts = np.concatenate([texts([]), *columns[at[name]]])
        return cells if longest[at[name]] <= LONGEST_CELL else cells.tolist()

    named = [name for name in header if name]
    return Content(named, np.asarray(numbers, dtype=np.int64), fetch)


def read_header(path: str, separator: str) -> list[str]:
    """Return the names of the columns of a CSV or TSV file, see `read_delimited`.

    Raises:
        UserError: If there are none.
        ValueError: If the header is not UTF-8 text, or contains a byte 0.
        csv.Error: If a quote in it is out of place.
    """
    check_text(path)
    with open(path, encoding="utf-8-sig", newline="") as file, _long_cells():
        reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True)
        names = [name for name in _header(f"{path} row 1", next(reader, []), separator) if name]
    if any("\0" in name for name in names):
        raise ValueError(path)
    return names


def _header(where: str, row: list[str], separator: str) -> list[str]:
    names = [name.strip() for name in row]
    if not any(names):
        raise UserError(f"{where} is empty; expected the names of the columns there")
    if names[0].lower().startswith("sep=") and not any(names[1:]):
        raise UserError(
            f"{where}: {quoted(names[0])} is a line for Excel alone; remove it, and separate "
            f"columns by a {_NAMES[separator]}"
        )
    for other, called in _NAMES.items():
        if len(names) == 1 and other != separator and other in names[0]:
            raise UserError(
                f"{where}: {quoted(names[0])} is a single column; in a file of this suffix columns "
                f"are separated by a {_NAMES[separator]}, not by a {called}"
            )
    return names


@contextmanager
def _long_cells() -> Iterator[None]:
    """Allow cells of any length: `TableFile.column` reports one that is used and too long."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _Known(dict[str, str | None]):
    """Stripped text, or None, for each cell; equal texts share one object."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0

    def __missing__(self, cell: str) -> str | None:
        self.longest = max(self.longest, len(cell))
        self[cell] = text = cell.strip() or None
        return text


def _body(
    path: str, reader: Iterator[list[str]], width: int, separator: str
) -> tuple[list[int], list[list[Texts]], list[int]]:
    """Return the numbers of non-blank rows, and each column's chunks and longest cell."""
    numbers: list[int] = []
    columns: list[list[Texts]] = [[] for _ in range(width)]
    known = [_Known() for _ in range(width)]
    number, first = 2, itemgetter(0)
    while rows := list(islice(reader, _CHUNK)):
        own = list(range(number, number + len(rows)))
        number += len(rows)
        # The work on each of a million rows is done by loops in C, while the few rows of a chunk
        # are in the processor's cache.
        if set(map(len, rows)) != {width} or not all(map(str.strip, map(first, rows))):
            fitted = [
                (n, whole)
                for n, row in zip(own, rows, strict=True)
                if (whole := _fitted(f"{path} row {n}", row, width, separator)) is not None
            ]
            if not fitted:
                continue
            own, rows = [n for n, _ in fitted], [row for _, row in fitted]
        numbers += own
        for i, cells in enumerate(zip(*rows, strict=True)):
            # An array, since the garbage collector would visit each cell of a list.
            columns[i].append(texts(_cleaned(cells, known[i])))
    return numbers, columns, [cells.longest for cells in known]


def _cleaned(cells: Sequence[str], known: _Known) -> Sequence[str | None]:
    if len(known) < _REMEMBERED:
        return [*map(known.__getitem__, cells)]
    known.longest = max(known.longest, *map(len, cells))
    stripped = [*map(str.strip, cells)]
    return stripped if all(stripped) else [cell or None for cell in stripped]


def _fitted(where: str, row: list[str], width: int, separator: str) -> list[str] | None:
    """Return a row as wide as the header, or None for a blank one."""
    text = "".join(row)
    if not text or text.isspace():
        return None
    surplus = [cell for cell in row[width:] if cell and not cell.isspace()]
    if surplus:
        raise UserError(
            f"{where} has {len(row):,} cells, the header {width:,}: {quoted(surplus[0])} is in no "
            f"column; a cell that holds a {_NAMES[separator]} needs quotes"
        )
    return row[:width] + [""] * (width - len(row))


def _undecodable(path: str, separator: str) -> str:
    """Return a message that names the first cell that is not UTF-8 text."""
    before, what = first_fault(path)
    # With one more character, the last cell is the one in question, also after a line break.
    text = io.StringIO(f"{before}?", newline="")
    number = 0
    header: list[str] = []
    row: list[str] = []
    for row in csv.reader(text, delimiter=separator, skipinitialspace=True):
        number, header = number + 1, header or row
    column = _column(header, len(row) - 1) if number > 1 else ""
    return f"{path} row {number}{column}: {what}"


def _stray_quote(path: str, separator: str) -> str:
    """Return a message that names the cell with a misplaced quote."""
    number = 0
    header: list[str] = []
    lines: list[str] = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            for row in csv.reader(
                _kept(file, lines), delimiter=separator, strict=True, skipinitialspace=True
            ):
                number, header = number + 1, header or row
                lines.clear()  # at the end, only the lines of the wrong row are left
        except csv.Error:
            pass
    text = "".join(lines)
    quotes = r' *"[^"]*(?:""[^"]*)*"(?!")'
    good = re.compile(rf'(?:{quotes}| *(?![ "])[^{separator}\r\n]*)(?=[{separator}\r\n]|\Z)')
    column = start = 0
    while match := good.match(text, start):
        column, start = column + 1, match.end() + 1
    what = (
        "continues after its closing quote; a quote inside a cell is written twice"
        if re.compile(quotes).match(text, start)
        else "starts with a quote that is never closed"
    )
    return f"{path} row {number + 1}{_column(header, column)}: the cell {what}"


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    for line in lines:
        kept.append(line)
        yield line


def _column(header: list[str], position: int) -> str:
    name = header[position].strip() if position < len(header) else ""
    return f", column {quoted(name)}" if name else ""

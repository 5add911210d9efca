"""CSV and TSV, read strictly: to make the best of a stray quote is to lose rows in silence."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO

import numpy as np

from mtl_lightning.data.sources.content import Content, check_text, first_fault
from mtl_lightning.errors import UserError, quoted

_CHUNK = 1024  # rows
_REMEMBERED = 100_000  # texts
_LONGEST = 2**31 - 1  # the most that csv can be told on every system
_NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}


class _NulError(Exception):
    """A byte 0, which the csv of Python 3.10 refuses and later ones let pass."""


def read_delimited(path: str, separator: str) -> Content:
    """Read CSV or TSV in UTF-8; see `tabular.open_table`.

    Rows are numbered as a spreadsheet shows them. Where a row is shorter than the header, the
    cells at its end are empty.

    Raises:
        UserError: If the file is no UTF-8 text or has no header, a quote is out of place, or a row
            is longer than the header.
    """
    check_text(path)
    numbers: list[int] = []
    parts: list[np.ndarray[tuple[int, int], np.dtype[np.object_]]] = []
    seen: dict[str, str] = {}
    with open(path, encoding="utf-8-sig", newline="") as file, _long_cells():
        rows = _rows(path, file, separator)
        try:
            header = _header(f"{path} row 1", next(rows, (1, []))[1], separator)
            while chunk := list(islice(rows, _CHUNK)):
                numbers += [number for number, _ in chunk]
                cells = list(chain.from_iterable(row for _, row in chunk))
                # Equal texts share one object: a wide table of few labels stays small.
                shared = np.fromiter(map(seen.setdefault, cells, cells), object, len(cells))
                parts.append(shared.reshape(len(chunk), len(header)))
                if len(seen) > _REMEMBERED:
                    seen.clear()
        except (UnicodeDecodeError, _NulError):
            raise UserError(_undecodable(path, separator)) from None
    columns = {name: i for i, name in enumerate(header) if name}
    return Content(
        [name for name in header if name],
        np.asarray(numbers, dtype=np.int64),
        lambda name: [cell for part in parts for cell in part[:, columns[name]]],
    )


def _header(where: str, row: list[str], separator: str) -> list[str]:
    names = [name.strip() for name in row]
    if not any(names):
        raise UserError(f"{where} is empty; expected the names of the columns there")
    for other, called in _NAMES.items():
        if len(names) == 1 and other != separator and other in names[0]:
            raise UserError(
                f"{where}: {quoted(names[0])} is a single column; in a file of this suffix columns "
                f"are separated by a {_NAMES[separator]}, not by a {called}"
            )
    return names


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be of any length: of one that is used, `TableFile.column` says it if too long."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(path: str, file: IO[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the header, and the rows that are not blank, as wide as it; each with its number."""
    number, header = 0, []
    pending: list[str] = []
    lines = _lines(file, pending)
    try:
        for number, row in enumerate(
            csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True), 1
        ):
            pending.clear()
            text = "".join(row)
            if number == 1:
                header = row
            elif not text or text.isspace():
                continue
            elif len(row) != len(header):
                row = _fitted(f"{path} row {number}", row, len(header), separator)
            yield number, row
    except csv.Error:
        what = _stray_quote("".join(pending), header, separator)
        raise UserError(f"{path} row {number + 1}{what}") from None


def _lines(file: IO[str], pending: list[str]) -> Iterator[str]:
    """Yield the lines; those of the row that is being read are kept in ``pending``."""
    for line in file:
        if "\0" in line:
            raise _NulError
        pending.append(line)
        yield line


def _fitted(where: str, row: list[str], width: int, separator: str) -> list[str]:
    surplus = [cell for cell in row[width:] if cell and not cell.isspace()]
    if surplus:
        raise UserError(
            f"{where} has {len(row):,} cells, the header {width:,}: {quoted(surplus[0])} is in no "
            f"column; a cell that holds a {_NAMES[separator]} needs quotes"
        )
    return row[:width] + [""] * (width - len(row))


def _undecodable(path: str, separator: str) -> str:
    """Say in which cell a file ceases to be UTF-8 text."""
    before, what = first_fault(path)
    # With one character more the last cell is the one in question, after a line break too.
    text = io.StringIO(f"{before}?", newline="")
    number = 0
    header: list[str] = []
    row: list[str] = []
    for row in csv.reader(text, delimiter=separator, skipinitialspace=True):
        number, header = number + 1, header or row
    column = _column(header, len(row) - 1) if number > 1 else ""
    return f"{path} row {number}{column}: {what}"


def _stray_quote(text: str, header: list[str], separator: str) -> str:
    """Say which cell of the row with which ``text`` begins has a quote that should not be there."""
    quotes = r' *"[^"]*(?:""[^"]*)*"(?!")'
    good = re.compile(rf'(?:{quotes}| *(?![ "])[^{separator}\r\n]*)(?=[{separator}\r\n]|\Z)')
    column = start = 0
    while match := good.match(text, start):
        column, start = column + 1, match.end() + 1
    what = (
        "goes on after its closing quote; a quote inside of a cell is written twice"
        if re.compile(quotes).match(text, start)
        else "begins with a quote that nothing closes"
    )
    return f"{_column(header, column)}: the cell {what}"


def _column(header: list[str], position: int) -> str:
    name = header[position].strip() if position < len(header) else ""
    return f", column {quoted(name)}" if name else ""

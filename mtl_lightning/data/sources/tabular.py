"""Files of rows and columns, read as text: CSV, TSV, JSON Lines and Parquet."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.errors import UserError, did_you_mean, listed

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*_SEPARATORS, *_JSON_LINES, ".parquet")
"""The suffixes of the files that `open_table` reads."""


@dataclass(frozen=True)
class TableFile:
    """An opened table.

    Attributes:
        path: The file as the user named it.
        names: The columns, in order.
        rows: The number of each row for messages, (N,), see `SourceTable.rows`.
        fetch: A column's cells as the file holds them, N of them.
    """

    path: str
    names: list[str]
    rows: npt.NDArray[np.int64]
    fetch: Callable[[str], Sequence[object]]

    def column(self, name: str) -> Texts:
        """Return a column as stripped text, None where a cell is empty or null.

        Numbers and truth values of typed files follow `as_text`.

        Raises:
            UserError: If a cell is a list, an object or bytes.
        """
        cells = self.fetch(name)
        try:
            raw = [value if type(value) is str else as_text(value) for value in cells]
        except TypeError:
            row = next(
                row for row, value in zip(self.rows, cells, strict=True) if _is_nested(value)
            )
            raise UserError(
                f'{self.path} row {row}, column "{name}": '
                "expected text, a number or a truth value, not a nested or binary value"
            ) from None
        # Equal texts share one object from here on: a million labels take no more than a few.
        codes, distinct = pd.factorize(texts(raw))
        clean = texts([*(value.strip() or None for value in distinct), None])
        return clean[codes]  # a null has code -1, the last


def as_text(value: object) -> str | None:
    """Return a value of a typed file or of YAML as the text it is compared by.

    Whole numbers lose their decimal point (``1.0`` is ``1``), truth values are ``true`` and
    ``false``, null and NaN are None.

    Raises:
        TypeError: If the value is nested or binary.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal):
        if value != value:
            return None
        # Beyond 2**53 a float no longer stands for one whole number.
        whole = -(2**53) < value < 2**53 and value == int(value)
        return str(int(value)) if whole else str(value)
    if _is_nested(value):
        raise TypeError(type(value))
    return str(value)


def _is_nested(value: object) -> bool:
    return isinstance(value, list | tuple | dict | bytes)


def open_table(path: str | os.PathLike[str]) -> TableFile:
    """Open a table; its suffix says what it is.

    CSV and TSV are UTF-8 with or without a byte-order mark, with any line ends; a quoted cell may
    contain line breaks. Blank rows are passed over.

    Args:
        path: A .csv, .tsv, .jsonl, .ndjson or .parquet file.

    Returns:
        The table, with at least one row and no two columns of one name.

    Raises:
        UserError: If the file is absent, of another kind, broken, empty or has a column twice.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is not a table that can be read: expected {listed(SUFFIXES)}")
    if not os.path.isfile(path):
        raise UserError(f"{path} does not exist or is not a file{_neighbour(path)}")
    if os.path.getsize(path) == 0:
        raise UserError(f"{path} is empty; expected columns and rows")
    try:
        if suffix in _SEPARATORS:
            table = _delimited(path, _SEPARATORS[suffix])
        elif suffix in _JSON_LINES:
            table = _json_lines(path)
        else:
            table = _parquet(path)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); save it with encoding UTF-8"
        ) from None
    except (OSError, pd.errors.ParserError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as {suffix[1:]}: {reason}") from None
    return _checked(table)


def _checked(table: TableFile) -> TableFile:
    twice = [name for name in table.names if table.names.count(name) > 1]
    if twice:
        raise UserError(f'{table.path} has two columns named "{twice[0]}"; rename one of them')
    if not len(table.rows):
        raise UserError(f"{table.path} has no rows; expected at least one below the header")
    return table


def _neighbour(path: str) -> str:
    folder, name = os.path.split(path)
    return did_you_mean(name, os.listdir(folder or ".")) if os.path.isdir(folder or ".") else ""


def _delimited(path: str, separator: str) -> TableFile:
    # The header is read as a row: pandas would rename a column that stands there twice and
    # take the first column for an index where rows are longer than the header.
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:  # a blank first line counts as such, whatever follows
        frame = pd.DataFrame([[""]])
    header = [str(name).strip() for name in frame.iloc[0]]
    if not any(header):
        raise UserError(f"{path} row 1 is empty; expected the names of the columns there")
    filled = np.flatnonzero((frame != "").any(axis=1))
    body = frame.iloc[filled[1:]]
    columns = {name: body[i] for i, name in enumerate(header) if name}
    return TableFile(
        path,
        [name for name in header if name],
        filled[1:].astype(np.int64) + 1,
        lambda name: columns[name].tolist(),
    )


def _json_lines(path: str) -> TableFile:
    with open(path, encoding="utf-8-sig") as file:
        # Not splitlines(): JSON strings may contain the Unicode line separators.
        lines = file.read().split("\n")
    numbers = [number for number, line in enumerate(lines, 1) if line and not line.isspace()]
    filled = [lines[number - 1] for number in numbers]
    records = _records(path, filled, numbers)
    return TableFile(
        path,
        list(dict.fromkeys(chain.from_iterable(records))),
        np.asarray(numbers, dtype=np.int64),
        lambda name: [record.get(name) for record in records],
    )


def _records(path: str, lines: list[str], numbers: Sequence[int]) -> list[dict[str, object]]:
    try:
        records = json.loads("[" + ",".join(lines) + "]")
    except json.JSONDecodeError:
        records = []
    # One parse of the whole is fast, but only a line by line one can say where it is wrong
    # (and two broken lines may even make one whole).
    if len(records) != len(lines) or set(map(type, records)) - {dict}:
        for line, number in zip(lines, numbers, strict=True):
            try:
                whole = isinstance(json.loads(line), dict)
            except json.JSONDecodeError:
                whole = False
            if not whole:
                raise UserError(f"{path} row {number} is not a JSON object: {line.strip()[:60]}")
    return list(records)


def _parquet(path: str) -> TableFile:
    file = pa.parquet.ParquetFile(path)

    rows = np.arange(1, file.metadata.num_rows + 1, dtype=np.int64)
    return TableFile(
        path,
        list(file.schema_arrow.names),
        rows,
        lambda name: arrow_values(file.read(columns=[name]).column(name)),
    )


def arrow_values(cells: pa.ChunkedArray) -> Sequence[object]:
    """Return an Arrow column as Python's values, its floats with no more digits than were meant."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pa.types.is_float32(cells.type) or pa.types.is_float16(cells.type):
        # As float64 a third would read 0.3333333432674408: the text is what was meant.
        shortest = cells.cast(pa.string()).cast(pa.float64())
        return list(shortest.to_pylist())
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        return list(cells.to_numpy())
    return list(cells.to_pylist())

"""Parquet: typed columns; only those that are needed are read."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mtl_lightning.data.sources.content import Content, check_parquet
from mtl_lightning.system.errors import UserError, one_line, quoted

_BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)


def read_parquet(path: str) -> Content:
    """Open a Parquet file; see `tabular.open_table`.

    Rows are numbered from 1, without a header.

    Raises:
        UserError: If the file is not Parquet, truncated or damaged; for a column, when fetched.
    """
    check_parquet(path)
    try:
        file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
        names = list(file.schema_arrow.names)
        rows = np.arange(1, file.metadata.num_rows + 1, dtype=np.int64)
    except _BROKEN as error:
        raise UserError(f"{path} {_damage(error)}") from None

    def fetch(name: str) -> Sequence[object]:
        try:
            cells = file.read(columns=[name]).column(name)
        except _BROKEN as error:
            raise UserError(f"{path}, column {quoted(name)} {_damage(error)}") from None
        return arrow_values(cells, lambda i: f"{path} row {rows[i]}, column {quoted(name)}")

    return Content(names, rows, fetch)


def _damage(error: Exception) -> str:
    if isinstance(error, pa.ArrowNotImplementedError):
        return f"cannot be read: {one_line(str(error))}"
    return "is damaged; copy the file, or write it again"  # Arrow's reason would not help users


def arrow_values(cells: pa.ChunkedArray, location: Callable[[int], str]) -> list[object]:
    """Return an Arrow column as Python values, with floats as short as their precision allows.

    Args:
        cells: The column, which may be dictionary-encoded.
        location: Returns the place of the cell of a row (a position) for messages.

    Raises:
        UserError: If a text is not UTF-8, or a time is out of Python's range.
    """
    try:
        return _values(cells)
    except _BROKEN:
        row = next(i for i, cell in enumerate(cells) if not _is_readable(cell))
        kind = _kind(cells)
        what = "text there is not UTF-8" if _is_text(kind) else f"{kind} there is out of range"
        raise UserError(f"{location(row)}: the {what}") from None


def _values(cells: pa.ChunkedArray) -> list[object]:
    cells = cells.cast(_kind(cells))
    if pa.types.is_float32(cells.type) or pa.types.is_float16(cells.type):
        # As float64, a third would read 0.3333333432674408; its shortest text is meant.
        cells = cells.cast(pa.string()).cast(pa.float64())
    return list(cells.to_numpy() if _is_text(cells.type) else cells.to_pylist())


def _kind(cells: pa.ChunkedArray) -> pa.DataType:
    """Return the type of the cells, which may be dictionary-encoded."""
    return cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_readable(cell: pa.Scalar) -> bool:
    try:
        cell.as_py()
    except (ValueError, OverflowError):
        return False
    return True

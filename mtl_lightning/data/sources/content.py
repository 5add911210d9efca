"""The result of readers of table files, and checks that a file has the format of its name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.errors import UserError, quoted

_NO_TEXT = {
    b"\xff\xfe\x00\x00": "UTF-32 text; save it with encoding UTF-8",
    b"\x00\x00\xfe\xff": "UTF-32 text; save it with encoding UTF-8",
    b"\xff\xfe": "UTF-16 text; save it with encoding UTF-8",
    b"\xfe\xff": "UTF-16 text; save it with encoding UTF-8",
    b"PAR1": "a Parquet file; its name should end in .parquet",
    b"PK\x03\x04": "a workbook, or another ZIP archive; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it",
}
"""Starts of files that may be mistaken for text; a longer one comes before its prefix."""


Cells: TypeAlias = Sequence[object] | Texts
"""A column; an array holds only stripped text and None."""

LONGEST_CELL = 32_767
"""Largest number of characters of a path or a label, as in a spreadsheet's cell."""


class Content(NamedTuple):
    """The rows of a file.

    Attributes:
        names: The columns, in order; duplicates are possible.
        rows: The number of each row for messages, (N,), see `SourceTable.rows`.
        fetch: Returns the N cells of a column as in the file.
    """

    names: list[str]
    rows: npt.NDArray[np.int64]
    fetch: Callable[[str], Cells]


def check_text(path: str) -> None:
    """Raise a `UserError` if a file does not start like UTF-8 text."""
    with open(path, "rb") as file:
        head = file.read(4)
    for beginning, what in _NO_TEXT.items():
        if head.startswith(beginning):
            raise UserError(f"{path} is {what}")


def check_parquet(path: str) -> None:
    """Raise a `UserError` if a file does not start and end like Parquet."""
    with open(path, "rb") as file:
        head = file.read(12)
        file.seek(-min(4, file.seek(0, 2)), 2)
        tail = file.read()
    if head.startswith(b"PARE"):
        raise UserError(f"{path} is an encrypted Parquet file; decrypt it")
    if not head.startswith(b"PAR1"):
        begins = quoted(head.decode("utf-8", "replace"))
        raise UserError(f"{path} is not a Parquet file; it starts with {begins}")
    if tail != b"PAR1":
        raise UserError(f"{path} is cut off, the end of a Parquet file is missing; copy it again")


def holds_nul(path: str) -> bool:
    """Whether a file contains a byte 0."""
    with open(path, "rb") as file:
        return any(b"\0" in piece for piece in iter(lambda: file.read(2**20), b""))


def first_fault(path: str) -> tuple[str, str]:
    """Find the first byte of a file that is not UTF-8 text, or is 0.

    Returns:
        The text before it, and the error.
    """
    data = Path(path).read_bytes()
    end, nul = len(data), data.find(b"\0")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        end = error.start
    if 0 <= nul < end:
        end, what = nul, "there is a byte 0, as in UTF-16 text"
    else:
        what = f"the byte 0x{data[end]:02X} is not UTF-8"
    return data[:end].decode("utf-8-sig"), f"{what}; save the table with encoding UTF-8"

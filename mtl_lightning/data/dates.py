"""Dates and times in cells."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtl_lightning.system.errors import UserError, quoted
from mtl_lightning.tasks.cells import moments

Dates: TypeAlias = npt.NDArray[np.datetime64]
"""(n,) datetime64[us], UTC where cells have an offset; NaT for an empty cell."""


def parse_dates(
    cells: npt.NDArray[np.object_], date_format: str | None, location: Callable[[int], str]
) -> Dates:
    """Read cells as dates; each distinct text is read once.

    Args:
        cells: (n,) str or None.
        date_format: As in `datetime.datetime.strptime`: ``%d.%m.%Y``; None for ISO 8601, from
            ``2024`` to ``2024-03-01T12:30:00+01:00``.
        location: Returns the place of a cell for messages.

    Returns:
        (n,) datetime64[us].

    Raises:
        UserError: If a cell is not such a date, or there is no such format.
    """
    codes, texts = pd.factorize(cells)
    dates: Dates = moments(texts, date_format)
    for code in np.flatnonzero(np.isnat(dates))[:1]:
        rows = np.flatnonzero(codes == code)
        more = f" ({len(rows):,} cells like this)" if len(rows) > 1 else ""
        expected = "2024-03-01 or 2024-03-01 12:30 (ISO 8601; for others set `date_format`)"
        raise UserError(
            f"{location(int(rows[0]))}: {quoted(texts[code])} is not a date{more}; expected "
            f"{expected if date_format is None else f'the format {quoted(date_format)}'}"
        )
    return np.append(dates, np.datetime64("NaT"))[codes]  # an empty cell has code -1, the last


def date_texts(dates: Dates) -> npt.NDArray[np.object_]:
    """Return dates as texts that numpy reads, None for NaT: (n,)."""
    out = np.full(len(dates), None, dtype=object)
    known = ~np.isnat(dates)
    out[known] = [date.isoformat().removesuffix("T00:00:00") for date in dates[known].tolist()]
    return out


def date_text(date: np.datetime64) -> str:
    """Return a date for a message, with its time unless that is midnight."""
    return str(pd.Timestamp(date)).removesuffix(" 00:00:00")

"""Cells of tables: when two are the same, and which ones may stand for a missing label.

A cell is missing (None) or text: a word, a number, a list of names, or a distribution over them.
CSV holds nothing but text, and programs write a column of integers with gaps as ``1.0``; typed
files hold numbers and lists. Here every cell gets one canonical text, by which it is compared
everywhere: with a source's ``missing`` and ``values``, with classes, groups and keys. What a *task*
reads alike in two texts (``hat;bag`` and ``bag;hat``) is that task's business, see `Task.meaning`.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from decimal import Decimal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtl_lightning.system.errors import UserError

_NO_ANSWER = re.compile(
    r"""-?nan | <na> | n/?a | n\.a\.? | n/d | null | nil | none | missing | tb[acd] | todo
    | \#(na | n/a | n/a\ n/a | null! | value! | ref! | name\? | num! | div/0!)  # spreadsheets
    | -?1\.\#(ind | qnan)
    | undef(ined)? | unk(nown)? | unspecified | un(labell?ed | annotated)
    | no\ label | not\ (available | applicable | specified | labell?ed)
    | [-?.*#\u2013\u2014\u2026]{1,3}""",
    re.VERBOSE | re.IGNORECASE,
)
"""Cells that may stand for a missing label."""

NEGATIVE_CODES = ("-1", "-9", "-99", "-100", "-999", "-9999", "-32768", "-2147483648")
"""Numbers that stand for a missing label if all others are 0 or more."""

POSITIVE_CODES = ("99", "255", "999", "9999", "65535", "99999")
"""Numbers that may stand for a missing label if they are the largest and far from the others."""

NONE = "none"
"""Separated names of which there is none: no label applies, or a set has no class. An empty cell
is no label, or no answer."""

_NUMBER = re.compile(r"([+-]?)(0|[1-9]\d*|(?=\.\d))(?:\.(\d*?)0*)?", re.ASCII)
_EXPONENT = re.compile(r"[+-]?\d(?:\.\d*)?[eE][+-]\d\d?", re.ASCII)
"""As programs write it, ``1e+16``: without a sign, ``12e4`` may be part of a checksum."""
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+", re.ASCII)
_TRUTH = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def canonical(text: str) -> str:
    """Return the canonical text of all texts that are the same label.

    A text that is a number as a whole becomes the shortest such text (``1.0`` and ``+1`` become
    ``1``, ``5.00`` becomes ``5``; ``007`` and ``Golf 2.0`` are not numbers). Truth values are
    lower-cased, and other texts are put into Unicode's normal form C.
    """
    if not text.isascii():
        return unicodedata.normalize("NFC", text)
    if text[:1] not in "+-.0123456789":
        return _TRUTH.get(text, text)
    padded = text[:1] == "." or ("." in text and text[-1] in "0.")
    if not padded and "+" not in text and "-" not in text:
        return text  # decided early, since there may be a million different numbers
    plain = format(Decimal(text), "f") if _EXPONENT.fullmatch(text) else text
    match = _NUMBER.fullmatch(plain)
    if match is None:
        return text
    sign, whole, fraction = match.groups()
    digits = f"{whole or 0}.{fraction}" if fraction else whole or "0"
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def decimal_point(text: str) -> str:
    """Return a text that is a number with a decimal comma as a whole with a point instead."""
    if not _DECIMAL_COMMA.fullmatch(text):
        return text
    return text.replace(".", "").replace(",", ".")


def identifier(text: str) -> str:
    """Return the canonical text of all texts that are the same group or key.

    Like `canonical`, except that ``12.10`` is not ``12.1``: the parts of an identifier are not
    fractions.
    """
    shortest = canonical(text)
    return text if "." in shortest and text.isascii() else shortest


def normalised(
    cells: NDArray[np.object_], of: Callable[[str], str] = canonical
) -> NDArray[np.object_]:
    """Return a column of canonical texts; each distinct text is converted once.

    Args:
        cells: ``(n,)`` or ``(n, columns)``, str or None.
        of: Makes a text canonical.
    """
    codes, distinct = pd.factorize(cells.ravel())
    own = [of(text) for text in distinct]
    if own == distinct.tolist():
        return cells
    # An empty cell has code -1, the last.
    return np.array([*own, None], dtype=object)[codes].reshape(cells.shape)


def text_of(value: object) -> str | None:
    """Return a value of a typed file as a cell's text, None for null and NaN.

    A list becomes JSON: ``["hat", "bag"]``, see `items`.

    Raises:
        TypeError: If the value is binary, an object, or nested deeper.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        if any(isinstance(each, list) for each in value):
            raise TypeError(list)
        return json.dumps([text_of(each) for each in value], ensure_ascii=False)
    if isinstance(value, tuple | dict | bytes):
        raise TypeError(type(value))
    return None if value != value else canonical(str(value))


def items(cell: str, separator: str) -> list[str]:
    """Return the canonical texts of a cell that holds a list, in JSON or separated."""
    if cell.startswith("["):
        try:
            found = json.loads(cell)
            return [canonical(text.strip()) for each in found if (text := text_of(each))]
        except (ValueError, TypeError, RecursionError):
            pass  # a name may start with a bracket
    return [canonical(text) for part in cell.split(separator) if (text := part.strip())]


def votes(cell: str) -> list[tuple[str, float]] | None:
    """Read ``Dress:3|Shirt:1`` as names with votes; None if the text does not have this form."""
    found = []
    for part in cell.split("|"):
        name, colon, number = part.rpartition(":")
        try:
            share = float(number)
        except ValueError:
            return None
        if not colon or not name.strip() or not 0 <= share < float("inf"):
            return None
        found.append((canonical(name.strip()), share))
    return found


def says_nothing(cell: str) -> bool:
    """Whether a cell is a word or a sign that may stand for a missing label."""
    return _NO_ANSWER.fullmatch(cell) is not None


def looks_missing(cell: str) -> bool:
    """Whether a cell may stand for a missing label, whatever else is in its column."""
    return says_nothing(cell) or cell in (*NEGATIVE_CODES, *POSITIVE_CODES)


def doubtful(column: Iterable[str]) -> list[str]:
    """Return the distinct texts of a column of labels that may stand for no label, sorted.

    Words such as ``n/a`` always may. A negative code (``-1``) may if no other number is negative or
    fractional: not next to 1 alone (no and yes), and not in -2, -1, 0, 1, 2. A positive code
    (``255``) may if it is the largest number and its predecessor does not occur.
    """
    texts = list(map(canonical, column))
    found = {text for text in texts if says_nothing(text)}
    values = {text: value for text in texts if (value := number(text)) is not None}
    others = {v for text, v in values.items() if text not in NEGATIVE_CODES}
    words = len(texts) - len(values) - len(found)
    if (words or others != {1}) and all(v >= 0 and v.is_integer() for v in others):
        found.update(text for text in values if text in NEGATIVE_CODES)
    largest = max(values, key=lambda text: values[text], default="")
    if largest in POSITIVE_CODES and values[largest] - 1 not in others and words + len(others) > 2:
        found.add(largest)
    return sorted(found)


def outlying_codes(values: Collection[float]) -> list[float]:
    """Return which of the distinct numbers of a column of amounts may stand for no label.

    A negative code may where all others are 0 or more, a positive one where it is at least ten
    times the largest other.
    """
    negative, positive = (set(map(float, codes)) for codes in (NEGATIVE_CODES, POSITIVE_CODES))
    others = set(values) - negative
    found = sorted(set(values) & negative) if others and min(others) >= 0 else []
    largest = max(others, default=0.0)
    if largest in positive and 10 * max(others - {largest}, default=largest) <= largest:
        found.append(largest)
    return found


def number(text: str) -> float | None:
    """Return the value of a text that is a finite number as a whole, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    if "_" in text:  # Python alone allows it as a digit separator
        return None
    return value if -float("inf") < value < float("inf") else None


def moments(cells: NDArray[np.object_], date_format: str | None) -> NDArray[np.datetime64]:
    """Return cells as (N,) datetime64[us] in UTC, NaT for those that are missing or no date.

    Args:
        cells: (N,) str or None.
        date_format: As in Python's ``strptime``; None for ISO 8601.

    Raises:
        UserError: If there is no such format.
    """
    column = pd.Series(cells, dtype=object)
    # pandas takes these words for the moment at which the program runs.
    column = column.mask(column.isin(["now", "today"]))
    try:
        read = pd.to_datetime(column, format=date_format or "ISO8601", errors="coerce", utc=True)
    except (ValueError, re.error) as error:
        raise UserError(
            f"the format of dates should be as in Python's strptime, such as %d.%m.%Y. Found "
            f'"{date_format}" ({error})'
        ) from error
    found: NDArray[np.datetime64] = read.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return found

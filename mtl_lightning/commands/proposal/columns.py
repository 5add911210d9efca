"""What the cells of a column are, judged by nothing but the cells."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import pandas as pd

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.tasks.base import LOOKS_MISSING
from mtl_lightning.tasks.classification import parsed_votes
from mtl_lightning.tasks.multilabel import NO, NONE, YES

MISSING = LOOKS_MISSING - {NONE}
"""Texts that mean "not labelled"; "none" may as well be a class: no glasses, no collar."""
MOST_CLASSES = 1000
NEARLY_ALL, NEARLY_ALL_NUMBERS = 0.5, 0.9
"""A column with more values than this share of its rows names them; numbers may differ more."""
FEW_NUMBERS, ROWS_A_NUMBER = 12, 5
"""Up to so many whole numbers, each so often in the mean, are classes."""
SEPARATORS = (";", "|", ",")
SEPARATED, TIMES, MOST_NAMES = 0.1, 3, 200
"""Names are separated in this share of the rows, come back so often, and are no more than that."""
_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")


class Kind(Enum):
    """What a task could make of a column."""

    CLASSES = "classes"
    NUMBERS = "numbers"
    YES_NO = "yes or no"
    NAMES = "separated names"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Column:
    """What the cells of a column are.

    Attributes:
        kind: What a task could make of it.
        counts: How often each class (or name, or ``yes``) occurs.
        labels: How many cells are filled.
        missing: Texts in it that mean "not labelled".
        separator: Between names.
        why: Why it is nothing; or what else it could be.
    """

    kind: Kind
    counts: Mapping[str, int] = field(default_factory=dict)
    labels: int = 0
    missing: tuple[str, ...] = ()
    separator: str = ""
    why: str = ""


def judged(cells: Texts) -> Column:
    """Judge a column by its cells, `str` or None."""
    counts = Counter(cell for cell in cells if cell is not None)
    if not counts:
        return Column(Kind.NOTHING, why="it is empty")
    missing = tuple(sorted(text for text in counts if _is_missing(text, counts)))
    for text in missing:
        del counts[text]
    column = _judged(counts)
    return Column(
        column.kind,
        column.counts or dict(counts),
        sum(counts.values()),
        missing,
        column.separator,
        column.why,
    )


def _is_missing(text: str, counts: Mapping[str, int]) -> bool:
    """Whether a text means "not labelled" among these; -1 may be a number, or a no."""
    if text != "-1":
        return text.lower() in MISSING
    others = [other for other in counts if other != "-1" and other.lower() not in MISSING]
    if set(others) <= {"1", "+1"}:
        return False
    values = numbers(others)
    return values is None or bool((values >= 0).all() and (values == values.round()).all())


def _judged(counts: Mapping[str, int]) -> Column:
    rows = sum(counts.values())
    if len(counts) < 2:
        only = f'"{next(iter(counts))}"' if counts else "nothing that is a label"
        return Column(Kind.NOTHING, why=f"it says {only} everywhere")
    words = {text.lower() for text in counts}
    if words <= YES | NO and words & YES and words & NO:
        return Column(Kind.YES_NO)
    values = numbers(counts)
    if values is not None:
        return _of_numbers(values, rows)
    if all(_DATE.fullmatch(text) for text in counts):
        return Column(Kind.NOTHING, why="these are dates")
    votes = _votes(counts)
    if votes:
        return Column(Kind.CLASSES, votes)
    names = _names(counts, rows)
    if names is not None:
        return names
    if len(counts) > NEARLY_ALL * rows:
        return Column(Kind.NOTHING, why=_too_many(len(counts), rows))
    if len(counts) > MOST_CLASSES:
        return Column(Kind.NOTHING, why=f"{len(counts):,} different values are no classes")
    return Column(Kind.CLASSES)


def _too_many(distinct: int, rows: int) -> str:
    return f"nearly as many values as rows ({distinct:,} of {rows:,})"


def numbers(texts: Iterable[str]) -> np.ndarray | None:
    """Return texts as finite numbers, None if any is none."""
    values = pd.to_numeric(pd.Series(list(texts), dtype=object), errors="coerce")
    array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return array if np.isfinite(array).all() else None


def _of_numbers(values: np.ndarray, rows: int) -> Column:
    whole = bool((values == values.round()).all())
    if not whole:
        return Column(Kind.NUMBERS)
    if len(values) > NEARLY_ALL_NUMBERS * rows:
        return Column(Kind.NOTHING, why=_too_many(len(values), rows))
    if len(values) == 2:
        return Column(Kind.CLASSES)
    if len(values) <= FEW_NUMBERS and len(values) * ROWS_A_NUMBER <= rows:
        return Column(Kind.CLASSES, why="if its numbers are amounts: {class_path: Regression}")
    return Column(Kind.NUMBERS)


def _votes(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the classes of cells such as ``Dress:3|Shirt:1``, if there are any."""
    if not any("|" in text and parsed_votes(text) for text in counts):
        return {}
    votes: Counter[str] = Counter()
    for text, count in counts.items():
        for name in [name for name, _ in parsed_votes(text) or [(text, 1.0)]]:
            votes[name] += count
    return dict(votes)


def _names(counts: Mapping[str, int], rows: int) -> Column | None:
    """Return the names that are separated in cells, None if they are not."""
    for separator in SEPARATORS:
        divided = sum(count for text, count in counts.items() if separator in text)
        names: Counter[str] = Counter()
        for text, count in counts.items():
            parts = {part.strip() for part in text.split(separator)} - {"", NONE}
            names.update(dict.fromkeys(parts, count))
        if (
            divided >= SEPARATED * rows
            and 2 <= len(names) <= MOST_NAMES
            and sum(names.values()) >= TIMES * len(names)
            and not any("/" in name for name in names)
        ):
            return Column(Kind.NAMES, dict(names), separator=separator)
    return None

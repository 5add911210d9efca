"""The kind of a column, classified by its cells alone."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import pandas as pd

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.tasks.cells import (
    NONE,
    POSITIVE_CODES,
    canonical,
    decimal_point,
    doubtful,
    items,
    looks_missing,
    normalised,
    votes,
)
from mtl_lightning.tasks.multilabel import NO, YES

MOST_CLASSES = 1000
NEARLY_ALL, NEARLY_ALL_NUMBERS = 0.5, 0.9
"""Share of rows with different values above which a column names rows; numbers may differ more."""
FEW_NUMBERS, ROWS_A_NUMBER = 12, 5
"""Number of integers up to which they are classes, and their least mean frequency."""
SEPARATORS = (";", "|", ",")
SEPARATED, TIMES, MOST_NAMES = 0.1, 3, 200
"""Least share of rows with separated names, their least mean frequency, and largest number."""
COMBINATIONS = 2
"""Names between blanks come in so many combinations each: else the words are those of classes."""
_IN_SENTENCES = {"a", "an", "the", "of", "and", "with", "in", "on", "is", "to", "for"}
_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}([ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")


class Kind(Enum):
    """The kind of task that a column could become."""

    CLASSES = "classes"
    NUMBERS = "numbers"
    YES_NO = "yes or no"
    NAMES = "separated names"
    MASKS = "masks of classes"
    DEPTH = "maps of numbers"
    NORMALS = "maps of vectors"
    NOTHING = "nothing"


DENSE = (Kind.MASKS, Kind.DEPTH, Kind.NORMALS)
"""Kinds whose cells name files with a label for each pixel."""


@dataclass(frozen=True)
class Column:
    """The classification of a column.

    Attributes:
        kind: The kind of task that it could become.
        counts: Frequency of each class (or name, or ``yes``), pixels of each value of masks.
        labels: Number of filled cells.
        missing: Texts in it that mean "not labelled".
        separator: The separator of names.
        decimal: Whether its numbers have a decimal comma.
        reason: Why it cannot be a task, or an alternative.
    """

    kind: Kind
    counts: Mapping[str, int] = field(default_factory=dict)
    labels: int = 0
    missing: tuple[str, ...] = ()
    separator: str = ""
    decimal: bool = False
    reason: str = ""


def classify_column(cells: Texts, wanted: bool = False) -> Column:
    """Classify a column.

    Args:
        cells: Its cells, str or None.
        wanted: Whether it is a task although its cells do not look like labels: of numbers or of
            classes then, unless it has no two values.
    """
    counts: Counter[str] = Counter()
    for text, count in Counter(cell for cell in cells if cell is not None).items():
        counts[canonical(text)] += count
    if not counts:
        return Column(Kind.NOTHING, reason="it is empty")
    decimal = _has_decimal_commas(counts)
    if decimal:
        return replace(classify_column(normalised(cells, decimal_point), wanted), decimal=True)
    # "none" may as well be a class: no glasses, no collar.
    missing = {text for text in doubtful(counts) if text.lower() != NONE}
    column = _classify({text: n for text, n in counts.items() if text not in missing})
    if column.kind is Kind.NUMBERS:  # an amount may well be 99 or 255
        missing -= set(POSITIVE_CODES)
    rest = {text: n for text, n in counts.items() if text not in missing}
    if wanted and column.kind is Kind.NOTHING and len(rest) > 1:
        column = Column(Kind.CLASSES if as_numbers(rest) is None else Kind.NUMBERS)
    return replace(
        column,
        counts=column.counts or rest,
        labels=sum(rest.values()),
        missing=tuple(sorted(missing)),
    )


def _has_decimal_commas(counts: Mapping[str, int]) -> bool:
    """Whether all cells are numbers, some with a decimal comma, and not lists of numbers."""
    filled = [text for text in counts if not looks_missing(text)]
    points = [decimal_point(text) for text in filled]
    if points == filled or as_numbers(points) is None:
        return False
    pairs = [text.split(",") for text in filled if "," in text]
    # The names in a list such as "3,17" are mostly sorted, and none starts with 0.
    return any(more.startswith("0") or float(few) >= float(more) for few, more in pairs)


def _classify(counts: Mapping[str, int]) -> Column:
    rows = sum(counts.values())
    if len(counts) < 2:
        only = f'"{next(iter(counts))}"' if counts else "nothing that is a label"
        reason = f"it says {only} everywhere"
        if {text.lower() for text in counts} & YES:
            reason += (
                "; if its empty cells mean no, make it a label of a MultiLabel with "
                "unobserved: negative"
            )
        return Column(Kind.NOTHING, reason=reason)
    words = {text.lower() for text in counts}
    if words <= YES | NO and words & YES and words & NO:
        return Column(Kind.YES_NO)
    values = as_numbers(counts)
    if values is not None:
        return _classify_numbers(values, rows)
    if all(_DATE.fullmatch(text) for text in counts):
        return Column(Kind.NOTHING, reason="these are dates")
    voted = _votes(counts)
    if voted:
        return Column(Kind.CLASSES, voted)
    names = _separated_names(counts, rows, SEPARATORS) or _words(counts, rows)
    if names is not None:
        return names
    if len(counts) > NEARLY_ALL * rows:
        return Column(Kind.NOTHING, reason=_too_many(len(counts), rows))
    if len(counts) > MOST_CLASSES:
        return Column(Kind.NOTHING, reason=f"{len(counts):,} different values are not classes")
    return Column(Kind.CLASSES)


def _too_many(distinct: int, rows: int) -> str:
    return f"nearly as many values as rows ({distinct:,} of {rows:,})"


def as_numbers(texts: Iterable[str]) -> np.ndarray | None:
    """Return texts as finite numbers, None if any is not one."""
    values = pd.to_numeric(pd.Series(list(texts), dtype=object), errors="coerce")
    array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return array if np.isfinite(array).all() else None


def _classify_numbers(values: np.ndarray, rows: int) -> Column:
    whole = bool((values == values.round()).all())
    if not whole:
        return Column(Kind.NUMBERS)
    if len(values) > NEARLY_ALL_NUMBERS * rows:
        return Column(Kind.NOTHING, reason=_too_many(len(values), rows))
    if len(values) == 2:
        return Column(Kind.CLASSES)
    if len(values) <= FEW_NUMBERS and len(values) * ROWS_A_NUMBER <= rows:
        return Column(Kind.CLASSES)
    return Column(Kind.NUMBERS)


def _votes(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the classes of cells such as ``Dress:3|Shirt:1``, if there are any."""
    if not any("|" in text and votes(text) for text in counts):
        return {}
    voted: Counter[str] = Counter()
    for text, count in counts.items():
        for name in [name for name, _ in votes(text) or [(text, 1.0)]]:
            voted[name] += count
    return dict(voted)


def _words(counts: Mapping[str, int], rows: int) -> Column | None:
    """Return the names that blanks separate: few, in many combinations, of one name and of more."""
    found = _separated_names(counts, rows, " ")
    if found is None or len(counts) < COMBINATIONS * len(found.counts):
        return None
    lengths = {len(text.split()) for text in counts}
    sentences = _IN_SENTENCES & {name.lower() for name in found.counts}
    return found if len(lengths) > 2 and 1 in lengths and not sentences else None


def _separated_names(
    counts: Mapping[str, int], rows: int, separators: Iterable[str]
) -> Column | None:
    """Return the separated names in cells, None if there are none."""
    for separator in separators:
        divided = sum(n for text, n in counts.items() if separator in text or text[0] == "[")
        names: Counter[str] = Counter()
        for text, count in counts.items():
            parts = set(items(text, separator)) - {NONE}
            names.update(dict.fromkeys(parts, count))
        if (
            divided >= SEPARATED * rows
            and 2 <= len(names) <= MOST_NAMES
            and sum(names.values()) >= TIMES * len(names)
            and not any("/" in name for name in names)
        ):
            return Column(Kind.NAMES, dict(names), separator=separator)
    return None

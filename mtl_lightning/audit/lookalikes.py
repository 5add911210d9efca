"""Class values that look like misspellings of each other: ``T-shirt`` and ``Tshirt``.

Values that differ only in case, accents, spaces and punctuation are one value. Other small
differences are a mistake only if one of the two is rare: Shirt and Skirt are both words. Numbers
are never confused, nor values that differ in digits, in signs (``A+``, ``C#``) or, in sets of many
single letters, in case.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping

_SIGNS = "+#<>=*%&!?@$^~|"
"""Punctuation that distinguishes values; a minus does so at an end: ``A-``."""
_FEW = 12
"""Number of values up to which ``m`` and ``M`` are one; more may be all letters."""
_MOST = 2000
"""Number of values above which only those with the same folded text are compared."""
_FAMILY = 50
"""Number of values that differ in two letters, above which they are numbered by letters."""
_RARE = 0.02
"""Largest share of a misspelling relative to the right spelling, unless it occurs once."""


def lookalikes(counts: Mapping[str, int]) -> list[list[str]]:
    """Return groups of values that look like one value, each with the most frequent first.

    Args:
        counts: Value to its number of occurrences.
    """
    folded = {value: fold(value, len(counts) <= _FEW) for value in counts}
    parents = {value: value for value in counts}

    def root(value: str) -> str:
        while parents[value] != value:
            value = parents[value]
        return value

    for one, other in _pairs(folded):
        if folded[one] == folded[other] or (
            _may_be_a_typo(one, other)
            and _misspelt(folded[one], folded[other], counts[one], counts[other])
        ):
            parents[root(one)] = root(other)
    groups: dict[str, list[str]] = {}
    for value in counts:
        groups.setdefault(root(value), []).append(value)
    return [
        sorted(group, key=lambda value: (-counts[value], value))
        for group in groups.values()
        if len(group) > 1
    ]


def fold(value: str, single: bool = True) -> str:
    """Return a value without differences of spelling: case, accents, spaces, punctuation.

    Args:
        value: The value in the table.
        single: Whether the case of a single letter may differ too.
    """
    number = _number(value)
    if number is not None:
        return f"={number!r}"
    text = value.strip()
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in parts if not unicodedata.combining(c))
    if len(text) > 1 or single:
        text = text.casefold()
    text = re.sub(r"(?<=\d)[\W_]+(?=\d)", "|", text)  # 1-10 is not 110
    ends = text[:1] * text.startswith("-"), text[-1:] * text.endswith("-")
    kept = "".join(c for c in text if c.isalnum() or c in _SIGNS)
    return f"{ends[0]}{kept}{ends[1]}" if any(c.isalnum() for c in kept) else value


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _pairs(folded: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield pairs with the same folded text, or the same without a letter or two."""
    keys: dict[str, list[str]] = {}
    for value, text in folded.items():
        for key in _reductions(text) if len(folded) <= _MOST else {text}:
            keys.setdefault(key, []).append(value)
    seen: set[tuple[str, str]] = set()
    for values in keys.values():
        # Many names that differ in two letters are numbered by letters, not typos.
        for number, one in enumerate(values if len(values) <= _FAMILY else ()):
            for other in values[number + 1 :]:
                if (one, other) not in seen:
                    seen.add((one, other))
                    yield one, other


def _reductions(text: str) -> set[str]:
    """Return the text, and its digits with what is left of its letters without one or two."""
    digits, letters = _digits(text), re.sub(r"\d", "", text)
    found = {letters}
    for _ in range(_allowed(text)):
        found |= {known[:i] + known[i + 1 :] for known in found for i in range(len(known))}
    if _allowed(text):
        found.add(letters.removesuffix("es"))
    return {text} | {f"{digits}:{known}" for known in found}


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _allowed(text: str) -> int:
    """Return the number of typos a word may have: short words are near many others."""
    return 0 if text.startswith("=") or len(text) < 4 else 1 if len(text) < 9 else 2


def _marks(value: str) -> tuple[int, list[str]]:
    """Return the number of words, and those that are short: ``B`` of ``type B``, ``II``."""
    words = [word.casefold() for word in re.split(r"[\W_]+", value) if word]
    return len(words), [w for w in words if len(w) <= 2 or re.fullmatch("[ivx]+", w)]


def _may_be_a_typo(one: str, other: str) -> bool:
    (words, marks), (others, other_marks) = _marks(one), _marks(other)
    return words != others or marks == other_marks


def _misspelt(one: str, other: str, count: int, more: int) -> bool:
    """Whether one folded text is probably a typo of the other."""
    short, long = sorted((one, other), key=len)
    allowed = _allowed(short)
    if not allowed or _digits(one) != _digits(other) or _signs(one) != _signs(other):
        return False
    if long.endswith(short):  # typical, atypical
        return False
    if long in (f"{short}s", f"{short}es"):
        return True
    rare, common = sorted((count, more))
    if _swapped(one, other) or _doubled(short, long):
        return 3 * rare <= common
    if len(long) < 5 or rare > max(1, _RARE * common) or common < 3:
        return False
    return distance(one, other) <= allowed


def _signs(text: str) -> list[str]:
    return sorted(c for c in text if not c.isalnum())


def _swapped(one: str, other: str) -> bool:
    """Whether two adjacent letters are swapped."""
    differ = [i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
    return (
        len(one) == len(other)
        and len(differ) == 2
        and differ[1] == differ[0] + 1
        and one[differ[0]] == other[differ[1]]
        and one[differ[1]] == other[differ[0]]
    )


def _doubled(short: str, long: str) -> bool:
    """Whether one letter of a word is doubled."""
    return len(long) == len(short) + 1 and any(
        long[i] == long[i + 1] and long[:i] + long[i + 1 :] == short for i in range(len(short))
    )


def distance(one: str, other: str) -> int:
    """Return the optimal string alignment distance.

    It counts letters added, left out, changed, or swapped with their neighbour.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]

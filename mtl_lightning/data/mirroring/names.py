"""Names of classes and labels that say left or right."""

import re
from collections.abc import Sequence

_OTHER = {"left": "right", "right": "left"}
_WORD = re.compile(r"[^\W\d_]+")
"""Letters only: ``left_arm`` and ``front-left`` contain the word, ``leftover`` does not."""


def has_side(name: str) -> bool:
    """Whether a name contains the word left or right."""
    return any(word.lower() in _OTHER for word in _WORD.findall(name))


def partners(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that differ only in their side, in the order of the names."""
    return [
        (name, other)
        for number, name in enumerate(names)
        if has_side(name) and (other := mirrored(name)) in names[number + 1 :]
    ]


def mirrored(name: str) -> str:
    """Return a name with its sides swapped, in the same case."""

    def other(word: re.Match[str]) -> str:
        text = _OTHER.get(word[0].lower(), word[0])
        if word[0].lower() not in _OTHER or word[0].islower():
            return text
        return text.upper() if word[0].isupper() else text.capitalize()

    return _WORD.sub(other, name)

"""Meanings of texts in columns, as given by the user: `missing` and `values`."""

from collections.abc import Iterable, Mapping

from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted
from mtl_lightning.tasks.cells import canonical, number

_SUGGESTED = 1000
"""Number of distinct cells among which the nearest to a user's entry is searched."""


class Meanings:
    """Meanings of texts, for all spellings of a canonical text (`cells.canonical`).

    Args:
        option: The name of the user's option in messages.
        given: Text to its meaning, None for "not labelled".
    """

    def __init__(self, option: str, given: Mapping[str, str | None]) -> None:
        self.given: dict[str, str] = {}
        """Text as written by the user to its option."""
        self._meanings: dict[str, str | None] = {}
        self._seen: set[str] = set()
        self._used: set[str] = set()
        self.update(option, given)

    def update(self, option: str, given: Mapping[str, str | None]) -> None:
        """Add texts of another option, which take precedence."""
        own: dict[str, str | None] = {}
        # In Python, numbers are given as numbers.
        given = {str(text): None if mean is None else str(mean) for text, mean in given.items()}
        for text, meaning in given.items():
            meant = None if meaning is None else canonical(meaning)
            if own.setdefault(_cell(text), meant) != meant:
                raise UserError(f"`{option}` gives {quoted(text)} two meanings; expected one")
        self.given |= dict.fromkeys(given, option)
        self._meanings |= own

    def __str__(self) -> str:
        return listed(self.given)

    def __bool__(self) -> bool:
        return bool(self.given)

    def translated(self, distinct: Iterable[str | None]) -> list[str | None]:
        """Return the meanings of canonical texts; texts without one stay as they are."""
        found = list(distinct)
        known = self._meanings.keys() & found if self else set()
        self._used |= known
        if len(self._used) < len(self._meanings):
            self._seen.update(text for text in found[:_SUGGESTED] if text is not None)
        return [self._meanings[text] if text in known else text for text in found]

    def knows(self, text: str) -> bool:
        """Whether a text is one of the meanings."""
        return text in self._meanings.values()

    def _nearest(self, text: str) -> str:
        near = sorted(self._seen - self._used)
        return did_you_mean(text, near) if number(text) is None else ""

    def unused(self) -> list[str]:
        """Return a line for each text that matched no cell."""
        return [
            f"{quoted(text)} of `{option}` is in no cell of the labels{self._nearest(text)}"
            for text, option in self.given.items()
            if _cell(text) not in {"", *self._used}
        ]


def _cell(text: str) -> str:
    return canonical(text.strip())

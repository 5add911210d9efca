"""What texts in columns mean, as the user says it: `missing` and `values`."""

from collections.abc import Iterable, Mapping

from mtl_lightning.system.errors import UserError, did_you_mean, listed, quoted
from mtl_lightning.tasks.cells import canonical, number

_SUGGESTED = 1000
"""Different cells of a column among which the nearest to an entry of the user's is looked for."""


class Meanings:
    """What texts mean, whichever of the texts that are the same a cell has (`cells.canonical`).

    Args:
        option: How messages name where the user says it.
        given: Text to what it means, None for "not labelled".
    """

    def __init__(self, option: str, given: Mapping[str, str | None]) -> None:
        self.given: dict[str, str] = {}
        """Text as the user writes it to the option that has it."""
        self._meanings: dict[str, str | None] = {}
        self._seen: set[str] = set()
        self._used: set[str] = set()
        self.update(option, given)

    def update(self, option: str, given: Mapping[str, str | None]) -> None:
        """Add texts of another option, which prevail."""
        own: dict[str, str | None] = {}
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
        """Return what canonical texts mean, themselves where nobody says."""
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
        """Return a line for each text that no cell was."""
        return [
            f"{quoted(text)} of `{option}` is in no cell of the labels{self._nearest(text)}"
            for text, option in self.given.items()
            if _cell(text) not in {"", *self._used}
        ]


def _cell(text: str) -> str:
    return canonical(text.strip())

"""The one kind of error that a user is meant to read, and "did you mean"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can mend: a wrong key, a missing file, a contradictory label.

    The message is one line: what is wrong, where (file, row, column, key), what was expected
    and how to mend it. The command line prints it alone, without a traceback.
    """


class Stopped(Exception):  # noqa: N818 - it is no error
    """The training was ended by a signal, with everything saved.

    Args:
        number: Of the signal; the process ends with 128 more, as shells have it.
        message: One line: where it was, and how to go on.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "x"?'`` for the known name nearest to ``name``, or ``''``."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f'; did you mean "{by_lower[close[0]]}"?' if close else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names as ``a, b, c`` and, past ``limit``, how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

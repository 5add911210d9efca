"""The errors that are meant for users, and helpers for their messages."""

import difflib
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LONGEST = 100
"""Number of characters of a name, a path or a cell that a message shows."""
MOST = 10_000
"""Number of names that are searched for the nearest one: a million would take half a minute."""


class UserError(Exception):
    """An error that the user can fix: a wrong key, a missing file, a contradictory label.

    The message is one line: ``x should be ... Found ...``, its place (file, row, column, key), and
    how to fix it. The command line prints it without a traceback.
    """


class SourceError(UserError):
    """A source fails as a whole: its storage cannot be reached, or a shard of it is missing.

    This is not about one image, so ``data.on_bad_image: skip`` does not skip it.
    """


def image_error(error: UserError) -> str:
    """Return what is wrong with an image that could not be used.

    Args:
        error: The error of the attempt; a `SourceError` is raised again.
    """
    if isinstance(error, SourceError):
        raise error
    return str(error)


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal ended the training, with everything saved.

    Args:
        number: The number of the signal; the exit status is 128 more, as in shells.
        message: One line: the position of the training, and how to resume it.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


@contextmanager
def os_errors_named() -> Iterator[None]:
    """Turn an ``OSError`` about a file into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from error


def state_dict_difference(error: RuntimeError) -> str:
    """Return the first difference that torch reports in ``load_state_dict``, or ``""``."""
    first, _, rest = str(error).partition("\n")
    if "loading state_dict" not in first:
        return ""
    return rest.split("\n")[0].split(",")[0].strip().rstrip(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "x"?'`` for the known name nearest to ``name``, or ``''``."""
    by_lower = {folded(candidate): candidate for candidate in known if len(candidate) <= LONGEST}
    if len(name) > LONGEST or len(by_lower) > MOST:
        return ""
    close = difflib.get_close_matches(folded(name), by_lower, n=1, cutoff=0.6)
    if not close:
        return ""
    nearest = by_lower[close[0]]
    looks = same_letters(name, nearest)
    return f"; did you mean {quoted(nearest)}?{f' It differs in {looks}' if looks else ''}"


def folded(name: str) -> str:
    """Return a name without differences that readers overlook: normalization and case."""
    return unicodedata.normalize("NFC", name).lower()


def same_letters(name: str, other: str) -> str:
    """Return in what two names that look the same differ, ``""`` if they do not look the same."""
    if name == other or unicodedata.normalize("NFC", name) != unicodedata.normalize("NFC", other):
        return ""
    return "the Unicode normalization of its accents (NFC or NFD, as macOS writes them)"


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names as ``a, b, c`` and, beyond ``limit``, how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(short, names[:limit])) + more


def quoted(text: str, limit: int = LONGEST) -> str:
    """Return a text from a file or a user in quotes, short and on one line; see `short`."""
    length = f" ({len(text):,} characters)" if len(text) > limit else ""
    return f'"{short(text, limit)}"{length}'


def short(text: str, limit: int = LONGEST) -> str:
    """Return a text on one line, with the middle cut out beyond ``limit`` characters."""
    if len(text) <= limit:
        return one_line(text)
    tail = limit // 4
    return f"{one_line(text[: limit - tail - 3])}...{one_line(text[-tail:])}"


def one_line(text: str) -> str:
    """Return a text with escapes for line breaks and everything a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )

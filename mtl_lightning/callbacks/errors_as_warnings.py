"""Errors that cost a view of the run, not the run."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import get_console
from rich.markup import escape


@contextmanager
def errors_as_warnings(missing: str) -> Iterator[None]:
    """Print one line for an error, whatever it is, and go on.

    Args:
        missing: What there will not be because of it.
    """
    try:
        yield
    except Exception as error:  # of any kind, since a task may be the user's own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        get_console().print(
            f"[yellow]warning:[/] no {escape(missing)}: {escape(reason)}",
            highlight=False,
            soft_wrap=True,
        )

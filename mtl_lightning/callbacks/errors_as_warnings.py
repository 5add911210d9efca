"""Errors that should not stop a run, only cost one of its views."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import get_console
from rich.markup import escape


@contextmanager
def errors_as_warnings(missing: str) -> Iterator[None]:
    """Turn any error into a warning of one line, and continue.

    Args:
        missing: What is missing because of it.
    """
    try:
        yield
    except Exception as error:  # of any kind, since a task may be the user's own code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        get_console().print(
            f"[yellow]warning:[/] no {escape(missing)}: {escape(reason)}",
            highlight=False,
            soft_wrap=True,
        )

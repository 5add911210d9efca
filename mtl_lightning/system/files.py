"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PART = ".part"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a neighbour of ``path`` to write to, and put it in its place once it is complete.

    A reader never sees half a file, and a failure leaves the one that was there, also one of the
    machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what processes that were killed have left of files they were writing."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[str]]:
    """Open a text file as :func:`atomic_path` does."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file


def as_utf8(name: str) -> str:
    """Return a file's name as text that can be written: a name need not be UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()

"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Give a neighbour of ``path`` to write to, and put it in its place once it is complete.

    A reader never sees half a file, and a failure leaves the one that was there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[IO[str]]:
    """Open a text file as :func:`staged` does."""
    with staged(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield file

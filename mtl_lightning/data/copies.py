"""Copies: images under several names whose files are the same byte for byte.

Few files are read completely. Only files of equal length are compared, then their ends, and where
these agree, a hash of the whole file decides.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

from mtl_lightning.system.progress import ProgressBar

T = TypeVar("T")
TAIL = 4096
"""Number of bytes at the end of a file, in which two photographs differ."""
THREADS = 8
"""The time is mostly spent waiting for files."""


def find_copies(images: Sequence[str], progress: ProgressBar) -> list[list[int]]:
    """Return the positions of equal files, a list for each content that occurs twice or more.

    Args:
        images: Paths; empty files and paths that are no files are skipped.
        progress: Shows the progress.
    """
    sizes = [_size(image) for image in images]
    groups = _grouped([row for row, size in enumerate(sizes) if size > 0], sizes)
    for read, what in ((_tail, "comparing files"), (_whole, "comparing copies")):
        rows = [row for group in groups for row in group]
        found = progress.map(read, [images[row] for row in rows], what, THREADS)
        contents = dict(zip(rows, found, strict=True))
        groups = _grouped([row for row in rows if contents[row]], contents)
    return groups


def _grouped(rows: Iterable[int], keys: Mapping[int, T] | Sequence[T]) -> list[list[int]]:
    """Return groups of two or more rows with the same key, in the order of their first row."""
    groups: dict[T, list[int]] = {}
    for row in rows:
        groups.setdefault(keys[row], []).append(row)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if os.path.isabs(path) else -1
    except (OSError, ValueError):
        return -1


def _tail(path: str) -> bytes:
    """Return the last bytes of a file; empty if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read(TAIL)
    except OSError:
        return b""


def _whole(path: str) -> bytes:
    """Return the hash of a file; empty if it cannot be read."""
    digest = blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return b""
    return digest.digest()

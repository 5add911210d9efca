"""Copies: images under several names whose files are the same byte for byte.

Few files are read whole. Only files of one length are compared at all, then only those whose ends
agree, and of these a hash of the whole decides.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.progress import Progress
from mtl_lightning.data.merged import MergedTable
from mtl_lightning.data.splits import SPLITS

T = TypeVar("T")
TAIL = 4096
"""Bytes at the end of a file: of two photographs they differ."""
THREADS = 8
"""Files are mostly waited for."""


@dataclass(frozen=True)
class Copies:
    """Images that are one content.

    Attributes:
        rows: Their rows in the merged table, two or more.
        splits: The split of each.
        labels: Task to the different labels that they have, where there are two or more.
    """

    rows: tuple[int, ...]
    splits: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]


def find_copies(images: Sequence[str], progress: Progress) -> list[list[int]]:
    """Return the positions of equal files, a list for each content that is there twice or more.

    Args:
        images: Paths; what is no file, or empty, is passed over.
        progress: Shows what takes long.
    """
    sizes = [_size(image) for image in images]
    groups = _together([row for row, size in enumerate(sizes) if size > 0], sizes)
    for read, what in ((_tail, "comparing files"), (_whole, "comparing copies")):
        rows = [row for group in groups for row in group]
        found = progress.each(read, [images[row] for row in rows], what, THREADS)
        contents = dict(zip(rows, found, strict=True))
        groups = _together([row for row in rows if contents[row]], contents)
    return groups


def _together(rows: Iterable[int], keys: Mapping[int, T] | Sequence[T]) -> list[list[int]]:
    """Return the rows that share their key with another, in the order of their first."""
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
    """Return the last bytes of a file, none if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read(TAIL)
    except OSError:
        return b""


def _whole(path: str) -> bytes:
    """Return the hash of a file, none if it cannot be read."""
    digest = blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return b""
    return digest.digest()


def described(table: MergedTable, groups: Iterable[Sequence[int]]) -> list[Copies]:
    """Say of each group of copies in which splits they are, and on which labels they differ."""
    copies = []
    for rows in groups:
        labels = {}
        for task, cells in table.cells.items():
            said = dict.fromkeys(str(cells[row]) for row in rows if cells[row] is not None)
            if len(said) > 1:
                labels[task] = tuple(said)
        splits = tuple(SPLITS[table.splits[row]] for row in rows)
        copies.append(Copies(tuple(rows), splits, labels))
    return copies


def findings(table: MergedTable, copies: Sequence[Copies]) -> list[Finding]:
    """Name leaks between splits, copies with different labels, and other duplicates."""
    leaks = [each for each in copies if len(set(each.splits)) > 1]
    found = []
    if leaks:
        leaked = sum(len(set(each.splits)) - 1 for each in leaks)
        found.append(
            Finding(
                Level.ERROR,
                f"images with copies in another split: {leaked:,}; what is measured on them was "
                f"trained on",
                "keep one of each, or give all copies one split (by a group)",
                tuple(_named(table, each) for each in leaks),
            )
        )
    for field in table.cells:
        differ = [each for each in copies if field in each.labels]
        if differ:
            found.append(
                Finding(
                    Level.WARNING,
                    f"copies of one image that are labelled in two ways, task {field}: "
                    f"{len(differ):,}",
                    "look at them, and correct one of the labels",
                    tuple(_named(table, each, field) for each in differ),
                )
            )
    twice = [each for each in copies if len(set(each.splits)) < len(each.splits)]
    if twice:
        more = sum(len(each.splits) - len(set(each.splits)) for each in twice)
        found.append(
            Finding(
                Level.NOTE,
                f"copies of images in the same split, which count twice: {more:,}",
                where=tuple(_named(table, each) for each in twice),
            )
        )
    return found


def _named(table: MergedTable, copies: Copies, task: str | None = None) -> str:
    """Name the copies, with their splits or with their labels for a task."""
    parts = []
    for row, split in zip(copies.rows, copies.splits, strict=True):
        about = split if task is None else table.cells[task][row] or "no label"
        parts.append(f"{shown(table.images[row])} ({about})")
    return " = ".join(parts)


def shown(image: str) -> str:
    """Return how an image is called: below the current folder from there on."""
    return image.removeprefix(os.path.join(os.getcwd(), ""))

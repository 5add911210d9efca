"""What copies of images mean: leaks between splits, labels that contradict each other."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.splits import SPLITS


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

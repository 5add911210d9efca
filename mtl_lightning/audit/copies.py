"""Copies of images: leaks between splits, duplicates, labels that contradict each other."""

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mtl_lightning.audit.findings import Finding, Level
from mtl_lightning.audit.survey import is_file
from mtl_lightning.data.fields import Field
from mtl_lightning.data.merged_table import MergedTable
from mtl_lightning.data.splits import SPLITS


@dataclass(frozen=True)
class Copies:
    """Several images with the same content.

    Attributes:
        rows: Their rows in the merged table, two or more.
        splits: The split of each.
        labels: Task to their different labels, if there are two or more.
    """

    rows: tuple[int, ...]
    splits: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]


def describe(
    table: MergedTable, groups: Iterable[Sequence[int]], columns: Mapping[str, Field]
) -> list[Copies]:
    """Return the splits of each group of copies, and the labels in which they differ.

    Args:
        table: The merged images.
        groups: The rows of each group.
        columns: The meaning of a cell to its task: different texts may be the same label.
    """
    copies = []
    for rows in groups:
        labels = {}
        for task, cells in table.cells.items():
            distinct: dict[Hashable, str] = {}
            for cell in cells[list(rows)]:
                if cell is not None:
                    distinct.setdefault(columns[task].meaning(cell), cell)
            if len(distinct) > 1:
                labels[task] = tuple(distinct.values())
        splits = tuple(SPLITS[table.splits[row]] for row in rows)
        copies.append(Copies(tuple(rows), splits, labels))
    return copies


def findings(table: MergedTable, copies: Sequence[Copies]) -> list[Finding]:
    """Return leaks between splits, copies with different labels, and other duplicates."""
    leaks: dict[str, list[Copies]] = {}
    for each in copies:
        if len(set(each.splits)) > 1:
            leaks.setdefault(_fix(table, each), []).append(each)
    found = [_leaked(table, own, fix) for fix, own in leaks.items()]
    for field in table.cells:
        differ = [each for each in copies if field in each.labels]
        if differ:
            found.append(
                Finding(
                    Level.WARNING,
                    f"copies of one image that are labelled in two ways, task {field}: "
                    f"{len(differ):,}",
                    "look at them, and correct one of the labels; with data.same_by: content they "
                    "are one image, and data.on_conflict says which label holds",
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
                "data.same_by: content makes them one image, where they are files",
                where=tuple(_named(table, each) for each in twice),
            )
        )
    return found


def _fix(table: MergedTable, copies: Copies) -> str:
    """Return how to fix a leak: copies that are one image share a split, unless tables name two."""
    named = {table.named_splits[row] for row in copies.rows} - {None}
    if len(named) > 1:
        return "the tables name both splits: name one for all copies of an image, or keep one copy"
    if all(is_file(table.images[row]) for row in copies.rows):
        return "data.same_by: content makes all copies one image, which has one split"
    return "keep one of each, or give all copies one group"


def _leaked(table: MergedTable, leaks: Sequence[Copies], fix: str) -> Finding:
    number = sum(len(set(each.splits)) - 1 for each in leaks)
    return Finding(
        Level.ERROR,
        f"images with copies in another split: {number:,}; what is measured on them was trained on",
        fix,
        tuple(_named(table, each) for each in leaks),
    )


def _named(table: MergedTable, copies: Copies, task: str | None = None) -> str:
    """Return the names of copies, with their splits or with their labels for a task."""
    parts = []
    for row, split in zip(copies.rows, copies.splits, strict=True):
        about = split if task is None else table.cells[task][row] or "no label"
        parts.append(f"{display_path(table.images[row])} ({about})")
    return " = ".join(parts)


def display_path(image: str) -> str:
    """Return the path of an image as users write it: relative if it is below the current folder."""
    return image.removeprefix(os.path.join(os.getcwd(), ""))

"""Columns and classes as tasks."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtl_lightning.commands.proposal.columns import DENSE, Column, Kind, classify_column
from mtl_lightning.commands.proposal.downloads import Download
from mtl_lightning.commands.proposal.folders import Folder
from mtl_lightning.commands.proposal.ranks import order_of
from mtl_lightning.commands.proposal.tables import Table
from mtl_lightning.commands.schema import RESERVED
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.class_cells import in_order
from mtl_lightning.tasks.multilabel import YES

ATTRIBUTES = "attributes"
"""The name of the task of all yes/no columns."""
RARE = 3
"""Ratio of the most frequent class to the rarest above which classes are balanced."""


@dataclass
class TaskPlan:
    """A proposed task.

    Attributes:
        name: The name of the task.
        kind: The kind of its labels.
        counts: Frequency of each class or label.
        labels: Number of labelled images.
        separator: The separator of names.
        note: An alternative.
        order: The classes, lowest first, if they have an order.
    """

    name: str
    kind: Kind
    counts: dict[str, int]
    labels: int
    separator: str = ";"
    note: str = ""
    order: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """The classes or labels, in order."""
        return list(self.order) or in_order(list(self.counts))

    @property
    def balanced(self) -> bool:
        """Whether some classes (or yes among the answers) are rare."""
        if self.kind is Kind.CLASSES:
            return max(self.counts.values()) > RARE * min(self.counts.values())
        return min(self.counts.values()) * (RARE + 1) < self.labels


def classify_columns(
    found: Sequence[Table | Download],
    left_out: list[tuple[str, str]],
    as_tasks: Collection[str] = (),
) -> tuple[dict[str, Column], list[str]]:
    """Classify the columns; those with one name in several tables are one.

    Args:
        found: The tables and data sets.
        left_out: Gets the columns that cannot be tasks, each with the reason.
        as_tasks: Columns that the user wants as tasks, whatever they look like.

    Returns:
        The columns that may be tasks, and the texts that mean "not labelled" in all of them.

    Raises:
        UserError: If one of ``as_tasks`` has no two values.
    """
    cells: dict[str, list[Texts]] = {}
    maps: dict[str, Column] = {}
    for table in found:
        for name, own in table.labels.items():
            cells.setdefault(name, []).append(own)
        for name, column in table.maps.items():
            maps[name] = _joined(maps[name], column) if name in maps else column
    columns = {
        name: maps.get(name) or classify_column(np.concatenate(parts), name in as_tasks)
        for name, parts in cells.items()
    }
    for name in as_tasks:
        if name in columns and columns[name].kind is Kind.NOTHING:
            raise UserError(f"--task {name} cannot be a task: {columns[name].reason}")
    for table in found:
        reasons = table.left_out | {
            name: columns[name].reason
            for name in table.labels
            if columns[name].kind is Kind.NOTHING
        }
        left_out += [(f'{table.path}, column "{name}"', why) for name, why in reasons.items()]
        if not table.labels and not reasons:
            left_out.append((table.path, "it has no column of labels"))
    columns = {name: column for name, column in columns.items() if column.kind is not Kind.NOTHING}
    missing = {text for column in columns.values() for text in column.missing}
    # A value of one column cannot be missing in another: a source has one such list.
    texts = [column for column in columns.values() if column.kind not in DENSE]
    values = {text for column in texts for text in column.counts}
    return columns, sorted(missing - values)


def _joined(one: Column, other: Column) -> Column:
    """Return the column that is in two tables; the first says what kind it is."""
    counts = Counter(one.counts)
    if one.kind is other.kind:
        counts.update(other.counts)
    return replace(one, counts=dict(counts), labels=one.labels + other.labels)


def plan_tasks(
    columns: Mapping[str, Column], missing: Sequence[str], found_folders: Sequence[Folder]
) -> tuple[list[TaskPlan], dict[str, tuple[str, str]]]:
    """Return the tasks, and each column's task and, if that is multi-label, its label."""
    named = name_generator(RESERVED)
    plans: dict[str, TaskPlan] = {}
    place: dict[str, tuple[str, str]] = {}
    # A label of a multi-label task may not contain the separator.
    yes_no = [n for n, c in columns.items() if c.kind is Kind.YES_NO and not set(n) & set("/;")]
    if len(yes_no) > 1:
        task = named(ATTRIBUTES)
        counts = {name: _yes(columns[name]) for name in yes_no}
        labels = max(columns[name].labels for name in yes_no)
        plans[task] = TaskPlan(task, Kind.YES_NO, counts, labels)
        place = {name: (task, name) for name in yes_no}
    for name, column in columns.items():
        if name not in place:
            kind = Kind.CLASSES if column.kind is Kind.YES_NO else column.kind
            counts = dict(column.counts)
            if kind is Kind.CLASSES:
                counts |= {text: 1 for text in column.missing if text not in missing}
            task = named(name)
            place[name] = task, ""
            plans[task] = TaskPlan(
                task, kind, counts, column.labels, column.separator or ";", column.reason
            )
    for folder in found_folders:
        _add_folder(folder, plans, named)
    for plan in plans.values():
        if plan.kind is Kind.CLASSES:
            plan.order, plan.note = order_of(plan.name, plan.counts)
    return list(plans.values()), place


def _yes(column: Column) -> int:
    return sum(count for text, count in column.counts.items() if text.lower() in YES)


def _add_folder(folder: Folder, plans: dict[str, TaskPlan], named: Callable[[str], str]) -> None:
    """Add the classes of a folder to the task of its name, or as a task of their own."""
    folder.task = _add_classes(folder.task, folder.classes, plans, named)
    if folder.inner:
        folder.inner_task = _add_classes(folder.inner_task, folder.inner, plans, named)


def _add_classes(
    task: str, classes: Mapping[str, int], plans: dict[str, TaskPlan], named: Callable[[str], str]
) -> str:
    """Add classes to the task of a name, or to a new one; return its name."""
    plan = plans.get(task)
    if plan is None or plan.kind is not Kind.CLASSES:
        task = named(task)
        plan = plans[task] = TaskPlan(task, Kind.CLASSES, {}, 0)
    plan.counts = dict(Counter(plan.counts) + Counter(classes))
    plan.labels += sum(classes.values())
    return task


def name_generator(taken: Iterable[str] = ()) -> Callable[[str], str]:
    """Return a function that makes distinct names that are valid in a config."""
    known = set(taken)

    def named(text: str) -> str:
        plain = re.sub(r"[^\w-]+", "_", text).strip("_") or "label"
        name, number = (f"{plain}_label" if plain in known and plain in RESERVED else plain), 2
        while name in known:
            name, number = f"{plain}_{number}", number + 1
        known.add(name)
        return name

    return named

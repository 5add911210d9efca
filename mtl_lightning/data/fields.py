"""The columns of labels, as their tasks read them."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from mtl_lightning.tasks import Task


@dataclass(frozen=True)
class Field:
    """A column of a task's labels.

    Attributes:
        task: The task.
        task_name: What it is called.
        name: The one of `Task.fields` that it is.
        left_out: Whether this run is without the task: its labels decide on images and splits, as
            in a run that has it, but nobody reads them.
    """

    task: Task
    task_name: str
    name: str
    left_out: bool = False

    def meaning(self, cell: str) -> Hashable:
        """Return what is read in a cell, see `Task.meaning`."""
        return self.task.meaning(cell, self.name)

    def named_classes(self, cells: Sequence[str]) -> list[Sequence[str]]:
        """Return the classes that cells name, see `Task.named_classes`."""
        return self.task.named_classes(cells, self.name)

    def doubt(self, cells: Collection[str]) -> tuple[str, str] | None:
        """Return which of the different cells of a column could mean two things, and a question."""
        return None if self.left_out else self.task.doubt(cells, self.name)


def fields_of(tasks: Mapping[str, Task], left_out: Mapping[str, Task]) -> dict[str, Field]:
    """Return all columns by their names, see `column_name`."""
    return {
        column_name(task, field): Field(own, task, field, task in left_out)
        for task, own in {**tasks, **left_out}.items()
        for field in own.fields
    }


def column_name(task: str, field: str) -> str:
    """Return what the column of a task's field is called: ``task`` or ``task/label``."""
    return f"{task}/{field}" if field else task

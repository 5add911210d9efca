"""Columns of labels, each with the task that reads it."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # sources are imported without torch, see `Source.check_files`
    from mtl_lightning.tasks import Task


@dataclass(frozen=True)
class Field:
    """A column of a task's labels.

    Attributes:
        task: The task.
        task_name: The name of the task.
        name: Its entry in `Task.fields`.
        left_out: Whether the run leaves the task out. Its cells still decide on images and splits,
            as in a run with the task, but are not encoded.
    """

    task: "Task"
    task_name: str
    name: str
    left_out: bool = False

    @property
    def names_files(self) -> bool:
        """Whether cells name files that are loaded with the images."""
        return self.task.loads_targets and not self.left_out

    def meaning(self, cell: str) -> Hashable:
        """Return the meaning of a cell, see `Task.meaning`."""
        return self.task.meaning(cell, self.name)

    def named_classes(self, cells: Sequence[str]) -> list[Sequence[str]]:
        """Return the classes that cells name, see `Task.named_classes`."""
        return self.task.named_classes(cells, self.name)

    def doubt(self, cells: Collection[str]) -> tuple[str, str] | None:
        """Return a doubtful cell of the column and the message about it, see `Task.doubt`."""
        return None if self.left_out else self.task.doubt(cells, self.name)


def fields_of(tasks: Mapping[str, "Task"], left_out: Mapping[str, "Task"]) -> dict[str, Field]:
    """Return all columns by their names, see `column_name`."""
    return {
        column_name(task, field): Field(own, task, field, task in left_out)
        for task, own in {**tasks, **left_out}.items()
        for field in own.fields
    }


def column_name(task: str, field: str) -> str:
    """Return the name of the column of a task's field: ``task`` or ``task/label``."""
    return f"{task}/{field}" if field else task

"""Which columns hold the labels of which task, and what their texts mean."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
)

Labels: TypeAlias = dict[str, str | list[str] | dict[str, str | list[str]]]
"""Task to its column, or columns, or for a multi-label task label to column or columns."""

Values: TypeAlias = dict[str, str | dict[str, str | None] | None]
"""Text to what it means, or task to such a mapping; null means "not labelled"."""


@dataclass(frozen=True)
class Columns:
    """The labels that a source has in columns.

    Attributes:
        origin: How messages name the source.
        names: Its columns.
        fetch: A column's cells, a new array each time.
        where: Names the cell of a row in a column for messages: ``t.csv row 3, column "b"``.
        kind: What a column is called.
    """

    origin: str
    names: Sequence[str]
    fetch: Callable[[str], Texts]
    where: Callable[[int, str], str]
    kind: str = "column"

    def required(self, name: str, purpose: str) -> str:
        """Return a column's name.

        Raises:
            UserError: If there is no such column.
        """
        if name not in self.names:
            raise UserError(
                f"{self.origin} has no {self.kind} {quoted(name)} ({purpose}); {self.kind}s: "
                f"{listed(self.names)}{did_you_mean(name, self.names)}"
            )
        return name

    def optional(self, name: str | None, default: str, taken: Collection[str]) -> Texts | None:
        """Return the cells of a column that the user names, or that bears a default name.

        Args:
            name: What the user says.
            default: The column's name otherwise, if there is one that is not ``taken``; and what
                the column is for.
            taken: Columns that are something else.

        Raises:
            UserError: If there is no column of the name that the user gives.
        """
        if name is not None:
            return self.fetch(self.required(name, default))
        return self.fetch(default) if default in self.names and default not in taken else None

    def splits(self, name: str | None, taken: Collection[str]) -> Texts | None:
        """Return a column of ``train``, ``val``, ``test`` and None, see `optional`.

        Raises:
            UserError: If a cell is no split.
        """
        cells = self.optional(name, "split", taken)
        if cells is None:
            return None
        codes, distinct = pd.factorize(cells)
        for code, text in enumerate(distinct):
            if text.lower() not in SPELLINGS:
                rows = np.flatnonzero(codes == code)
                more = f" ({len(rows):,} cells like this)" if len(rows) > 1 else ""
                where = self.where(int(rows[0]), name or "split")
                raise UserError(
                    f"{where}: {quoted(text)} is no split{more}; "
                    f"expected train, val, test or an empty cell{did_you_mean(text, SPELLINGS)}"
                )
        return texts([*(SPELLINGS[text.lower()] for text in distinct), None])[codes]

    def of_tasks(
        self, tasks: Sequence[str], labels: Labels | None, taken: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """Return the columns of each task that has any.

        Args:
            tasks: All tasks, and ``task/label`` for each label of one that has many.
            labels: What the user says; None: each column is for the task or label whose name it
                bears.
            taken: Columns that are something else where the user says nothing.

        Raises:
            UserError: If a task or a column is not known, or no task has a column.
        """
        if labels is None:
            free = [name for name in self.names if name not in taken]
            columns = {task: [name] for task in tasks if (name := _bearing(task, tasks, free))}
            if not columns:
                raise UserError(
                    f"{self.origin} has no {self.kind} named after a task; tasks: {listed(tasks)}; "
                    f"{self.kind}s: {listed(self.names)}; say `labels: {{<task>: <{self.kind}>}}`"
                )
            return columns
        if not labels:
            raise UserError(f"{self.origin}: `labels` is empty; expected {{<task>: <{self.kind}>}}")
        given = dict(_flat(labels))
        for task, names in given.items():
            _check_task(self.origin, "labels", task, tasks)
            for name in names:
                self.required(name, f'labels of task "{task}"')
        return given

    def labels(
        self,
        columns: Mapping[str, Sequence[str]],
        tasks: Sequence[str],
        values: Values | None = None,
        missing: Collection[str] = (),
    ) -> dict[str, Texts]:
        """Return the labels of each task.

        Args:
            columns: Task to its columns; the first that is not empty is the label.
            tasks: All tasks, see `of_tasks`.
            values: What texts mean. Those that stand for all tasks pass whatever they do not
                name; those of a task must name every text that occurs, or have it as a meaning.
            missing: Texts that mean "not labelled".

        Raises:
            UserError: If two columns of a task contradict each other, or ``values`` are wrong.
        """
        meanings = self._meanings(columns, tasks, values or {}, missing)
        return {
            task: self._joined(task, [(name, self._meant(name, *meanings[task])) for name in names])
            for task, names in columns.items()
        }

    def _meanings(
        self,
        columns: Mapping[str, Sequence[str]],
        tasks: Sequence[str],
        values: Values,
        missing: Collection[str],
    ) -> dict[str, tuple[dict[str, str | None], dict[str, str | None]]]:
        """Return for each task what texts mean in all, and in this task alone."""
        everywhere: dict[str, str | None] = dict.fromkeys(missing)
        own: dict[str, dict[str, str | None]] = {}
        for key, meaning in values.items():
            if isinstance(meaning, dict):
                _check_task(self.origin, "values", key, [*tasks, *map(_parent, tasks)])
                own[key] = meaning
            else:
                everywhere[key] = meaning
        return {task: (everywhere, own.get(task, own.get(_parent(task), {}))) for task in columns}

    def _meant(
        self, name: str, everywhere: Mapping[str, str | None], own: Mapping[str, str | None]
    ) -> Texts:
        """Return a column's cells as what they mean."""
        cells = self.fetch(name)
        if not everywhere and not own:
            return cells
        codes, distinct = pd.factorize(cells)
        meant = [everywhere.get(text, text) for text in distinct]
        for code, text in enumerate(meant):
            if own and text is not None and text not in own and text not in own.values():
                row = int(np.flatnonzero(codes == code)[0])
                raise UserError(
                    f"{self.where(row, name)}: {quoted(text)} is not among the `values` "
                    f"{listed(own)}{did_you_mean(text, own)}; say what it means, or null"
                )
        meant = [own.get(text, text) if text is not None else None for text in meant]
        return texts([*meant, None])[codes]  # an empty cell has code -1, the last

    def _joined(self, task: str, columns: Sequence[tuple[str, Texts]]) -> Texts:
        """Return the first cell of each row that is not empty."""
        (first, out), *others = columns
        said_by = np.zeros(len(out), dtype=np.int64)
        names = [first, *(name for name, _ in others)]
        for number, (name, cells) in enumerate(others, start=1):
            said = pd.notna(cells)
            clash = np.flatnonzero(said & pd.notna(out) & (cells != out))
            if clash.size:
                row = int(clash[0])
                other = names[said_by[row]]
                raise UserError(
                    f"{self.where(row, other)} says {quoted(out[row])}, {self.kind} {quoted(name)} "
                    f'says {quoted(cells[row])} (task "{task}"); expected one answer'
                )
            new = said & ~pd.notna(out)
            said_by[new] = number
            out = np.where(new, cells, out)
        return out


def _flat(labels: Labels) -> Iterator[tuple[str, list[str]]]:
    """Yield each task, or ``task/label``, with its columns."""
    for task, columns in labels.items():
        own = (
            {f"{task}/{label}": column for label, column in columns.items()}
            if isinstance(columns, dict)
            else {task: columns}
        )
        for field, column in own.items():
            if not column:
                raise UserError(f"`labels` of {field} is empty; expected a column, or several")
            yield field, [column] if isinstance(column, str) else list(column)


def _parent(task: str) -> str:
    return task.partition("/")[0]


def _check_task(origin: str, key: str, task: str, tasks: Sequence[str]) -> None:
    if task not in tasks:
        known = list(dict.fromkeys(tasks))
        raise UserError(
            f'{origin}: `{key}` names the task "{task}", expected one of '
            f"{listed(known)}{did_you_mean(task, known)}"
        )


def _bearing(task: str, tasks: Sequence[str], names: Collection[str]) -> str | None:
    """Return the column that bears the name of a task, or of a label as ``task/label``."""
    if task in names:
        return task
    label = task.rpartition("/")[2]
    return label if label in names and label not in tasks else None

"""The columns of each task's labels, and the meanings of their texts."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard
from unicodedata import normalize

import numpy as np
import pandas as pd

from mtl_lightning.data.dates import Dates, parse_dates
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.sources.meanings import Meanings
from mtl_lightning.data.splits import SPELLINGS
from mtl_lightning.system.errors import (
    UserError,
    did_you_mean,
    listed,
    quoted,
)
from mtl_lightning.tasks.cells import canonical

Labels: TypeAlias = dict[str, str | list[str] | dict[str, str | list[str]]]
"""Task to its column, or columns, or for a multi-label task label to column or columns."""

Values: TypeAlias = dict[str, str | dict[str, str | None] | None]
"""Text to its meaning, or task to such a mapping; null means "not labelled"."""


@dataclass(frozen=True)
class Columns:
    """The columns of a source that may hold labels.

    Attributes:
        origin: The name of the source in messages.
        names: Its columns.
        fetch: Returns a column's cells, a new array each time.
        location: Returns the place of a cell for messages: ``t.csv row 3, column "b"``.
        kind: The word for a column in messages.
        notes: Notes for the user, filled by `labels`.
        num_rows: The number of rows.
    """

    origin: str
    names: Sequence[str]
    fetch: Callable[[str], Texts]
    location: Callable[[int, str], str]
    kind: str = "column"
    notes: list[str] = field(default_factory=list)
    num_rows: int = 0

    def required(self, name: str, purpose: str, mend: str = "") -> str:
        """Return a column's name.

        Args:
            name: The name as the user writes it.
            purpose: What the column is for, for the message.
            mend: What else may help, for the message.

        Raises:
            UserError: If there is no such column.
        """
        name = normalize("NFC", name)
        if name not in self.names:
            raise UserError(
                f"{self.origin} has no {self.kind} {quoted(name)} ({purpose}); {self.kind}s: "
                f"{listed(self.names)}{did_you_mean(name, self.names)}{mend and f'; {mend}'}"
            )
        return name

    def check(self, labels: Labels | None) -> None:
        """Check that the columns of the user's labels exist, see `of_tasks`.

        Raises:
            UserError: If one does not.
        """
        for task, names in _flat(labels or {}):
            for name in names:
                self._label(name, task)

    def _label(self, name: str, task: str) -> str:
        return self.required(name, f'labels of task "{task}"')

    def optional(self, name: str | None, default: str, taken: Collection[str]) -> Texts | None:
        """Return the cells of a column that the user names, or that has a default name.

        Args:
            name: The user's choice; an empty text for no column.
            default: The default name, used if such a column exists and is not ``taken``; and the
                purpose of the column.
            taken: Columns that are used for something else.

        Raises:
            UserError: If the column that the user names does not exist.
        """
        if name:
            return self.fetch(self.required(name, default))
        if name is not None:
            return None
        return self.fetch(default) if default in self.names and default not in taken else None

    def slices(self, wanted: Collection[str]) -> dict[str, Texts]:
        """Return the cells of those of some columns that exist."""
        return {name: self.fetch(name) for name in wanted if name in self.names}

    def splits(self, name: str | None, taken: Collection[str]) -> Texts | None:
        """Return a column of ``train``, ``val``, ``test`` and None, see `optional`.

        Raises:
            UserError: If a cell is not a split.
        """
        cells = self.optional(name, "split", taken)
        if cells is None:
            return None
        codes, distinct = pd.factorize(cells)
        for code, text in enumerate(distinct):
            if text.lower() not in SPELLINGS:
                rows = np.flatnonzero(codes == code)
                more = f" ({len(rows):,} cells like this)" if len(rows) > 1 else ""
                where = self.location(int(rows[0]), name or "split")
                raise UserError(
                    f"{where}: {quoted(text)} is not a split{more}; "
                    f"expected train, val, test or an empty cell{did_you_mean(text, SPELLINGS)}"
                )
        return texts([*(SPELLINGS[text.lower()] for text in distinct), None])[codes]

    def dates(self, name: str | None, date_format: str | None) -> Dates | None:
        """Return a column of dates that the user names, if any; see `parse_dates`."""
        if not name:
            return None
        cells = self.fetch(self.required(name, "date"))
        return parse_dates(cells, date_format, lambda i: self.location(i, name))

    def of_tasks(
        self,
        tasks: Sequence[str],
        labels: Labels | None,
        taken: Collection[str] = (),
        required: bool = True,
    ) -> dict[str, list[str]]:
        """Return the columns of each task that has any.

        Args:
            tasks: All tasks, and ``task/label`` for each label of a multi-label task.
            labels: The user's choice; None for columns named like a task or label.
            taken: Columns that are used for something else, unless the user names them.
            required: Whether a task must have a column.

        Raises:
            UserError: If a task or a column is not known, or no task has a column.
        """
        if labels is None:
            free = [name for name in self.names if name not in taken]
            columns = {task: [name] for task in tasks if (name := _bearing(task, tasks, free))}
            if not columns and required:
                raise UserError(
                    f"{self.origin} has no {self.kind} named after a task; tasks: {listed(tasks)}; "
                    f"{self.kind}s: {listed(self.names)}; set `labels: {{<task>: <{self.kind}>}}`"
                )
            return columns
        if not labels:
            raise UserError(f"{self.origin}: `labels` is empty; expected {{<task>: <{self.kind}>}}")
        given = {}
        for task, names in _flat(labels):
            _check_task(self.origin, "labels", task, tasks)
            given[task] = [self._label(name, task) for name in names]
        return given

    def of_inputs(self, wanted: Sequence[str], chosen: Mapping[str, str] | None) -> dict[str, str]:
        """Return the column of each input that has one.

        Args:
            wanted: The names of all inputs.
            chosen: The user's choice; inputs that are not in it have a column of their name.

        Raises:
            UserError: If an input or a column is not known.
        """
        for name in chosen or {}:
            if name not in wanted:
                raise UserError(
                    f"{self.origin}: `inputs` should name inputs of `data.inputs` "
                    f"({listed(wanted) or 'there are none'}). Found {quoted(name)}"
                    f"{did_you_mean(name, wanted)}"
                )
        own = {name: self.required(c, f'input "{name}"') for name, c in (chosen or {}).items()}
        named = {name: name for name in wanted if name in self.names}
        return {name: (named | own)[name] for name in wanted if name in named or name in own}

    def cells(self, inputs: Mapping[str, str], missing: Collection[str]) -> dict[str, Texts]:
        """Return the cells of each input, without texts that mean "missing"."""
        nothing = Meanings("missing", dict.fromkeys(missing))
        return {name: self._meant(c, nothing, Meanings("values", {})) for name, c in inputs.items()}

    def labels(
        self,
        columns: Mapping[str, Sequence[str]],
        tasks: Sequence[str],
        values: Values | None = None,
        missing: Collection[str] = (),
        inputs: Collection[str] = (),
    ) -> dict[str, Texts]:
        """Return the labels of each task, and note entries that match no cell in ``notes``.

        Args:
            columns: Task to its columns; the first that is not empty is the label.
            tasks: All tasks, see `of_tasks`.
            values: Meanings of texts. Those for all tasks leave other texts as they are; those of
                a task must contain every text that occurs, as a text or a meaning.
            missing: Texts that mean "not labelled".
            inputs: Columns that are read, whose cells may be among ``missing``, too.

        Returns:
            Task to its labels, see `SourceTable.labels`.

        Raises:
            UserError: If ``values`` are wrong.
        """
        everywhere = Meanings("missing", dict.fromkeys(missing))
        everywhere.update("values", {k: v for k, v in (values or {}).items() if _is_text(v)})
        own: dict[str, Meanings] = {}
        for key, meanings in (values or {}).items():
            if isinstance(meanings, dict):
                _check_task(self.origin, "values", key, [*tasks, *map(_parent, tasks)])
                own[normalize("NFC", key)] = Meanings(f"values of {key}", meanings)
        none = Meanings("values", {})
        found = {}
        for task, names in columns.items():
            ours = own.get(task, own.get(_parent(task), none))
            answers = [self._meant(name, everywhere, ours) for name in names]
            found[task] = answers[0] if len(answers) == 1 else np.stack(answers, axis=1)
        for name in inputs if everywhere else ():
            everywhere.translated(map(canonical, pd.factorize(self.fetch(name))[1]))
        for given in (everywhere, *own.values()):
            self.notes.extend(given.unused())
        return found

    def _meant(self, name: str, everywhere: Meanings, own: Meanings) -> Texts:
        """Return the meanings of a column's cells."""
        cells = self.fetch(name)
        if not everywhere and not own:
            return cells
        codes, distinct = pd.factorize(cells)
        meant = own.translated(everywhere.translated(map(canonical, distinct)))
        for code, text in enumerate(meant):
            if own and text is not None and not own.knows(text):
                row = int(np.flatnonzero(codes == code)[0])
                raise UserError(
                    f"{self.location(row, name)}: {quoted(text)} is not among the `values` {own}"
                    f"{did_you_mean(text, own.given)}; give its meaning, or null"
                )
        return texts([*meant, None])[codes]  # an empty cell has code -1, the last


def _is_text(meaning: object) -> TypeGuard[str | None]:
    return not isinstance(meaning, dict)


def _flat(labels: Labels) -> Iterator[tuple[str, list[str]]]:
    """Yield each task, or ``task/label``, with its columns."""
    for task, columns in labels.items():
        own = (
            {f"{task}/{normalize('NFC', label)}": column for label, column in columns.items()}
            if isinstance(columns, dict)
            else {task: columns}
        )
        for name, column in own.items():
            if not column:
                raise UserError(f"`labels` of {name} is empty; expected a column, or several")
            yield name, [column] if isinstance(column, str) else list(column)


def _parent(task: str) -> str:
    return task.partition("/")[0]


def _check_task(origin: str, key: str, task: str, tasks: Sequence[str]) -> None:
    if normalize("NFC", task) not in tasks:
        known = list(dict.fromkeys(tasks))
        raise UserError(
            f'{origin}: `{key}` names the task "{task}", expected one of '
            f"{listed(known)}{did_you_mean(task, known)}"
        )


def _bearing(task: str, tasks: Sequence[str], names: Collection[str]) -> str | None:
    """Return the column named like a task, or like a label as ``task/label``."""
    if task in names:
        return task
    label = task.rpartition("/")[2]
    return label if label in names and label not in tasks else None

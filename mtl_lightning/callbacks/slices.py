"""The results of parts of a split: of each source, and of each value of columns."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings
from mtl_lightning.callbacks.evaluation import EvaluationCallback, add_up
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.slicing import Slicing
from mtl_lightning.runs.facts import SliceResults
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.group_states import GroupStates
from mtl_lightning.tasks.resampling import ERRORS
from mtl_lightning.training.protocol import data_of, multi_task

SOURCE = ""
"""The name, which no column has, under which results of sources are collected."""


class _Groups(NamedTuple):
    """The groups of rows of one task, numbered over all columns.

    Attributes:
        names: Column to the names of its groups, in the order of their numbers.
        of_rows: ``(N, k)`` int64, the groups of each row, -1 for none.
    """

    names: dict[str, list[str | None]]
    of_rows: Tensor


class Slices(EvaluationCallback):
    """Measures in ``test`` or ``validate`` the images of each source and of each value of a column.

    An image that two sources label counts for both. A task that only one source labels in the
    split has no results by source. The metrics are those of the whole split, with the same states,
    so that results are exact on any number of ranks.

    Attributes:
        sources: Task to the results of each source that labels it, on each rank, after the
            evaluation.
        columns: Task to column (``data.slices``) to the results of each of its slices, likewise.
    """

    def __init__(self) -> None:
        self.sources: dict[str, list[SliceResults]] = {}
        self.columns: dict[str, dict[str, list[SliceResults]]] = {}
        self._groups: dict[str, _Groups] = {}
        self._states: dict[str, GroupStates] = {}

    def start(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Divide the rows."""
        labels = data_of(trainer).labels
        self.sources, self.columns, self._groups, self._states = {}, {}, {}, {}
        rows = labels.rows(split)
        slicings = {n: Slicing.of(cells, rows) for n, cells in labels.table.slices.items()}
        for name, task in multi_task(pl_module).tasks.items():
            groups = _groups(labels, name, slicings, rows)
            if groups.names:
                with errors_as_warnings(f"slices of task {name}"):
                    count = sum(map(len, groups.names.values()))
                    self._states[name] = GroupStates(task, pl_module.device, count)
                    self._groups[name] = groups

    def add(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch) -> None:
        """Add a batch."""
        del trainer, pl_module
        for name, states in list(self._states.items()):
            del self._states[name]  # put back if the update succeeds
            with errors_as_warnings(f"slices of task {name}"):
                of_rows = self._groups[name].of_rows[batch.rows.cpu()].to(batch.rows.device)
                rows, columns = (of_rows >= 0).nonzero(as_tuple=True)
                states.add(
                    outputs[name][rows],
                    batch.targets[name][rows],
                    batch.labelled[name][rows],
                    of_rows[rows, columns],
                )
                self._states[name] = states

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Add up the ranks, and compute the metrics."""
        del split
        for name, groups in self._groups.items():
            sums: list[Tensor] | None = None
            if name in self._states:
                with errors_as_warnings(f"slices of task {name}"):
                    sums = self._states[name].sums()
            # A rank that failed would leave the others waiting for its states.
            if not trainer.strategy.reduce_boolean_decision(sums is not None):
                continue
            add_up(trainer, sums or [])
            with errors_as_warnings(f"slices of task {name}"):
                values = iter(self._states[name].values())
                for column, names in groups.names.items():
                    found = [SliceResults(each, _without_labels(next(values))) for each in names]
                    if column == SOURCE:
                        self.sources[name] = found
                    else:
                        self.columns.setdefault(name, {})[column] = found
                        pl_module.print(_line(name, self._states[name].task, column, found))
        self._groups, self._states = {}, {}


def _groups(
    labels: LabelTable, task: str, slicings: dict[str, Slicing], rows: np.ndarray[Any, Any]
) -> _Groups:
    """Divide the rows of a split by source and by columns for a task."""
    own = np.zeros(len(labels.table), dtype=bool)
    own[rows] = True
    by_source = {n: m & own for n, m in labels.table.labelled_in(labels.fields(task)).items()}
    by_source = {name: mask for name, mask in by_source.items() if mask.any()}
    names: dict[str, list[str | None]] = {}
    numbers = []
    if len(by_source) > 1:
        names[SOURCE] = list(by_source)
        numbers = [np.where(mask, i, -1) for i, mask in enumerate(by_source.values())]
    for column, slicing in slicings.items():
        before = sum(map(len, names.values()))
        names[column] = list(slicing.names)
        numbers.append(np.where(slicing.slices >= 0, slicing.slices + before, -1))
    of_rows = np.stack(numbers, axis=1) if numbers else np.empty((len(own), 0), dtype=np.int64)
    return _Groups(names, torch.from_numpy(of_rows))


def _without_labels(values: dict[str, float]) -> dict[str, float]:
    return {metric: value for metric, value in values.items() if "/" not in metric}


def _line(name: str, task: Task, column: str, found: list[SliceResults]) -> str:
    """Say which slices of a column are the worst and the best."""
    known = [own for own in found if math.isfinite(own.values.get(task.primary, math.nan))]
    if not known:
        return f"task {name} by {column}: no label"
    sign = -1 if task.primary in ERRORS else 1
    known.sort(key=lambda own: sign * own.values[task.primary])
    ends = known if len(known) == 1 else (known[0], known[-1])
    shown = " to ".join(
        f"{own.values[task.primary]:.4f} ({own.title}, {own.values['n_labelled']:,} labels)"
        for own in ends
    )
    few = sum(own.is_small for own in found)
    more = f"; {few} of {len(found)} have few labels" if few else ""
    return f"task {name}: {task.primary} by {column}: {shown}{more}"

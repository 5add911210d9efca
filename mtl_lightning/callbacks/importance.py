"""How much each column that a network reads matters for each task: permutation importance."""

from hashlib import sha256
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from mtl_lightning.callbacks.evaluation import EvaluationCallback
from mtl_lightning.data.batch import Batch
from mtl_lightning.inputs.base import places
from mtl_lightning.runs.facts import ColumnImportance
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.resampling import ERRORS
from mtl_lightning.training.protocol import data_of, multi_task

SHOWN = 5
"""The columns of each task that are printed."""


class Importance(EvaluationCallback):
    """Measures in ``test`` or ``validate`` how far each metric drops if a column is shuffled.

    Breiman, "Random Forests", Machine Learning 2001, as scikit-learn's ``permutation_importance``:
    the primary metric of the split minus that with the cells of one column, missing ones included,
    shuffled over the rows of the split. Each batch is read again for every column and repeat, in
    the batch's own process, so that the results are those of one process on any number of ranks.
    The shuffles are the same in every run on these rows. Of two columns that say the same, neither
    matters here.

    Args:
        repeats: Shuffles of each column; 0 for nothing.

    Attributes:
        found: Task to column to its importance, on each rank, after the evaluation.
    """

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.found: dict[str, dict[str, ColumnImportance]] = {}
        self._sources: dict[str, list[Tensor]] = {}  # of each column: the row of each row's cell
        self._metrics: dict[tuple[str, int, str], TaskMetrics] = {}

    def start(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Draw the shuffles."""
        if not self.repeats:
            return
        module, data = multi_task(pl_module), data_of(trainer)
        if not module.inputs:
            raise UserError(
                "importance should be 0 for a network that reads no columns (data.inputs). "
                f"Found {self.repeats}"
            )
        rows, keys = data.labels.rows(split), data.labels.table.keys
        rows = rows[np.argsort(keys[rows].astype(str), kind="stable")]  # in whatever order merged
        for column in module.inputs:
            draw = np.random.default_rng(list(sha256(column.encode()).digest()))
            self._sources[column] = []
            for repeat in range(self.repeats):
                source = torch.arange(-1, len(keys)).roll(-1)  # the last is that of padding
                source[rows] = torch.from_numpy(draw.permutation(rows))
                self._sources[column].append(source)
                for name, task in module.tasks.items():
                    metrics = TaskMetrics(task, primary_only=True).to(pl_module.device)
                    self._metrics[column, repeat, name] = metrics

    def add(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch) -> None:
        """Measure the batch with each column shuffled."""
        del outputs
        if not self._sources:
            return
        module, columns = multi_task(pl_module), data_of(trainer).labels.input_columns
        for column, (tensor, place) in places(module.inputs).items():
            for repeat, source in enumerate(self._sources[column]):
                cells = columns.of(source[batch.rows.cpu()].numpy())[tensor][:, place]
                shuffled = batch.inputs[tensor].clone()
                shuffled[:, place] = cells.to(shuffled)
                with trainer.precision_plugin.forward_context():
                    answers = module.network({**batch.inputs, tensor: shuffled})
                for name, task in module.tasks.items():
                    self._metrics[column, repeat, name].update(
                        task,
                        answers[name],
                        batch.targets[name],
                        batch.labelled[name],
                        torch.zeros(()),  # the loss is not of interest
                    )

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Compute the drops."""
        del trainer
        if not self._sources:
            return
        module = multi_task(pl_module)
        self.found = {}
        for name, task in module.tasks.items():
            before = module.results[split].tasks[name]
            if not before["n_labelled"]:
                continue
            sign = -1 if task.primary in ERRORS else 1
            self.found[name] = {}
            for column in self._sources:
                drops = []
                for repeat in range(self.repeats):
                    after = self._metrics[column, repeat, name].compute()[task.primary]
                    drops.append(sign * (before[task.primary] - after))
                own = ColumnImportance(float(np.mean(drops)), float(np.std(drops)), drops)
                self.found[name][column] = own
            pl_module.print(_line(name, task, self.found[name]))
        self._sources, self._metrics = {}, {}


def _line(name: str, task: Task, columns: dict[str, ColumnImportance]) -> str:
    best = sorted(columns, key=lambda column: -columns[column].mean)[:SHOWN]
    shown = ", ".join(f"{column} {columns[column].mean:.4f}" for column in best)
    return f"task {name}: drop of {task.primary} if a column is shuffled: {shown}"

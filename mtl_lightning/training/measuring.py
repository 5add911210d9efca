"""The metrics of every task over every split."""

from collections.abc import Iterable, Mapping

import torch

from mtl_lightning.models import NamedModules
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.results import Results
from mtl_lightning.training.finite import MicroBatchResult
from mtl_lightning.training.metric_exchange import exchanged_at_once

EVALUATED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
"""The splits that are measured, by Lightning's stage."""


class Measurements(NamedModules[NamedModules[TaskMetrics]]):
    """The metrics of every task, for each split; only primary metrics in training.

    Args:
        tasks: The tasks by name. They are not kept: they belong to the LightningModule.
        splits: Some of ``train``, ``val`` and ``test``; each takes milliseconds per task.
    """

    def __init__(self, tasks: Mapping[str, Task], splits: Iterable[str]) -> None:
        super().__init__({})
        self.include(tasks, splits)

    def include(self, tasks: Mapping[str, Task], splits: Iterable[str]) -> None:
        """Measure these splits, too."""
        for split in splits:
            if split not in self:
                metrics = {
                    name: TaskMetrics(task, split == "train") for name, task in tasks.items()
                }
                self.add(split, NamedModules(metrics))

    def reset(self, split: str) -> None:
        """Reset the metrics of a split."""
        for metrics in self[split].values():
            metrics.reset()

    @torch.no_grad()
    def update(self, split: str, tasks: Mapping[str, Task], result: MicroBatchResult) -> None:
        """Add a micro-batch."""
        batch = result.batch
        for name, task in tasks.items():
            self[split][name].update(
                task,
                result.outputs[name].detach(),
                batch.targets[name],
                batch.labelled[name],
                result.sums[name],
            )

    def results(self, split: str, tasks: Mapping[str, Task]) -> Results:
        """Return the results of a split over all ranks."""
        with exchanged_at_once(self[split]):
            values = {name: metrics.compute() for name, metrics in self[split].items()}
        return Results.of(split, tasks, values)

"""Collecting the data behind the tasks' plots during an evaluation, on every rank."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings
from mtl_lightning.data.batch import IMAGE, Batch
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.plot_data import PlotData
from mtl_lightning.tasks.plot_records import PlotRecord
from mtl_lightning.training.protocol import multi_task


def _own(task: Task) -> PlotData | None:
    return task.plot_data()


class PlotCollector:
    """Collects batches, and returns the record of each task at the end.

    Tasks of a kind without plot data are left out; so are tasks that fail, with a warning.

    Args:
        make: Returns what collects a task's data, None for nothing; by default its own.
    """

    def __init__(self, make: Callable[[Task], PlotData | None] = _own) -> None:
        self.make = make
        self._data: dict[str, PlotData] = {}

    def start(self, pl_module: LightningModule) -> None:
        """Reset, for the evaluation that starts."""
        self._data = {}
        for name, task in multi_task(pl_module).tasks.items():
            with errors_as_warnings(f"picture of task {name}"):
                data = self.make(task)
                if data is not None:
                    self._data[name] = data.to(pl_module.device)

    def add(self, pl_module: LightningModule, outputs: dict[str, Any], batch: Batch) -> None:
        """Add a batch.

        Args:
            pl_module: The module.
            outputs: Each task's outputs for the batch.
            batch: The batch.
        """
        for name, data in list(self._data.items()):
            del self._data[name]  # put back if the update succeeds
            with errors_as_warnings(f"picture of task {name}"):
                answers = multi_task(pl_module).tasks[name].measured(outputs[name])
                if IMAGE in batch.inputs:  # not if there are features
                    data.see(batch.inputs[IMAGE])
                data.update(answers, batch.targets[name], batch.labelled[name], batch.rows)
                self._data[name] = data

    def gather(
        self, trainer: Trainer, pl_module: LightningModule, split: str
    ) -> dict[str, PlotRecord]:
        """Return the data of all ranks, for the tasks that have a label in the split.

        Every rank calls this, for the same tasks in the same order.
        """
        gathered = {}
        for name, values in multi_task(pl_module).results[split].tasks.items():
            # A rank that failed would leave the others waiting for its data.
            everywhere = trainer.strategy.reduce_boolean_decision(name in self._data)
            if everywhere and values["n_labelled"]:
                with errors_as_warnings(f"picture of task {name}"):
                    gathered[name] = self._data[name].compute()
        return gathered

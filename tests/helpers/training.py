"""Modules, and their training and evaluation in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything

from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.commands.prepare import Prepared, prepare
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.runs.facts import Evaluation
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import (
    Task,
)
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, make_data, make_more_tasks, make_tasks, sparse_labels
from tests.helpers.models import Small, Staged


def make_module(seed: int = 1, tasks: dict[str, Task] | None = None, **arguments: Any) -> MultiTask:
    torch.manual_seed(seed)
    options = {"dropout": 0.0, "image_size": 16, "head_hidden": None} | arguments
    return MultiTask(tasks or make_tasks(), Small(), **options)


def make_trainer(folder: Path, devices: int = 1, **arguments: Any) -> Trainer:
    options: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": devices,
        "strategy": "ddp" if devices > 1 else "auto",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(**(options | arguments))


def fit(
    folder: Path, data: PartialLabels | None = None, module: MultiTask | None = None, **trainer: Any
) -> MultiTask:
    """Train a module on the data and return it."""
    seed_everything(3, verbose=False)
    module = module or make_module()
    make_trainer(folder, **trainer).fit(module, datamodule=data or make_data())
    return module


def fit_unevenly(folder: Path, module: MultiTask, tasks: dict[str, Task], devices: int = 1) -> None:
    """Train in steps of 4 rows, in which one of two ranks may hold none of a task; 9 end unevenly.

    In double precision, so that any number of ranks gives the same weights.
    """
    data = make_data(train=9, val=0, batch_size=4 // devices, tasks=tasks, splits={})
    fit(folder, data, module, devices=devices, precision="64-true", max_epochs=2)


def weights(module: MultiTask) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.network.state_dict().items()}


def largest_difference(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference of any weight, relative to the largest of its tensor."""
    assert one.keys() == other.keys()
    return max(
        float((one[name] - other[name]).abs().max() / one[name].abs().max().clamp(min=1e-3))
        for name in one
    )


class Batches(Callback):
    """Keeps what a training is given: (epoch, batch) of each micro-batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Batch]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.seen.append((trainer.current_epoch, batch))

    def rows(self) -> dict[int, list[list[int]]]:
        """Epoch to the rows of its micro-batches."""
        epochs: dict[int, list[list[int]]] = {}
        for epoch, batch in self.seen:
            epochs.setdefault(epoch, []).append(batch.rows.tolist())
        return epochs


def written(task: Task, outputs: torch.Tensor) -> Mapping[str, np.ndarray]:
    """Return the columns of ``predictions.csv`` for outputs of a head."""
    answers = task.predict(outputs.detach())
    return task.columns({name: value.numpy() for name, value in answers.items()})


def staged(
    trainable_from: str | None = None, weights: str | None = None, **arguments: Any
) -> MultiTask:
    torch.manual_seed(0)
    return MultiTask(
        make_tasks(), Staged(trainable_from, weights), dropout=0.0, image_size=16, **arguments
    )


def make_test_data(rows: int = 41, batch_size: int = 8) -> PartialLabels:
    """Return test images of which none carries a label of the task ``rare``."""
    labels = sparse_labels(rows)
    labels["rare"] = [None] * rows
    source = Memory(labels, ["test"] * rows)
    return PartialLabels(
        make_more_tasks(), {"memory": source}, batch_size=batch_size, image_size=16, num_workers=0
    )


def evaluated(folder: Path, devices: int = 1) -> Evaluation:
    """Test a module on ``make_test_data`` and return what the recorder kept of it."""
    recorder = RunRecorder(folder)
    trainer = make_trainer(folder, devices=devices, callbacks=[recorder])
    data = make_test_data(batch_size=8 // devices)
    trainer.test(make_module(tasks=make_more_tasks()), data, verbose=False)
    assert recorder.evaluation is not None
    return recorder.evaluation


def prepare_fit(*arguments: str) -> Prepared:
    """Prepare what was typed for ``fit``."""
    return prepare("fit", list(arguments))


def refused(command: str, *arguments: str) -> str:
    """Return the one line with which a command line is refused."""
    with pytest.raises(UserError) as error:
        prepare(command, list(arguments))
    assert "\n" not in str(error.value)
    return str(error.value)

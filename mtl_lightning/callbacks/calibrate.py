"""Calibration of each task's answers on the labels of ``val``, for each checkpoint that is kept."""

from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mtl_lightning.data.batch import Batch
from mtl_lightning.tasks.calibration import (
    CALIBRATION,
    Calibration,
    check_coverage,
    least_labels,
    read_calibrations,
)
from mtl_lightning.training.protocol import multi_task

Rows = dict[str, list[Tensor]]
"""Task to outputs, targets and masks of its labelled rows, and their numbers."""


class Calibrate(Callback):
    """Calibrates the tasks by the outputs of the last validation, and keeps that in checkpoints.

    A checkpoint is given a calibration only if its weights are those that were validated, or their
    average (`EMA`), whichever the validation used: ``best.ckpt``, ``best-<task>.ckpt``, and
    ``last.ckpt`` between two epochs. One from within an epoch has none. Training, and what it logs,
    is not calibrated; after it, the module is, as are ``validate``, ``test`` and ``predict`` with
    such a checkpoint.

    Rows of all ranks are used, each once, and in an order that does not depend on the ranks.

    Args:
        coverage: The share of labels that a set of classes, or an interval, should hold.
    """

    def __init__(self, coverage: float = 0.9) -> None:
        check_coverage(coverage)
        self.coverage = coverage
        self._parts: dict[str, list[list[Tensor]]] = {}
        self._rows: Rows = {}
        self._found: dict[str, Calibration] | None = None  # None until it is fitted
        self._step = -1  # of the weights that were validated

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier training, unless this one resumes from a calibrated checkpoint."""
        if trainer.ckpt_path is None:
            self._found, self._step = None, -1
        self._parts, self._rows = {}, {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to collect."""
        if _counts(trainer):
            tasks = multi_task(pl_module).tasks.items()
            self._parts = {name: [] for name, task in tasks if task.calibrates}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the labelled rows of a batch; ``outputs`` are those of each task."""
        if not _counts(trainer):
            return
        for name, parts in self._parts.items():
            labelled = batch.labelled[name]
            kept = labelled.flatten(1).any(1) if labelled.ndim > 1 else labelled
            own = outputs[name].detach(), batch.targets[name], labelled, batch.rows
            parts.append([each[kept].cpu() for each in own])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the rows of all ranks."""
        if not _counts(trainer):
            return
        own = {
            name: [torch.cat(each) for each in zip(*parts, strict=True)]
            for name, parts in self._parts.items()
        }
        gathered: list[Any] = [own]
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            dist.all_gather_object(gathered, own)
        self._rows = {name: _merged([rank[name] for rank in gathered]) for name in own}
        self._parts, self._found, self._step = {}, None, trainer.global_step

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the calibration if the weights are those that were validated."""
        if trainer.state.fn == "fit" and self._step == trainer.global_step:
            checkpoint[CALIBRATION] = {n: own.plain() for n, own in self._fit(pl_module).items()}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the calibration of a checkpoint that is resumed, as long as no step is made."""
        if trainer.state.fn == "fit" and CALIBRATION in checkpoint:
            self._found = read_calibrations(checkpoint[CALIBRATION])
            self._step = checkpoint["global_step"]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Calibrate the module, and say which tasks are not calibrated."""
        module = multi_task(pl_module)
        found = self._fit(pl_module)
        if self._step == trainer.global_step:
            module.set_calibration(found)
        elif found:
            module.print(
                "note: the last weights were not validated and are not calibrated; checkpoints of "
                "a validation are"
            )
        for name, rows in self._rows.items():
            if not len(rows[0]):
                module.print(f"note: task {name} is not calibrated: val has no label of it")
            elif name not in found:
                module.print(f"note: task {name} is not calibrated: its outputs are not finite")
            elif (coverage := found[name].coverage) is not None and found[name].lacks_labels:
                module.print(
                    f"note: task {name} has no sets or intervals that are calibrated: for a "
                    f"coverage of {coverage:g} each of its outputs needs {least_labels(coverage)} "
                    f"labels in val"
                )
        self._rows = {}

    def _fit(self, pl_module: LightningModule) -> dict[str, Calibration]:
        """Return the calibration of each task with a label, fitted on the first call.

        A training that has diverged has none.
        """
        if self._found is None:
            tasks = multi_task(pl_module).tasks
            self._found = {}
            for name, (outputs, targets, labelled, _) in self._rows.items():
                if len(outputs) and outputs.isfinite().all():
                    task = deepcopy(tasks[name]).cpu()
                    found = task.calibrate(outputs, targets, labelled, self.coverage)
                    self._found[name] = found
        return self._found


def _counts(trainer: Trainer) -> bool:
    """Whether a validation is part of a training."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _merged(ranks: list[list[Tensor]]) -> list[Tensor]:
    """Return the rows of all ranks, in the order of their numbers."""
    whole = [torch.cat(each) for each in zip(*ranks, strict=True)]
    order = whole[-1].argsort(stable=True)
    return [each[order] for each in whole]

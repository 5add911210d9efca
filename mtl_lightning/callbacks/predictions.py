"""``predictions.csv``: the answers of all ranks for each image, as one table."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.data.batch import PADDING
from mtl_lightning.inference.predictions.table import PredictionTable, digest
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.protocol import data_of, multi_task

Result = TypeVar("Result")


class PredictionsFile(Callback):
    """Writes the predictions of all ranks as one table.

    Args:
        table: The table.
        of: What the answers depend on beside the weights, by its name for a message; a run does
            not go on where another has ended for which it differs.
        resume: Whether to go on where an earlier run has ended.
    """

    def __init__(
        self, table: PredictionTable, of: Mapping[str, str] | None = None, resume: bool = False
    ) -> None:
        self.table = table
        self.of = dict(of or {})
        self.resume = resume

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the folder of the parts, and leave out what is in it; before the loader is made.

        Raises:
            UserError: If another process writes there, or what is there is of other images.
        """
        trainer.strategy.barrier()
        done = _on_first(trainer, lambda: self.table.start(self.of, self.resume))
        data_of(trainer).leave_out(done)
        if len(done):
            pl_module.print(self.table.resumed(done))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that rows that are there are of these weights, which are loaded by now.

        Raises:
            UserError: If they are of others.
        """
        tasks = multi_task(pl_module).tasks.items()
        settings = {
            "calibration": digest(f"{name} {task.calibration}" for name, task in tasks),
            "precision": str(trainer.precision),
            "weights": _digest(pl_module),
        }
        for name, value in settings.items():
            _on_first(trainer, partial(self.table.depends, name, value))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keep complete parts, and say so."""
        line = self.table.interrupted(alone=trainer.world_size == 1)
        if line is not None:
            pl_module.print(line)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one batch's columns."""
        rows: NDArray[np.int64] = outputs["rows"]
        bad = np.isin(rows, list(batch.bad))
        self.table.add(rows, outputs["answers"], outputs["files"], rows != PADDING, bad)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rest, and put the parts of all ranks together."""
        self.table.flush()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            for line in self.table.finish():
                pl_module.print(line)


def _on_first(trainer: Trainer, work: Callable[[], Result]) -> Result:
    """Let the first rank do something, and return its result on all.

    Raises:
        UserError: On all, if it does.
    """
    result, refusal = None, ""
    if trainer.is_global_zero:
        try:
            result = work()
        except UserError as error:
            refusal = str(error)
    result, refusal = trainer.strategy.broadcast((result, refusal))
    if refusal:
        raise UserError(refusal)
    return cast("Result", result)


def _digest(module: LightningModule) -> str:
    """Return a hash of all weights and buffers."""
    found = hashlib.sha256()
    for name, values in module.state_dict().items():
        found.update(name.encode())
        found.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()

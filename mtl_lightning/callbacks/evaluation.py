"""The base class of callbacks that take part in the commands ``test`` and ``validate``."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mtl_lightning.data.batch import Batch


class EvaluationCallback(Callback):
    """A callback of both commands, but not of the validation within a training."""

    @abstractmethod
    def start(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Begin an evaluation of a split."""

    @abstractmethod
    def add(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch) -> None:
        """Take a batch, and the outputs of each task for it."""

    @abstractmethod
    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """End the evaluation."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self.start(trainer, pl_module, "test")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take a batch."""
        self.add(trainer, pl_module, outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish."""
        self.finish(trainer, pl_module, "test")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start, if this is the command ``validate``."""
        if trainer.state.fn == "validate":
            self.start(trainer, pl_module, "val")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take a batch, if this is the command ``validate``."""
        if trainer.state.fn == "validate":
            self.add(trainer, pl_module, outputs, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish, if this is the command ``validate``."""
        if trainer.state.fn == "validate":
            self.finish(trainer, pl_module, "val")


def add_up(trainer: Trainer, states: Iterable[Tensor]) -> None:
    """Add up tensors over ranks, in place."""
    if trainer.world_size > 1:
        for state in states:
            torch.distributed.all_reduce(state)

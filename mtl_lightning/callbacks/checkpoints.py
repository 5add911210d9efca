"""``last.ckpt`` and ``best.ckpt``."""

import math
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from mtl_lightning.runs import facts
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.system.files import atomic_path, remove_partial_files
from mtl_lightning.system.strategy import is_trial
from mtl_lightning.training.monitored import check_monitor, monitored_names
from mtl_lightning.training.protocol import multi_task


class Checkpoints(Checkpoint):
    """Keeps the current state as ``last.ckpt``, and the state with the best value as ``best.ckpt``.

    Both are written between steps: before the first step, at the start of an epoch, before a batch
    within one, and at the end of training. The log files are written first, with everything that a
    step, a validation or an epoch logs, so that a training that is killed at any moment and resumed
    loses nothing and writes nothing twice. ``best.ckpt`` is exactly the state that was validated;
    no step is made in between.

    (One ``ModelCheckpoint`` that monitors a metric saves nothing before the first validation and
    may miss the last step.)

    Args:
        folder: The folder to write to.
        monitor: A value that a validation logs, such as ``val/score`` or ``val/type/accuracy``.
        mode: ``max`` if higher is better, else ``min``.
        every_n_train_steps: Also write ``last.ckpt`` within an epoch, each so many optimizer steps.
        train_time_interval: Also write it whenever this much time has passed.
    """

    def __init__(
        self,
        folder: Path,
        monitor: str,
        mode: Literal["max", "min"],
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
    ) -> None:
        self.last = folder / "last.ckpt"
        self.best = folder / "best.ckpt"
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.every_n_train_steps = every_n_train_steps
        self.train_time_interval = train_time_interval
        self.value: float | None = None
        self.written: dict[str, facts.Checkpoint] = {}
        """The paths that this session has written, by ``best`` and ``last``."""
        self._is_best = False  # the current state is the best and not yet written
        self._saved_at = -1  # step of the last save; -1 if there is none
        self._saved_when = 0.0

    @property
    def state_key(self) -> str:
        """The name of the best value in a checkpoint."""
        return "Best"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find a misspelt name before training instead of at the first validation."""
        known = monitored_names(multi_task(pl_module))
        # At the end of a validation, the values of train are those of the previous epoch.
        measured = [name for name in known if name.startswith("val/")]
        check_monitor("checkpoint.monitor", self.monitor, measured)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count steps and time from here."""
        if trainer.is_global_zero:
            remove_partial_files(self.last.parent)
        self._is_best = False
        self._saved_at = trainer.global_step if self.last.exists() else -1
        self._saved_when = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note whether this validation is the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = float(trainer.callback_metrics.get(self.monitor, torch.tensor(math.nan)))
        if math.isnan(value) or (self.value is not None and self.sign * (value - self.value) <= 0):
            return
        self.value = value
        self._is_best = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the previous epoch."""
        if trainer.global_step not in (0, self._saved_at):
            self.save(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch if it is due, between optimizer steps."""
        if batch_idx % trainer.accumulate_grad_batches == 0 and (
            self._is_best or self._is_due(trainer)
        ):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the last step."""
        if self._is_best or trainer.global_step != self._saved_at:
            self.save(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.global_step == self._saved_at:
            return False
        if self._saved_at < 0:
            return True
        n = self.every_n_train_steps
        if n is not None and trainer.global_step % n == 0:
            return True
        if self.train_time_interval is None:
            return False
        passed = time.monotonic() - self._saved_when >= self.train_time_interval.total_seconds()
        return trainer.strategy.broadcast(passed)  # the clocks of the ranks differ

    def save(self, trainer: Trainer) -> None:
        """Write the log files, then the current state; called on all ranks.

        Raises:
            UserError: If it cannot be written, on all ranks; existing files stay intact.
        """
        if is_trial(trainer):
            return
        problem = None
        try:
            for logger in trainer.loggers:
                logger.save()
            trainer.save_checkpoint(self.last)
            self.written["last"] = facts.Checkpoint(trainer.global_step)
            if self._is_best and trainer.is_global_zero:
                _same(self.last, self.best)
                self.written["best"] = facts.Checkpoint(trainer.global_step, self.value)
        except OSError as error:  # on the rank that writes; the others wait for it
            problem = f"{error.filename or self.last}: {error.strerror}"
            trainer.strategy.barrier("Trainer.save_checkpoint")
        problem = trainer.strategy.broadcast(problem)
        if problem is not None:
            there = [str(path) for path in (self.last, self.best) if path.exists()]
            intact = f"{listed(there)} intact, from before" if there else "none was written before"
            raise UserError(f"checkpoint {self.last} could not be written ({problem}); {intact}")
        self._is_best = False
        self._saved_at, self._saved_when = trainer.global_step, time.monotonic()

    def state_dict(self) -> dict[str, float | None]:
        """Keep the best value, so that a resumed run saves only what is better."""
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Restore the best value of the run that is resumed."""
        self.value = state_dict["value"]


def _same(path: Path, copy: Path) -> None:
    """Make ``copy`` the same file as ``path``, which is replaced and never written to."""
    with atomic_path(copy) as part:
        try:
            os.link(path, part)
        except OSError:  # a file system without links
            shutil.copyfile(path, part)

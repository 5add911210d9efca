"""``last.ckpt``, ``best.ckpt`` and the best for each task."""

import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from mtl_lightning.runs import facts
from mtl_lightning.runs.folder import BEST_OF, best_of
from mtl_lightning.system.errors import UserError, listed
from mtl_lightning.system.files import atomic_path, remove_partial_files
from mtl_lightning.system.strategy import is_trial
from mtl_lightning.training.monitored import check_monitor, monitored_names
from mtl_lightning.training.protocol import multi_task


@dataclass
class Best:
    """The best value so far of a course that may be smoothed.

    Attributes:
        smooth: Share of the average so far in ``average = smooth * average + (1 - smooth) * new``;
            the first is the first value.
        sign: 1 if higher is better, -1 if lower is.
        average: The average after the last value; None before any.
        value: The best average so far.
    """

    smooth: float
    sign: int = 1
    average: float | None = None
    value: float | None = None

    def is_improved_by(self, new: float) -> bool:
        """Add a value; return whether the average is better than ever. NaN is left out."""
        if math.isnan(new):
            return False
        if self.average is None or not self.smooth:
            self.average = new
        else:
            self.average = self.smooth * self.average + (1 - self.smooth) * new
        if self.value is not None and self.sign * (self.average - self.value) <= 0:
            return False
        self.value = self.average
        return True

    def state(self) -> dict[str, float | None]:
        """Return what `restore` needs."""
        return {"value": self.value, "average": self.average}

    def restore(self, state: Mapping[str, float | None]) -> None:
        """Continue from the values of `state`."""
        self.value, self.average = state["value"], state["average"]


class Checkpoints(Checkpoint):
    """Keeps the current state as ``last.ckpt``, and the state with the best value as ``best.ckpt``.

    Both are written between steps: before the first step, at the start of an epoch, before a batch
    within one, and at the end of training. The log files are written first, with everything that a
    step, a validation or an epoch logs, so that a training that is killed at any moment and resumed
    loses nothing and writes nothing twice. ``best.ckpt`` is exactly the state that was validated;
    no step is made in between. So are ``best-<task>.ckpt``, one for each task.

    (One ``ModelCheckpoint`` that monitors a metric saves nothing before the first validation and
    may miss the last step.)

    Args:
        folder: The folder to write to.
        monitor: A value that a validation logs, such as ``val/score`` or ``val/type/accuracy``.
        mode: ``max`` if higher is better, else ``min``.
        every_n_train_steps: Also write ``last.ckpt`` within an epoch, each so many optimizer steps.
        train_time_interval: Also write it whenever this much time has passed.
        per_task: Also keep the state with the best score of each task (`Task.score`).
        smooth: Choose by an exponential moving average over validations, in which the average so
            far has this share: 0 (the last value alone) to below 1.
    """

    def __init__(
        self,
        folder: Path,
        monitor: str,
        mode: Literal["max", "min"],
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        per_task: bool = False,
        smooth: float = 0.0,
    ) -> None:
        self.folder = folder
        self.last = folder / "last.ckpt"
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.every_n_train_steps = every_n_train_steps
        self.train_time_interval = train_time_interval
        self.per_task = per_task
        self.smooth = smooth
        self.written: dict[str, facts.Checkpoint] = {}
        """The checkpoints that this session has written, by name without ``.ckpt``."""
        self._best = Best(smooth, self.sign)
        self._of_tasks: dict[str, Best] = {}
        self._unwritten: list[str] = []  # names for which the current state is the best
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
        if self.per_task:
            known_tasks = multi_task(pl_module).tasks
            self._of_tasks = {n: self._of_tasks.get(n, Best(self.smooth)) for n in known_tasks}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count steps and time from here."""
        if trainer.is_global_zero:
            remove_partial_files(self.last.parent)
        self._unwritten = []
        self._saved_at = trainer.global_step if self.last.exists() else -1
        self._saved_when = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note whether this validation is the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = float(trainer.callback_metrics.get(self.monitor, torch.tensor(math.nan)))
        improved = {"best"} if self._best.is_improved_by(value) else set()
        module = multi_task(pl_module)
        scores = module.results["val"].scores(dict(module.tasks.items()))
        for name, best in self._of_tasks.items():
            if best.is_improved_by(scores.get(name, math.nan)):
                improved.add(best_of(name))
        self._unwritten = sorted(improved.union(self._unwritten))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the previous epoch."""
        if trainer.global_step not in (0, self._saved_at):
            self.save(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch if it is due, between optimizer steps."""
        if batch_idx % trainer.accumulate_grad_batches == 0 and (
            self._unwritten or self._is_due(trainer)
        ):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state after the last step."""
        if self._unwritten or trainer.global_step != self._saved_at:
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
            for name in self._unwritten if trainer.is_global_zero else ():
                _same(self.last, self._path(name))
                self.written[name] = facts.Checkpoint(trainer.global_step, self._value(name))
        except OSError as error:  # on the rank that writes; the others wait for it
            problem = f"{error.filename or self.last}: {error.strerror}"
            trainer.strategy.barrier("Trainer.save_checkpoint")
        problem = trainer.strategy.broadcast(problem)
        if problem is not None:
            names = ["last", "best", *map(best_of, self._of_tasks)]
            there = [str(path) for path in map(self._path, names) if path.exists()]
            intact = f"{listed(there)} intact, from before" if there else "none was written before"
            raise UserError(f"checkpoint {self.last} could not be written ({problem}); {intact}")
        self._unwritten = []
        self._saved_at, self._saved_when = trainer.global_step, time.monotonic()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.ckpt"

    def _value(self, name: str) -> float | None:
        best = self._best if name == "best" else self._of_tasks[name.removeprefix(BEST_OF)]
        return best.value

    def state_dict(self) -> dict[str, Any]:
        """Keep the best values and averages, so that a resumed run saves only what is better."""
        tasks = {name: best.state() for name, best in self._of_tasks.items()}
        return {**self._best.state(), "tasks": tasks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best values of the run that is resumed."""
        self._best.restore(state_dict)
        for name, state in state_dict["tasks"].items():
            self._of_tasks[name] = Best(self.smooth)
            self._of_tasks[name].restore(state)


def _same(path: Path, copy: Path) -> None:
    """Make ``copy`` the same file as ``path``, which is replaced and never written to."""
    with atomic_path(copy) as part:
        try:
            os.link(path, part)
        except OSError:  # a file system without links
            shutil.copyfile(path, part)

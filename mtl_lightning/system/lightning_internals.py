"""Every private attribute of Lightning and torchmetrics that this package reads or sets.

They may change with any release: pyproject.toml bounds Lightning from above, and a test checks that
each of them, and each private method that a subclass of ours overrides, is still there.
"""

import os
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning_fabric.utilities.cloud_io import _load as load_checkpoint
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters
from pytorch_lightning.loops import evaluation_loop, training_epoch_loop
from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies.launchers import subprocess_script
from pytorch_lightning.utilities.model_helpers import _restricted_classmethod as class_method
from torch import Tensor
from torchmetrics import Metric

__all__ = [
    "ChildProcessObserver",
    "class_method",
    "cluster_environment",
    "is_built_by_cli",
    "load_checkpoint",
    "observe_processes_with",
    "position_loops",
    "release_processes",
    "set_callback_metrics",
    "set_metric_state",
    "trainer_of",
    "validation_is_due",
]


def is_built_by_cli() -> bool:
    """Whether LightningCLI is building an object, and so knows its arguments as plain values.

    Objects given in Python (a backbone, a task) are not saved as hyper-parameters: a checkpoint
    holds plain values only, so that it loads with ``weights_only=True``.
    """
    return _given_hyperparameters.get() is not None


def trainer_of(module: LightningModule) -> Trainer | None:
    """Return the trainer of a module, None if it has none (``module.trainer`` raises then)."""
    return module._trainer


def cluster_environment(trainer: Trainer) -> ClusterEnvironment:
    """Return the environment that started the processes, such as SLURM's."""
    return trainer._accelerator_connector.cluster_environment


# ----------------------------------------------------------------- processes


class ChildProcessObserver(_ChildProcessObserver):
    """Lightning's thread that waits for one of the other processes to fail."""

    @property
    def processes(self) -> list[subprocess.Popen[Any]]:
        """The processes of ranks 1, 2, ... that this one has started and still observes."""
        return self._child_processes

    def on_failure(self) -> None:
        """React to the failure of one of them."""
        raise NotImplementedError

    def _terminate_all(self) -> None:
        self.on_failure()


def observe_processes_with(observer: type[ChildProcessObserver]) -> None:
    """Have Lightning observe the processes that it starts with this class instead of its own."""

    def launch(child_processes: list[subprocess.Popen[Any]]) -> None:
        observer(main_pid=os.getpid(), child_processes=child_processes).start()

    subprocess_script._launch_process_observer = launch


def release_processes() -> list[subprocess.Popen[Any]]:
    """Return the observed processes of ranks 1, 2, ..., and stop observing them."""
    released = []
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            released += thread._child_processes
            thread._child_processes = []
    return released


# ----------------------------------------------------------------- resuming


def set_callback_metrics(trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
    """Put values among ``trainer.callback_metrics``."""
    trainer._logger_connector._callback_metrics.update(metrics)


def set_metric_state(metric: Metric, updates: int, state: Mapping[str, Tensor]) -> None:
    """Restore the state of a metric after so many updates."""
    metric._update_count = updates
    metric._computed = None
    for name, value in state.items():
        setattr(metric, name, value.to(metric.device))


def validation_is_due(trainer: Trainer) -> bool:
    """Whether a validation follows the current batch."""
    fit: Any = trainer.fit_loop
    return bool(fit.epoch_loop._should_check_val_fx(fit._data_fetcher))


def position_loops(trainer: Trainer, epoch: int, done: int, batches: int, validate: bool) -> None:
    """Let Lightning's loops start at a position, with all hooks of a starting epoch.

    (Lightning's own states depend on the hook in which a checkpoint was written; this one does
    not.)

    Args:
        trainer: The trainer, which is about to train.
        epoch: The epoch to start in, from 0.
        done: The number of its finished batches.
        batches: The number of batches of an epoch.
        validate: Whether a validation was due after the last of them and has not ended.
    """
    fit: Any = trainer.fit_loop
    loop = fit.epoch_loop
    for progress in (fit.epoch_progress.current, fit.epoch_progress.total):
        _set(progress, epoch)
    _set(loop.batch_progress.current, done)
    _set(loop.batch_progress.total, epoch * batches + done)
    loop.batch_progress.is_last_batch = done == batches
    fit.restarting = False
    fit._restarting = False  # the previous line leaves it set if only steps end the training
    fit._restart_stage = training_epoch_loop.RestartStage.NONE
    loop.val_loop._restart_stage = evaluation_loop.RestartStage.NONE
    loop._batches_that_stepped = trainer.global_step
    if done:
        # "After the last batch": the loop continues counting from there, and skips a validation
        # that is due there unless it is marked as interrupted.
        loop._restarting = True
        loop._restart_stage = training_epoch_loop.RestartStage.RESTARTED_ON_LAST
        if validate:
            interrupted = evaluation_loop.RestartStage.RESTARTED_MID_EVALUATION
            loop.val_loop._restart_stage = interrupted
        if validation_is_due(trainer) and not loop._should_accumulate():
            loop._batches_that_stepped -= 1  # the loop counts it again


def _set(progress: Any, value: int) -> None:
    progress.ready = progress.started = progress.processed = progress.completed = value

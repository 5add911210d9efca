"""SIGTERM and Ctrl-C end a training at the next step, with a checkpoint; SLURM may requeue it."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.environments import SLURMEnvironment

from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.runs.folder import mark_job
from mtl_lightning.system.errors import Stopped
from mtl_lightning.system.lightning_internals import cluster_environment, release_processes


class Signals(Callback):
    """Ends the training at the start of the next step, on all ranks, whichever got the signal.

    A signal during a validation ends it; the validation starts over when the run is resumed. A
    second Ctrl-C ends the process immediately. If SLURM announces the end of a job (``#SBATCH
    --signal=SIGUSR1@90``), the job is requeued, and finds its run by itself.

    (Lightning's own handlers call a collective from within the handler, so that a signal to one of
    several ranks can leave all of them waiting, and they pass a signal on only from the first
    rank.)

    Args:
        run: The folder of the run.
        checkpoints: The callback that writes checkpoints, if any.
    """

    def __init__(self, run: Path, checkpoints: Checkpoints | None) -> None:
        self.run = run
        self.checkpoints = checkpoints
        self.received = 0  # the number of the last signal
        self._requeue = 0  # the number of the signal by which SLURM announces the end

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which it restores when it is done."""
        self.received = signal.SIGTERM if trainer.received_sigterm else 0
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = [signal.SIGTERM, signal.SIGINT]
        environment = cluster_environment(trainer)
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self._requeue = environment.requeue_signal or signal.SIGUSR1
            numbers.append(signal.Signals(self._requeue))
            if trainer.is_global_zero:
                mark_job(self.run)
        for number in numbers:
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End here, if this is between optimizer steps."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._end_if_asked(trainer)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """End here; the validation will be repeated."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._end_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave what follows (plots) to the default handlers: everything is saved."""
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) == self._take:
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default)

    def _end_if_asked(self, trainer: Trainer) -> None:
        number = self.received
        if trainer.world_size > 1:
            asked = torch.tensor(number, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(asked, reduce_op="max"))
        if not number:
            return
        saved = "nothing was saved: trainer.enable_checkpointing is false"
        if self.checkpoints is not None:
            self.checkpoints.save(trainer)
            saved = (
                f"saved {self.checkpoints.last}; the same command with --ckpt_path last continues "
                f"from there"
            )
        if number == self._requeue and trainer.is_global_zero:
            saved += f"; {_requeued()}"
        # Lightning's observer would kill the first rank as soon as another one exits with a nonzero
        # status, as all do here.
        release_processes()
        where = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        raise Stopped(number, f"stopped by {signal.Signals(number).name} at {where}: {saved}")


def _requeued() -> str:
    """Ask SLURM to requeue this job, and return the outcome as text."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        return f"SLURM did not requeue job {job}: {' '.join(str(reason).split())}"
    return f"SLURM requeues job {job}"

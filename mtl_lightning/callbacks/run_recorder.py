"""``run.json``: the facts of a run, collected while it is in progress."""

import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.audit.label_counts import label_counts
from mtl_lightning.callbacks import notes
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings
from mtl_lightning.callbacks.gallery import Gallery
from mtl_lightning.callbacks.importance import Importance
from mtl_lightning.callbacks.plot_collector import PlotCollector
from mtl_lightning.callbacks.slices import Slices
from mtl_lightning.runs import facts, run_file
from mtl_lightning.system import environment
from mtl_lightning.system.errors import Stopped
from mtl_lightning.system.strategy import is_trial
from mtl_lightning.tasks.reliability import reliability_data
from mtl_lightning.tasks.results import Results
from mtl_lightning.training.protocol import data_of, multi_task


class RunRecorder(Callback):
    """Collects the facts of the run for other callbacks to show, and writes them to ``run.json``.

    The file is written on the first rank: when training starts, after each validation and epoch,
    before a checkpoint is written, and at the end. So no checkpoint is ahead of the file, and a
    resumed run finds every epoch before the checkpoint in it, and drops the later ones.

    An error with the file does not stop the run. A ``fast_dev_run`` writes none.

    Args:
        run: The folder to write to.
        checkpoints: The callback that writes checkpoints, if any.
        importance: The callback that measures the columns, if any, which is called before.
        slices: The callback that measures parts of the split, likewise.
        gallery: The callback that collects mistakes and doubtful answers, likewise.
    """

    def __init__(
        self,
        run: Path,
        checkpoints: Checkpoints | None = None,
        importance: Importance | None = None,
        slices: Slices | None = None,
        gallery: Gallery | None = None,
    ) -> None:
        self.run = run
        self.checkpoints = checkpoints
        self.importance = importance
        self.slices = slices
        self.gallery = gallery
        self.facts = facts.RunFacts(run.parent.name, run.name)
        self.evaluation: facts.Evaluation | None = None
        """The last evaluation of this command, with the data behind its plots."""
        self._readable = True
        self._session: facts.Session | None = None
        self._collector = PlotCollector()
        self._reliability = PlotCollector(reliability_data)
        self._epoch_start = 0.0
        self._epoch: tuple[int, int, float, float | None] | None = None  # without results so far
        self._train_results: Results | None = None  # the last recorded ones
        self._validated_at: int | None = None
        self._starved = False

    # ----------------------------------------------------------------- the command

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the facts that are known before training."""
        self._train_results = multi_task(pl_module).results.get("train")
        self._epoch = self._validated_at = self.evaluation = None
        if not trainer.is_global_zero:
            return
        self._start_session(trainer, pl_module)
        data = data_of(trainer)
        self.facts.merged = label_counts(data.labels)
        self.facts.notes = notes.before_training(data, trainer)
        self.facts.notes += notes.batch_norm(pl_module, trainer)
        self.facts.sizes = facts.Sizes(
            parameters=_parameters(pl_module),
            image=list(data.size) if data.loads_images else [],
            batch_size=data.batch_size,
            devices=trainer.world_size,
            accumulate=trainer.accumulate_grad_batches,
        )
        if self.checkpoints is not None and self.facts.checkpoints is None:
            mode = "max" if self.checkpoints.sign > 0 else "min"
            self.facts.checkpoints = facts.Checkpoints(self.checkpoints.monitor, mode)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end."""
        self._end_session(trainer, "finished")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Record how the session ended."""
        stopped = isinstance(exception, Stopped | KeyboardInterrupt)
        self._end_session(trainer, "stopped" if stopped else "failed")

    def _start_session(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._readable = False
        with errors_as_warnings(run_file.FILE):
            self.facts = run_file.read(self.run) or self.facts
            self._readable = True
        self.facts.tasks = {
            name: facts.TaskFacts(type(task).__name__, task.primary)
            for name, task in multi_task(pl_module).tasks.items()
        }
        self._session = facts.Session(
            command=_command(trainer),
            started=_now(),
            versions=environment.versions(),
            device=environment.device_name(trainer.strategy.root_device),
            precision=str(trainer.precision),
            git=environment.git_revision(),
        )
        self.facts.sessions.append(self._session)

    def _end_session(self, trainer: Trainer, outcome: str) -> None:
        if self._session is not None:
            self._session.ended, self._session.outcome = _now(), outcome
            self._save(trainer)
        self._session = None

    def _save(self, trainer: Trainer) -> None:
        """Write the file, including what another command has recorded in it meanwhile."""
        if not trainer.is_global_zero or not self._readable or is_trial(trainer):
            return
        if self.checkpoints is not None and self.facts.checkpoints is not None:
            self.facts.checkpoints.update(self.checkpoints.written)
        with errors_as_warnings(run_file.FILE):
            there = run_file.read(self.run)
            if there is not None and _command(trainer) == "fit":
                self.facts.adopt(there)
            elif there is not None:  # it may belong to a training that is still running
                there.adopt(self.facts)
                self.facts = there
            run_file.write(self.run, self.facts)

    # ----------------------------------------------------------------- training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what an earlier session recorded after the checkpoint that is resumed."""
        self._epoch_start = time.monotonic()
        if self._session is not None and trainer.ckpt_path is not None:
            self._session.resumed_step = trainer.global_step
        self.facts.rewind(trainer.global_step)
        self._save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the previous epoch, whose results are known by now."""
        self._record_epoch(trainer, pl_module)
        self._epoch_start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the time; note once if the device waits for its data."""
        data = data_of(trainer)
        data.training_paused()  # unless a validation has called it
        seconds, share = time.monotonic() - self._epoch_start, data.input_wait.share()
        self._epoch = trainer.current_epoch, trainer.global_step, seconds, share
        starved = data.input_wait.starved()
        if starved is not None and not self._starved and trainer.is_global_zero:
            self._starved = True
            self.facts.notes.append(notes.starved(starved, data, trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the last epoch and validation while all ranks are here; checkpoints follow."""
        self._record_epoch(trainer, pl_module)
        if self._validated_at is not None:
            self._record_evaluation(trainer, pl_module, "val", step=self._validated_at)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record a finished epoch before a checkpoint contains it."""
        if _command(trainer) == "fit":
            self._record_epoch(trainer, pl_module)

    def _record_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        results = multi_task(pl_module).results.get("train")
        if self._epoch is None or results is None or results is self._train_results:
            return
        epoch, step, seconds, share = self._epoch
        self._epoch, self._train_results = None, results
        self.facts.add_epoch(facts.Epoch(epoch, step, seconds, share, _without_labels(results)))
        self._save(trainer)

    # ----------------------------------------------------------------- evaluation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to collect, and pause the clock of training."""
        data_of(trainer).training_paused()
        self._start_evaluation(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to collect."""
        self._start_evaluation(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect a batch; ``outputs`` holds the network's outputs for each task."""
        self._collector.add(pl_module, outputs, batch)
        self._reliability.add(pl_module, outputs, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation; of a training, only the last one gets plot data, at its end."""
        if trainer.sanity_checking:
            return
        if _command(trainer) == "fit":
            self._validated_at = trainer.global_step
            results = _without_labels(multi_task(pl_module).results["val"])
            validation = facts.Validation(trainer.current_epoch, trainer.global_step, results)
            self.facts.add_validation(validation)
            self._save(trainer)
        else:
            self._record_evaluation(trainer, pl_module, "val")
            self._end_session(trainer, "finished")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the test."""
        self._record_evaluation(trainer, pl_module, "test")
        self._end_session(trainer, "finished")

    def _start_evaluation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collector.start(pl_module)
        self._reliability.start(pl_module)
        if _command(trainer) != "fit" and trainer.is_global_zero:
            self._start_session(trainer, pl_module)

    def _record_evaluation(
        self, trainer: Trainer, pl_module: LightningModule, split: str, step: int | None = None
    ) -> None:
        plots = self._collector.gather(trainer, pl_module, split)
        reliability = self._reliability.gather(trainer, pl_module, split)
        weights = trainer.ckpt_path if step is None else None
        self.evaluation = facts.Evaluation(
            command=_command(trainer),
            time=_now(),
            step=step,
            weights=Path(weights).name if weights else None,
            results=multi_task(pl_module).results[split],
            plots=plots,
            reliability=reliability,
            importance={} if self.importance is None else self.importance.found,
            sources={} if self.slices is None else self.slices.sources,
            slices={} if self.slices is None else self.slices.columns,
            mistakes={} if self.gallery is None else self.gallery.mistakes,
            doubts={} if self.gallery is None else self.gallery.doubts,
        )
        self.facts.evaluations[split] = self.evaluation


def _command(trainer: Trainer) -> str:
    return "" if trainer.state.fn is None else trainer.state.fn.value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _parameters(pl_module: LightningModule) -> facts.Parameters:
    network = multi_task(pl_module).network
    return facts.Parameters(
        total=sum(p.numel() for p in pl_module.parameters()),
        trained=sum(p.numel() for p in pl_module.parameters() if p.requires_grad),
        backbone=sum(p.numel() for p in network.backbone_parameters()),
        heads={
            task: sum(p.numel() for p in head.parameters()) for task, head in network.heads.items()
        },
    )


def _without_labels(results: Results) -> Results:
    tasks = {
        task: {metric: value for metric, value in values.items() if "/" not in metric}
        for task, values in results.tasks.items()
    }
    return replace(results, tasks=tasks)

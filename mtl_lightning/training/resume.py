"""Resuming exactly at a checkpoint: also within an epoch, and on another number of ranks."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.lightning_internals import (
    position_loops,
    set_callback_metrics,
    set_metric_state,
    validation_is_due,
)
from mtl_lightning.training.protocol import MultiTaskModule, multi_task

KEY = "resume"
"""The key of a checkpoint for the state of this callback."""


@dataclass(frozen=True)
class Position:
    """The position of a checkpoint in the training: after an optimizer step, before the next batch.

    Attributes:
        epoch: The current or next epoch, from 0.
        rows: How many of its rows all ranks have processed in total.
        validate: Whether a validation was due after the last step and has not ended.
    """

    epoch: int
    rows: int
    validate: bool


class Resume(Callback):
    """Writes its position into each checkpoint, and makes a resumed training continue there.

    Lightning counts batches, which differ on another number of ranks; it skips the validation and
    the end of the epoch that a checkpoint was written just before; and its checkpoints lack the
    metrics of the epoch and the values that a scheduler monitors. Here the position is counted in
    rows, and each rank's measurements of the epoch are saved with it. A training that is resumed
    on as many ranks continues bit for bit; on another number it sees each remaining row once.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}
        self._validated = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that a validation is running."""
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that it has ended, for a checkpoint written at this point."""
        self._validated = True

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the position and the measurements so far; called on all ranks."""
        if trainer.state.fn != "fit":
            return
        module = multi_task(pl_module)
        checkpoint[KEY] = {
            "position": asdict(self._position(trainer)),
            "measured": _of_all_ranks(_measured(module)),
            "skipped_steps": module.skipped_steps,
            "logged": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Pass the position to the data module before its loader is made."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        if trainer.state.fn == "fit" and KEY in checkpoint and isinstance(data, PartialLabels):
            self._loaded = checkpoint[KEY]
            position = Position(**self._loaded["position"])
            data.resume_at(position.epoch, position.rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore loops and measurements."""
        loaded, self._loaded = self._loaded, {}
        if not loaded:
            return
        module = multi_task(pl_module)
        _place(trainer, Position(**loaded["position"]))
        _restore(module, loaded["measured"], trainer.global_rank, trainer.world_size)
        module.resume_counting(loaded["skipped_steps"])
        logged = {name: torch.tensor(value) for name, value in loaded["logged"].items()}
        set_callback_metrics(trainer, logged)

    def _position(self, trainer: Trainer) -> Position:
        fit: Any = trainer.fit_loop
        loop = fit.epoch_loop
        epochs, batches = fit.epoch_progress.current, loop.batch_progress.current
        total = int(trainer.num_training_batches)
        epoch, done = epochs.processed, batches.processed
        if epochs.started == epochs.processed:  # between two epochs
            cut_off = epochs.ready == epochs.processed and 0 < done < total
            epoch, done = (epoch - 1, done) if cut_off else (epoch, 0)
        if done != total:  # gradients accumulated for an unfinished step are lost
            done -= done % trainer.accumulate_grad_batches
        if trainer.validating:
            validate = not self._validated
        else:  # at the end of a batch
            ended = batches.processed == batches.completed
            validate = not ended and validation_is_due(trainer)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        return Position(epoch, data.train_plan.rows_before(epoch, done), validate)


def _place(trainer: Trainer, position: Position) -> None:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    plan = data.train_plan
    done = plan.start(position.epoch) if position.rows else 0
    position_loops(trainer, position.epoch, done, len(plan), position.validate)


# --------------------------------------------------------------------- measurements


def _measured(module: MultiTaskModule) -> dict[str, Tensor]:
    """Return the state of every metric of the epoch, on this rank."""
    state = {}
    for name, metric in _metrics(module):
        state[f"{name}.updates"] = torch.tensor(metric.update_count)
        for key, value in metric.metric_state.items():
            assert isinstance(value, Tensor), "states of metrics are sums"
            state[f"{name}.{key}"] = value.detach().cpu()
    return state


def _restore(
    module: MultiTaskModule, measured: list[dict[str, Tensor]], rank: int, world_size: int
) -> None:
    """Restore each rank's state; on another number of ranks, the first gets the sum."""
    if len(measured) != world_size:
        if rank:
            return
        measured = [{key: sum_of(key, measured) for key in measured[0]}]
    for name, metric in _metrics(module):
        state = {key: measured[rank][f"{name}.{key}"] for key in metric.metric_state}
        set_metric_state(metric, int(measured[rank][f"{name}.updates"]), state)


def sum_of(key: str, states: list[dict[str, Tensor]]) -> Tensor:
    """Return the sum of one entry over ranks."""
    return torch.stack([state[key] for state in states]).sum(0)


def _metrics(module: MultiTaskModule) -> Iterator[tuple[str, Metric]]:
    for name, part in module.measured["train"].named_modules():
        if isinstance(part, Metric):
            yield name, part


def _of_all_ranks(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    if not torch.distributed.is_initialized():
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states

"""Averaged weights: validation, checkpoints and tests use a moving average over steps."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mtl_lightning.system.errors import UserError
from mtl_lightning.system.strategy import check_whole_weights

TRAINING_WEIGHTS = "training_weights"
"""The key of a checkpoint for the weights that training continues with."""


class EMA(Callback):
    """Evaluates and saves an exponential moving average of the weights (Polyak-Ruppert averaging).

    After each optimizer step (not each micro-batch) ``average = d * average + (1 - d) * weights``.
    Validation, and everything after the training in the same process, use the average; training
    continues with the weights themselves. In a checkpoint, ``state_dict`` is the average, so that
    ``test`` and ``predict`` need no option, and the training weights are under
    ``training_weights``, so that a resumed run continues bit for bit. A run that is resumed from a
    checkpoint without an average starts one there.

    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; Tarvainen
    and Valpola, "Mean teachers are better role models", NeurIPS 2017 (averages of this kind).

    Only parameters are averaged, including frozen ones and absent tasks' heads (they do not move,
    and neither does their average). Buffers are used as they are: batch norm's statistics are
    already moving averages, and another average would only make them stale; counters are integers;
    label statistics are facts. The average is kept in float32 at least: in bfloat16 a step of one
    thousandth is rounded away. Each device computes it from the same weights, so nothing has to be
    sent between devices.

    Why not Lightning's ``EMAWeightAveraging`` (2.6.6): with ``use_buffers`` it averages buffers
    too, so integers stay at their first value (``num_batches_tracked`` stays 1); after an exception
    in a validation the average replaces the weights; a checkpoint written after the training has
    lost the weights; it copies the network before pretrained weights are loaded, and validates that
    copy until the first update; it has no warm-up; and it warns at each test.

    Args:
        decay: d, from 0 (no averaging) to below 1. About 1 / (1 - d) updates are averaged.
        every_n_steps: Update the average every so many optimizer steps.
        warm_up: Start with less: d is ``min(decay, (1 + n) / (10 + n))`` in update n = 0, 1, ...
            (TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``). Otherwise the random
            initial heads stay in the average for about 1 / (1 - d) updates.

    Raises:
        UserError: If an argument is out of range; before training, with a strategy that shards
            the weights, or a ``ModelCheckpoint`` that bypasses the average.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1, warm_up: bool = True) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA: decay should be in 0..1 (1 excluded). Found {decay}")
        if every_n_steps < 1:
            raise UserError(f"EMA: every_n_steps should be 1 or more. Found {every_n_steps}")
        self.decay = decay
        self.every_n_steps = every_n_steps
        self.warm_up = warm_up
        self.updates = 0
        self._step = 0  # optimizer steps so far
        self._average: dict[nn.Parameter, Tensor] = {}
        # The training weights while the average is in their place.
        self._weights: dict[nn.Parameter, Tensor] | None = None
        self._loaded: dict[str, Any] = {}  # a checkpoint, until the network is on its device
        self._grown: Mapping[str, Tensor] = {}  # the average of a network that grows, likewise

    @property
    def state_key(self) -> str:
        """The name of the number of updates in a checkpoint."""
        return "EMA"

    # ----------------------------------------------------------------- training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse unsupported settings, and forget an earlier training."""
        if stage != "fit":
            return
        check_whole_weights(trainer, "EMA")
        if any(getattr(each, "save_weights_only", False) for each in trainer.checkpoint_callbacks):
            raise UserError(
                "EMA: ModelCheckpoint with save_weights_only would save weights that are not "
                "averaged; leave save_weights_only out"
            )
        self.updates = 0
        self._average, self._weights, self._loaded, self._grown = {}, None, {}, {}

    @torch.no_grad()
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the average from the weights, or restore both from the checkpoint."""
        average = self._loaded.get("state_dict", {})
        weights = self._loaded.get(TRAINING_WEIGHTS, {})
        if trainer.ckpt_path is not None and not weights and trainer.is_global_zero:
            pl_module.print(
                "note: EMA: the checkpoint holds no average; it starts with its weights"
            )
        average = average or self._grown
        for name, parameter in pl_module.named_parameters():
            mean = torch.empty_like(parameter, dtype=_at_least_float32(parameter))
            self._average[parameter] = mean.copy_(average.get(name, parameter))
            parameter.copy_(weights.get(name, parameter))
        self._loaded, self._grown = {}, {}

    def continue_from(self, average: Mapping[str, Tensor], updates: int) -> None:
        """Start the next training from this average; see `training.protocol.Averages`."""
        self._grown, self.updates = average, updates

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count optimizer steps from here."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average, if this batch was the last of an optimizer step."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._step % self.every_n_steps:
            return
        decay = self.decay
        if self.warm_up:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        for dtype in {mean.dtype for mean in self._average.values()}:
            pairs = [(m, p.to(dtype)) for p, m in self._average.items() if m.dtype == dtype]
            update([mean for mean, _ in pairs], [p for _, p in pairs], None)
        self.updates += 1

    # ----------------------------------------------------------------- evaluation

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average, if this validation is part of a training."""
        if trainer.state.fn == "fit":
            self._show()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue with the weights."""
        if trainer.state.fn == "fit":
            self._hide()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Put the weights back if a validation was interrupted."""
        if trainer.state.fn == "fit":
            self._hide()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in place: it is the network that was validated."""
        # By now Lightning has moved the network off its device.
        self._average = {p: mean.to(p.device) for p, mean in self._average.items()}
        self._show()

    @torch.no_grad()
    def _show(self) -> None:
        self._weights = {parameter: parameter.detach().clone() for parameter in self._average}
        for parameter, mean in self._average.items():
            parameter.copy_(mean)

    @torch.no_grad()
    def _hide(self) -> None:
        for parameter, weight in (self._weights or {}).items():
            parameter.copy_(weight)
        self._weights = None

    # ----------------------------------------------------------------- checkpoints

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the network's weights, and the training weights under their key."""
        if trainer.state.fn != "fit" or not self._average:
            return
        kept = self._weights or {}
        # As in `state_dict`, a parameter that two modules share has two names.
        named = dict(pl_module.named_parameters(remove_duplicate=False))
        checkpoint[TRAINING_WEIGHTS] = {
            name: kept.get(parameter, parameter.detach()) for name, parameter in named.items()
        }
        checkpoint["state_dict"].update({name: self._average[p] for name, p in named.items()})

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep both for the start of training; test and predict need only the average."""
        if trainer.state.fn == "fit" and TRAINING_WEIGHTS in checkpoint:
            self._loaded = checkpoint

    def state_dict(self) -> dict[str, int]:
        """Keep the progress of the warm-up."""
        return {"updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the progress of the warm-up."""
        self.updates = state_dict["updates"]


def _at_least_float32(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)

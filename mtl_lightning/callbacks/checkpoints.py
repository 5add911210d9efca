"""``best.ckpt`` and ``last.ckpt``."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping

from mtl_lightning.errors import UserError, did_you_mean, listed
from mtl_lightning.module import MultiTask


class Best(Checkpoint):
    """Keeps the state at the validation with the best monitored value, as ``best.ckpt``.

    Args:
        folder: Where to.
        monitor: What a validation logs, such as ``val/score`` or ``val/type/accuracy``.
        mode: ``max`` where higher is better, else ``min``.
    """

    def __init__(self, folder: Path, monitor: str, mode: Literal["max", "min"]) -> None:
        self.path = folder / "best.ckpt"
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.value: float | None = None

    @property
    def state_key(self) -> str:
        """Under this name the best value stands in a checkpoint."""
        return "Best"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find a misspelt name before training, not at the first validation."""
        if isinstance(pl_module, MultiTask):
            known = monitored_names(pl_module)
            # At the end of a validation the values of train are those of the epoch before.
            measured = [name for name in known if name.startswith("val/")]
            check_monitor("checkpoint.monitor", self.monitor, measured)
            for callback in trainer.early_stopping_callbacks:
                if isinstance(callback, EarlyStopping):
                    check_monitor("EarlyStopping.monitor", callback.monitor, known)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if this validation is the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or is_trial(trainer):
            return
        value = float(trainer.callback_metrics.get(self.monitor, torch.tensor(math.nan)))
        if math.isnan(value) or (self.value is not None and self.sign * (value - self.value) <= 0):
            return
        self.value = value
        trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, float | None]:
        """Keep the best value, so that a resumed run saves only what is better."""
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Take the best value of the run that is resumed."""
        self.value = state_dict["value"]


class Last(Checkpoint):
    """Keeps the present state after each epoch and at the end of training, as ``last.ckpt``.

    (One ``ModelCheckpoint`` that monitors a metric saves nothing before the first validation and
    may miss the last step.)

    Args:
        folder: Where to.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"
        self._saved_at = -1

    @property
    def state_key(self) -> str:
        """A name of its own; there is no state."""
        return "Last"

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch that ends."""
        self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last end of an epoch, where training stops within one."""
        if trainer.global_step != self._saved_at:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not is_trial(trainer):
            self._saved_at = trainer.global_step
            trainer.save_checkpoint(self.path)


def is_trial(trainer: Trainer) -> bool:
    """Whether this is a ``fast_dev_run``, which leaves nothing behind."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by Lightning


def monitored_names(module: MultiTask) -> list[str]:
    """Return the names that a validation and an epoch of training log."""
    names = []
    for split in ("val", "train"):
        names += [f"{split}/loss", f"{split}/score"]
        for task, metrics in module.measured[split].items():
            own = [n for name, m in metrics.metrics.items() for n in getattr(m, "names", [name])]
            names += [f"{split}/{task}/{metric}" for metric in ("loss", "n_labelled", *own)]
    return names


def check_monitor(key: str, name: str, known: Iterable[str]) -> None:
    """Raise a ``UserError`` if nothing is logged under this name."""
    known = list(known)
    if name not in known:
        raise UserError(
            f'{key}: nothing is logged as "{name}"{did_you_mean(name, known)}; '
            f"there is {listed(known)}"
        )

"""The names that a training logs, which checkpoints and early stopping may monitor."""

from collections.abc import Iterable, Iterator

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from mtl_lightning.system.errors import UserError, did_you_mean, listed
from mtl_lightning.training.protocol import MultiTaskModule, data_of


def monitored_names(module: MultiTaskModule) -> list[str]:
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
            f"known: {listed(known)}"
        )


def check_monitors(module: MultiTaskModule, trainer: Trainer) -> None:
    """Refuse early stopping, checkpoints and schedules that wait for a value that is never logged.

    Args:
        module: Whose tasks are measured.
        trainer: Before the first step, with its optimizer.

    Raises:
        UserError: For the first of them.
    """
    known = monitored_names(module)
    for key, name, is_ours in _monitors(trainer):
        if is_ours:
            check_monitor(key, name, known)
        why = _why_never(name, trainer)
        if why:
            raise UserError(
                f"{key} should be a value that this training measures. Found {name}: {why}; "
                f"monitor train/loss or train/score instead"
            )


def check_plateau_frequency(trainer: Trainer) -> None:
    """Refuse a schedule that asks after each epoch for what is not validated in each.

    Args:
        trainer: When it knows how long an epoch is.

    Raises:
        UserError: If validations, counted in batches, are further apart than epochs end.
    """
    every, epoch = trainer.val_check_batch or 0, trainer.num_training_batches
    for config in trainer.lr_scheduler_configs:
        monitors_val = config.reduce_on_plateau and str(config.monitor).startswith("val/")
        if monitors_val and trainer.check_val_every_n_epoch is None and every > epoch:
            raise UserError(
                f"model.lr_scheduler: {type(config.scheduler).__name__} reads {config.monitor} "
                f"after each epoch of {epoch} batches, and trainer.val_check_interval is {every}; "
                f"set it to {epoch} or less, or monitor train/loss"
            )


def _monitors(trainer: Trainer) -> Iterator[tuple[str, str, bool]]:
    """Yield what waits for a value: its key, the name, and whether it can only be one of ours."""
    for callback in trainer.early_stopping_callbacks:
        if isinstance(callback, EarlyStopping) and callback.strict:
            yield "EarlyStopping.monitor", callback.monitor, True
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor is not None:
            yield "ModelCheckpoint.monitor", checkpoint.monitor, False
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.strict:
            yield "model.lr_scheduler: monitor", str(config.monitor), True


def _why_never(name: str, trainer: Trainer) -> str:
    """Return why a value of the validation is never logged, or ``""``."""
    if not name.startswith("val/"):
        return ""
    labels = data_of(trainer).labels
    rows = labels.rows("val")
    if not len(rows):
        return "there is no validation image (data.splits)"
    if not trainer.limit_val_batches:
        return "trainer.limit_val_batches is 0"
    for task, encoded in labels.encoded.items():
        measured = name.startswith(f"val/{task}/") and name != f"val/{task}/n_labelled"
        if measured and not encoded.labelled[rows].any():
            return f"task {task} has no label in val"
    return ""

"""Settings in a resumed training: the config's apply, whatever the checkpoint restores.

torch and Lightning restore state and settings of an optimizer, a schedule, a gradient scaler or a
callback in one. Our checkpoints also hold the initial settings of the training, so that a changed
setting can be distinguished from a rate that a schedule has moved.
"""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from torch.optim import Optimizer

from mtl_lightning.system.errors import UserError

SETTINGS = "settings"
"""The key of a checkpoint for the settings of optimizer and schedule."""

_OF_SCALER = ("growth_factor", "backoff_factor", "growth_interval")
_RATES = ("lr", "initial_lr")


def settings_of(
    optimizer: Optimizer, schedule: str | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a new optimizer, and the arguments of its schedule.

    Args:
        optimizer: The optimizer, with the initial rates of its schedule.
        schedule: The class of the schedule.
        arguments: Its arguments in the config; only plain values are kept.
    """
    return {
        "optimizer": class_name(optimizer),
        "groups": [_plain(group) for group in optimizer.param_groups],
        "schedule": schedule,
        "arguments": _plain(arguments),
    }


def class_name(instance: object) -> str:
    """Return the full name of the class of an object."""
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def keep_settings(checkpoint: dict[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Change a checkpoint, before it is restored, to the current settings of the optimizer.

    A rate that a schedule has moved keeps its ratio to the initial rate, which is the new one.

    Args:
        checkpoint: The checkpoint; ``optimizer_states`` and ``lr_schedulers`` are changed.
        now: The result of `settings_of` for the new optimizer and schedule.

    Returns:
        The changes, such as ``lr: 0.001 -> 0.5``.

    Raises:
        UserError: If the optimizer or the schedule is of another class.
    """
    before = checkpoint.get(SETTINGS)
    if before is None or "optimizer_states" not in checkpoint:
        return []  # of weights alone: Lightning says so
    _check_same(before, now)
    changes: dict[str, None] = {}
    schedules = checkpoint["lr_schedulers"]
    for state in checkpoint["optimizer_states"]:
        groups = state["param_groups"]
        if len(groups) != len(now["groups"]):
            return []  # torch reports it
        for group, old, new in zip(groups, before["groups"], now["groups"], strict=True):
            changes |= dict.fromkeys(_change(group, old, new, bool(schedules)))
        rates = [group["initial_lr"] for group in groups if "initial_lr" in group]
        if changes and rates:
            for schedule in schedules:
                _set_base_rates(schedule, rates)
    return list(changes)


def settings_of_trainer(trainer: Trainer) -> dict[str, Any]:
    """Return the settings of the trainer that decide about its steps."""
    return {
        "precision": str(trainer.precision),
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }


def changes_of_trainer(checkpoint: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the changed settings of the trainer, such as ``precision: 32-true -> bf16-mixed``.

    Args:
        checkpoint: The checkpoint that is resumed.
        now: The settings of this training.
    """
    before = checkpoint.get(SETTINGS, {}).get("trainer", {})
    own = now["trainer"]
    return [f"{k}: {v} -> {own[k]}" for k, v in before.items() if k in own and own[k] != v]


def check_balancing(checkpoint: Mapping[str, Any], method: str | None) -> None:
    """Refuse to resume with another method of balancing than that of a checkpoint.

    Its state, and the weights that it learns with the network, belong to the method.

    Args:
        checkpoint: The checkpoint that is resumed.
        method: The name of the method of this training, None without one.

    Raises:
        UserError: If it is not that of the checkpoint.
    """
    before = checkpoint.get("balancing", {}).get("method")
    if "optimizer_states" in checkpoint and before != method:
        raise UserError(
            f"model.balancing should be {before or 'null'}, as in the checkpoint. Found "
            f"{method or 'null'}; resume with the same method, or start a new training"
        )


def keep_settings_of_trainer(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Change a checkpoint, before it is restored, to the current settings of scaler and callbacks.

    Args:
        checkpoint: The checkpoint that Lightning is about to restore.
        trainer: The trainer, with the callbacks and the precision of the config.
    """
    plugin = trainer.precision_plugin
    scaler = getattr(plugin, "scaler", None)
    saved = checkpoint.get(type(plugin).__qualname__)
    if scaler is not None and saved:
        saved.update({k: v for k, v in scaler.state_dict().items() if k in _OF_SCALER})
    for callback in trainer.early_stopping_callbacks:
        state = checkpoint.get("callbacks", {}).get(callback.state_key, {})
        if "patience" in state:
            state["patience"] = callback.patience


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if before["optimizer"] != now["optimizer"]:
        raise UserError(
            f"model.optimizer should be {before['optimizer']}, whose state the checkpoint holds. "
            f"Found {now['optimizer']}; resume with the former, or start a new training with the "
            f"checkpoint as model.backbone.weights"
        )
    if any(before[key] != now[key] for key in ("schedule", "arguments")):
        raise UserError(
            f"model.lr_scheduler should be that of the checkpoint, {_schedule(before)}, which is "
            f"under way. Found {_schedule(now)}; resume with the former, or start a new training "
            f"with the checkpoint as model.backbone.weights"
        )


def _schedule(settings: Mapping[str, Any]) -> str:
    if settings["schedule"] is None:
        return "null"
    arguments = ", ".join(f"{name}={value}" for name, value in settings["arguments"].items())
    return f"{settings['schedule']}({arguments})"


def _change(
    group: dict[str, Any], old: Mapping[str, Any], new: Mapping[str, Any], scheduled: bool
) -> list[str]:
    """Update the differing settings in a group of an optimizer's state; return them."""
    changed = [key for key in new if key in old and key not in _RATES and old[key] != new[key]]
    changes = [f"{key}: {_shown(old[key])} -> {_shown(new[key])}" for key in changed]
    group.update({key: new[key] for key in changed})
    rate = "initial_lr" if "initial_lr" in new else "lr"
    first, wanted = old.get(rate), new.get(rate)  # neither is a number if the rate is a tensor
    if first is not None and wanted is not None and first != wanted:
        changes.insert(0, f"lr: {_shown(first)} -> {_shown(wanted)}")
        group["lr"] = group["lr"] * wanted / first if scheduled and first else wanted
        group[rate] = wanted if rate == "initial_lr" else group["lr"]
    return changes


def _set_base_rates(schedule: dict[str, Any], rates: list[float]) -> None:
    if "base_lrs" in schedule:
        schedule["base_lrs"] = list(rates)
    for part in schedule.get("_schedulers", ()):  # of ChainedScheduler and SequentialLR
        _set_base_rates(part, rates)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a checkpoint can hold and that can be compared."""
    return {key: value for key, value in values.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value)) and not hasattr(value, "_fields")
    return value is None or type(value) in (bool, int, float, str)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

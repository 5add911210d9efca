"""Learning-rate schedules from a config, with the lengths that only the trainer knows."""

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LRSchedulerCallable
from pytorch_lightning.utilities.types import LRSchedulerConfigType
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from mtl_lightning.system.errors import UserError

WHOLE_RUN = -1
"""The value of a length that means "as long as the training"."""

LENGTHS = ("total_steps", "T_max")
"""The arguments of torch's schedulers that give the length of the whole schedule."""


class WarmupCosine(LambdaLR):
    """A linear warm-up, then a half cosine down: torch has both, but no config can join them.

    The second part is SGDR's single cycle (Loshchilov & Hutter 2017, eq. 5).

    Args:
        optimizer: The optimizer, whose rates are the peak.
        warmup: Share of the steps in which the rate rises from nearly 0.
        floor: The last rate as a share of the peak.
        total_steps: Number of optimizer steps; -1 for the whole run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: float = 0.05,
        floor: float = 0.0,
        total_steps: int = WHOLE_RUN,
    ) -> None:
        for name, share in (("warmup", warmup), ("floor", floor)):
            if not 0 <= share < 1:
                raise UserError(
                    f"WarmupCosine: {name} should be in 0..1 (1 excluded). Found {share}"
                )
        self.total_steps = total_steps
        rising = round(warmup * total_steps)

        def scale(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            falling = (step - rising) / max(total_steps - rising, 1)
            return floor + (1 - floor) * (1 + math.cos(math.pi * min(falling, 1.0))) / 2

        super().__init__(optimizer, scale)


def fill_lengths(entry: Any) -> Any:
    """Return a scheduler of a config with `WHOLE_RUN` for a length that it needs but does not set.

    An invalid entry is returned unchanged: checking the config reports it.

    Args:
        entry: The name of a class, or its ``class_path`` and ``init_args``.

    Raises:
        UserError: If OneCycleLR lacks its peak rate, which has no default.
    """
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_path"), str):
        return entry
    name = entry["class_path"].rpartition(".")[2]
    scheduler = getattr(lr_scheduler, name, None)
    arguments = entry.get("init_args") or {}
    if not (
        inspect.isclass(scheduler)
        and issubclass(scheduler, LRScheduler)
        and isinstance(arguments, Mapping)
    ):
        return entry
    filled = dict(arguments)
    for length in LENGTHS:
        if length in inspect.signature(scheduler).parameters and filled.get(length) is None:
            filled[length] = WHOLE_RUN
    if scheduler is OneCycleLR:
        if filled.get("epochs") is not None:
            del filled["total_steps"]
        if "max_lr" not in filled:
            raise UserError(
                "model.lr_scheduler: OneCycleLR needs max_lr, the highest learning rate"
            )
    return {**entry, "init_args": filled}


def configure_scheduler(
    make: LRSchedulerCallable, optimizer: Optimizer, trainer: Trainer
) -> LRSchedulerConfigType:
    """Build the scheduler; a length that is not set is the number of steps of the run.

    Schedules of that length, and ``OneCycleLR`` always, change each step; the others each epoch, as
    in Lightning. ``OneCycleLR``'s peak keeps the ratio of the groups' rates.
    """
    kind, given = _inspected(make)
    known = inspect.signature(kind).parameters if kind is not None else {}
    open_ = [n for n in LENGTHS if n in known and given.get(n) in (None, WHOLE_RUN)]
    if given.get("epochs") is not None:  # OneCycleLR's other argument for its length
        open_ = [length for length in open_ if length != "total_steps"]
    steps = trainer.estimated_stepping_batches if open_ else 0
    if steps == math.inf:
        raise UserError(
            f"model.lr_scheduler: {kind.__name__ if kind else 'it'} needs {open_[0]}, because this "
            f"training has no end of its own; give it, or trainer.max_epochs"
        )
    filled: dict[str, Any] = dict.fromkeys(open_, int(steps))
    if kind is OneCycleLR and isinstance(given.get("max_lr"), float):
        base = optimizer.param_groups[0]["lr"]
        filled["max_lr"] = [given["max_lr"] * g["lr"] / base for g in optimizer.param_groups]
    scheduler = make(optimizer, **filled)
    each_step = bool(filled) or isinstance(scheduler, OneCycleLR)
    config = LRSchedulerConfigType(scheduler=scheduler, interval="step" if each_step else "epoch")
    if isinstance(scheduler, ReduceLROnPlateau):
        config["monitor"] = monitor = getattr(scheduler, "monitor", "val/loss")
        if monitor.startswith("val/"):  # between two validations there is nothing new to read
            config["frequency"] = trainer.check_val_every_n_epoch or 1
    return config


def check_length(trainer: Trainer) -> None:
    """Refuse to continue a schedule that was made for another length of training.

    A checkpoint restores the length; a longer training would step past its end (OneCycleLR raises
    an error there) or raise the rate again (cosine), weeks after it started.

    Raises:
        UserError: If a restored schedule has the length of another training.
    """
    steps = trainer.estimated_stepping_batches
    if steps == math.inf:  # only a callback or a time limit ends it
        return
    for config in trainer.lr_scheduler_configs:
        for length in LENGTHS:
            planned = getattr(config.scheduler, length, None)
            if config.interval == "step" and planned is not None and planned < steps:
                raise UserError(
                    f"model.lr_scheduler: {type(config.scheduler).__name__} was made for {planned} "
                    f"steps, this training has {steps}; resume with the trainer.max_epochs that it "
                    f"began with, or start a new training"
                )


def given_arguments(make: LRSchedulerCallable) -> dict[str, Any]:
    """Return the arguments that a config gives a scheduler, without lengths that are left out."""
    return {name: value for name, value in _inspected(make)[1].items() if value != WHOLE_RUN}


def _inspected(make: LRSchedulerCallable) -> tuple[type | None, dict[str, Any]]:
    """Return the class behind a partial (jsonargparse's or the user's), and its arguments."""
    if not isinstance(make, functools.partial):
        return None, {}
    candidates = [make.func, *make.args]
    kind = next((c for c in candidates if inspect.isclass(c) and issubclass(c, LRScheduler)), None)
    return kind, dict(make.keywords)

"""The keys of a config: their types, defaults and checks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer

import mtl_lightning.callbacks  # noqa: F401 - short names are those of imported classes
from mtl_lightning.balancing.arguments import check_method
from mtl_lightning.commands import keys
from mtl_lightning.config import checks
from mtl_lightning.config.values import display
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources import Source
from mtl_lightning.inputs import Input
from mtl_lightning.models import Backbone
from mtl_lightning.system.errors import UserError, listed, quoted
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.calibration import check_coverage
from mtl_lightning.training.module import MultiTask

DEFAULTS = {
    "model": {
        "backbone": {"class_path": "VGG16"},
        "sharing": {"class_path": "Hard"},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
    }
}
"""Written out, so that the saved config contains what was used.

They are merged below the config here and are not defaults of the parser, because jsonargparse would
pass AdamW's weight decay to an SGD that the config names instead.
"""

RESERVED = ("image", "loss", "score")
"""Names that no task can have, since they are columns and metrics."""


@dataclass
class CheckpointOptions:
    """How ``best.ckpt`` is chosen, and how often ``last.ckpt`` is written.

    Args:
        monitor: The logged name by which the best is chosen.
        mode: ``max`` if higher is better.
        every_n_train_steps: Write ``last.ckpt`` every so many optimizer steps, not only after
            each epoch.
        train_time_interval: Also write it whenever this much time has passed: ``00:30:00``.
        per_task: Also keep ``best-<task>.ckpt``, the best by each task's own score.
        smooth: Choose by a moving average over validations, in which the average so far has this
            share: 0 (the last value alone) to 0.9.

    Raises:
        UserError: If an interval is not above 0, or ``smooth`` out of range.
    """

    monitor: str = "val/score"
    mode: Literal["max", "min"] = "max"
    every_n_train_steps: int | None = None
    train_time_interval: timedelta | None = None
    per_task: bool = False
    smooth: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("every_n_train_steps", 1), ("train_time_interval", timedelta(0))):
            value = getattr(self, name)
            if value is not None and (value < least or not value):
                raise UserError(f"checkpoint.{name} should be above 0. Found {value}")
        if not 0 <= self.smooth <= 0.9:
            raise UserError(
                f"checkpoint.smooth should be in 0..0.9: above, the first validations count for "
                f"too long. Found {self.smooth}"
            )


@dataclass
class CalibrationOptions:
    """Whether answers are calibrated on the labels of ``val``.

    Args:
        enabled: Whether ``fit`` calibrates the tasks, and whether the other commands use the
            calibration of a checkpoint.
        coverage: The share of labels that a set of classes, or an interval of numbers, should hold.

    Raises:
        UserError: If the coverage is out of range.
    """

    enabled: bool = True
    coverage: float = 0.9

    def __post_init__(self) -> None:
        check_coverage(self.coverage)


SECTIONS: dict[str, Any] = dict(
    zip(
        keys.SECTIONS,
        (dict[str, Task], MultiTask, PartialLabels, Trainer, CheckpointOptions, CalibrationOptions),
        strict=True,
    )
)
SCALARS: dict[str, Any] = {
    "seed_everything": bool | int,
    "name": str,
    "ckpt_path": str | None,
    "weights_only": bool | None,
    "report": bool,
    "verbose": bool,
    "bootstrap": int,
    "importance": int,
    "images": str | None,
    "output": str,
    "resume": bool,
    "allow_outside_root": bool,
    "intensity": Intensity | None,
    "return_predictions": bool | None,
}
"""The types of all other keys, see `keys`."""
LINKED = {"model": ("tasks", "image_size", "inputs"), "data": ("tasks",)}
"""Arguments of a section that come from other keys."""
TRAINING_ONLY = (
    ("model", "optimizer"),
    ("model", "lr_scheduler"),
    ("model", "unlabelled"),
    ("data", "augmentation"),
    ("data", "mirror"),
    ("data", "augment_on"),
    ("data", "sampling"),
)
"""Keys that only training reads."""
BALANCING = ("balancing", "gradients", "balance_every_n_steps")
"""Keys of the model that only training reads, and that only make sense together."""


def get(config: Mapping[str, Any], *keys: str) -> Any:
    """Return the value under nested keys, None if there is none."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def check_keys(command: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the top-level keys of a config, and that sections are sections.

    Returns:
        The config, with its top-level scalars read.

    Raises:
        UserError: For the first that is wrong.
    """
    keys.check_names(command, config)
    return {
        key: value
        if key in SECTIONS or value is None
        else checks.check_value(SCALARS[key], value, key)
        for key, value in config.items()
    }


def check_sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check every name and value in the sections of a config.

    Returns:
        The config, with its scalars read.

    Raises:
        UserError: For the first that is wrong.
    """
    checked = {**config, "tasks": check_tasks(config["tasks"])}
    for key, target in SECTIONS.items():
        if key in config and key != "tasks":
            linked = LINKED.get(key, ())
            checked[key] = checks.check_arguments(target, config[key], key, linked, owner=key)
    checks.try_record(CheckpointOptions, checked.get("checkpoint") or {})
    checks.try_record(CalibrationOptions, checked.get("calibration") or {})
    for name, entry in (get(checked, "data", "sources") or {}).items():
        checks.try_build(Source, entry, f"data.sources.{name}")
    for name, entry in (get(checked, "data", "inputs") or {}).items():
        checks.try_build(Input, entry, f"data.inputs.{name}")
    backbone = get(checked, "model", "backbone")
    if backbone is not None:
        with torch.device("meta"):  # its weights would take seconds
            checks.try_build(Backbone, backbone, "model.backbone")
    if get(checked, "model", "balancing") is not None:
        check_method(checked["model"], list(checked["tasks"]))
    return checked


def check_tasks(tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Check the tasks and their names, and return them with their scalars read.

    Raises:
        UserError: For the first that is wrong.
    """
    if not tasks or "class_path" in tasks or "init_args" in tasks:
        raise UserError(
            "tasks should be at least one entry with a name, "
            "`NAME: {class_path: Classification}`. Found " + display(dict(tasks))
        )
    checked = {}
    for name, entry in tasks.items():
        if not re.fullmatch(r"[\w-]+", name) or name in RESERVED:
            raise UserError(
                f"tasks: the name of a task should be letters, digits, _ and -, and not "
                f"{listed(RESERVED)}, which are columns and metrics of their own. "
                f"Found {quoted(name)}"
            )
        checked[name] = checks.check_component((Task,), entry, f"tasks.{name}")
        checks.try_build(Task, checked[name], f"tasks.{name}")
    return checked
